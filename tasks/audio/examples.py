"""Rows of sounds as batches: decoded, padded with zeros; and splits of them whose lengths are known beforehand.

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
    """A row as its waveform (T,).

    Args:
        column: The column of the recordings.
        processor: Reads them.
        folder: What relative file names are relative to.
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
        """The file of the recording of a row; empty where the row does not name it."""
        return file_of(row[self.column], self.folder)


class LabelledRecordingReader:
    """A row as its sound and its class number or numbers.

    Args:
        sound: Reads the sound.
        labels: How the label column is read.
    """

    def __init__(self, sound: RecordingReader, labels: Labels) -> None:
        self.sound = sound
        self.labels = labels

    def __call__(self, row: dict[str, Any]) -> tuple[Tensor, Any]:
        """Read a row; the label first, as that takes no time.

        Raises:
            ReadError: Its sound cannot be read, or its label is no class.
        """
        label = self.labels.encode_row(row[self.labels.column])
        return self.sound(row), label


class LabelledRecordingCollator:
    """Sounds and class numbers as a batch: wave (B, T), length (B,), label and index (B,).

    Args:
        labels: Gives the targets: (B,) int64, or (B, K) float32 where a row has several.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def __call__(self, examples: list[tuple[Tensor, Any]], rows: np.ndarray, epoch: int) -> Batch:
        """Examples of `LabelledRecordingReader` and their row numbers to a batch."""
        sounds, labels = zip(*examples)
        return {**pad_waveforms(sounds), "label": self.labels.targets(labels), "index": torch.from_numpy(rows)}


class RecordingExamples(Examples):
    """Sounds of known lengths; those whose rows are known to be bad are found at once, not when they are read.

    Args:
        split: The rows.
        read: As in `Examples`.
        collate: As in `Examples`.
        seconds: (N,) their lengths.
        faults: What is wrong with rows, by their place in the split.
        on_bad: "error" raises at the first row that is bad, "skip" leaves such rows out.
        remedy: As in `Examples`.

    Raises:
        ReadError: A row is bad and `on_bad` is "error", or none is good.
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
        """(N,) lengths of the sounds that are read."""
        return self._seconds[self.positions]

    def others(self, position: int) -> Iterator[int]:
        """Rows to take the place of one: those that are not longer first, so that a batch stays within its limit."""
        found = np.array(list(super().others(position)), dtype=int)
        seconds = self._seconds[found]
        longer = seconds > self._seconds[position]
        yield from np.concatenate([found[~longer], found[longer][np.argsort(seconds[longer], kind="stable")]]).tolist()

    def remove_unreadable(self, num_threads: int = 1) -> None:
        """Decode each sound that is left once, and leave out those that cannot be read.

        Args:
            num_threads: Sounds in memory at a time; they may last hours.
        """
        with ThreadPoolExecutor(num_threads) as pool:
            self.keep(np.array(list(pool.map(self._can_be_read, self.positions.tolist()))))

    def _can_be_read(self, position: int) -> bool:
        return self._read_row(self.split.rows[position], position) is not None
