"""Readers and collators of recordings, and splits of recordings whose lengths are known.

Letters: B batch, T samples, N rows, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.audio.processor import AudioProcessor, pad_waveforms
from tasks.audio.reading.waveforms import file_of
from tasks.data.examples import Batch, Examples, OnBad, Split
from tasks.data.labels import Labels


class RecordingReader:
    """Reads the waveform (T,) of a row.

    Args:
        column: Column of the recordings.
        processor: Reads the recordings.
        folder: Folder that relative file names start from.
        shortest: Minimum length of a recording in seconds.
    """

    def __init__(self, column: str, processor: AudioProcessor, *, folder: Path = Path(), shortest: float = 0.0) -> None:
        self.column = column
        self.processor = processor
        self.folder = folder
        self.shortest = shortest

    def __call__(self, row: dict[str, Any]) -> Tensor:
        """The waveform of a row.

        Raises:
            ReadError: The recording cannot be read, or is not fit for training.
        """
        return self.processor.read(row[self.column], self.folder, shortest=self.shortest)

    def file(self, row: dict[str, Any]) -> str:
        """The file name of the recording of a row; empty where the row does not have it."""
        return file_of(row[self.column], self.folder)


class LabelledRecordingReader:
    """Reads the waveform (T,) of a row, and its class number or numbers.

    Args:
        recording: Reads the recording.
        labels: Encodes the label.
    """

    def __init__(self, recording: RecordingReader, labels: Labels) -> None:
        self.recording = recording
        self.labels = labels

    def __call__(self, row: dict[str, Any]) -> tuple[Tensor, Any]:
        """Read a row, beginning with the label, which is cheap to reject.

        Raises:
            ReadError: The recording cannot be read, or the label is not a class.
        """
        label = self.labels.encode_row(row[self.labels.column])
        return self.recording(row), label


class LabelledRecordingCollator:
    """Collates recordings and class numbers: wave (B, T), length (B,), label, and index (B,).

    Args:
        labels: Makes the targets: (B,) int64, or (B, K) float32 where a row has several labels.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __call__(self, examples: list[tuple[Tensor, Any]], rows: np.ndarray, epoch: int) -> Batch:
        """A batch of examples of `LabelledRecordingReader` and their row numbers."""
        waves, labels = zip(*examples)
        return {**pad_waveforms(waves), "label": self.labels.targets(labels), "index": torch.from_numpy(rows)}


class RecordingExamples(Examples):
    """Recordings of known lengths, without those that their headers already show to be bad.

    Args:
        split: The rows.
        read: As in `Examples`.
        collate: As in `Examples`.
        seconds: (N,) lengths of the recordings.
        faults: Faults of bad rows, by their place in the split.
        on_bad: At a bad row, "error" raises; "skip" leaves it out.
        remedy: As in `Examples`.

    Raises:
        ReadError: A row is bad and `on_bad` is "error", or all rows are bad.
    """

    def __init__(
        self,
        split: Split,
        read: Callable[[dict[str, Any]], Any],
        collate: Callable[[list[Any], np.ndarray, int], Batch],
        seconds: np.ndarray,
        faults: Mapping[int, str],
        *,
        on_bad: OnBad,
        remedy: str,
    ) -> None:
        super().__init__(split, read, collate, on_bad=on_bad, remedy=remedy)
        self._seconds = seconds
        self.leave_out(faults)

    @property
    def seconds(self) -> np.ndarray:
        """(N,) lengths of the recordings that are left."""
        return self._seconds[self.positions]

    def others(self, position: int) -> Iterator[int]:
        """Rows to replace a bad one: first those that are not longer, so that a batch stays within max_seconds."""
        found = np.array(list(super().others(position)), dtype=int)
        seconds = self._seconds[found]
        longer = seconds > self._seconds[position]
        yield from np.concatenate([found[~longer], found[longer][np.argsort(seconds[longer], kind="stable")]]).tolist()

    def remove_unreadable(self, num_threads: int = 1) -> None:
        """Read each recording that is left once, and leave out those that cannot be read.

        Args:
            num_threads: Number of recordings in memory at a time; a recording may last hours.
        """
        with ThreadPoolExecutor(num_threads) as pool:
            self.keep(np.array(list(pool.map(self._can_be_read, self.positions.tolist()))))

    def _can_be_read(self, position: int) -> bool:
        return self._read_row(self.split.rows[position], position) is not None
