"""Readers and batches of recordings, and splits of recordings whose lengths are known.

Letters: B batch, T samples, N rows, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.audio.processor import AudioProcessor, pad_waveforms
from tasks.audio.reading.waveforms import file_of
from tasks.data.examples import Batch, Examples, OnBad, Split
from tasks.data.labels import Labels


@dataclass(frozen=True)
class RecordingReader:
    """Reads the waveform (T,) of a row, or raises `ReadError`.

    Args:
        column: Column of the recordings.
        processor: Reads the recordings.
        folder: Folder that relative file names start from.
        shortest: Minimum length of a recording in seconds.
    """

    column: str
    processor: AudioProcessor
    folder: Path = Path()
    shortest: float = 0.0

    def __call__(self, row: dict[str, Any]) -> Tensor:
        """Read a row."""
        return self.processor.read(row[self.column], self.folder, shortest=self.shortest)

    def file(self, row: dict[str, Any]) -> str:
        """The file name of the recording of a row; empty if the row does not have it."""
        return file_of(row[self.column], self.folder)


@dataclass(frozen=True)
class LabelledRecordingReader:
    """Reads the waveform (T,) and the class number or numbers of a row, or raises `ReadError`."""

    recording: RecordingReader
    labels: Labels

    def __call__(self, row: dict[str, Any]) -> tuple[Tensor, Any]:
        """Read a row."""
        label = self.labels.encode_row(row[self.labels.column])  # first, because it takes no time
        return self.recording(row), label


def labelled_batch(examples: list[tuple[Tensor, Any]], rows: np.ndarray, epoch: int, *, labels: Labels) -> Batch:
    """Collate examples of `LabelledRecordingReader`: wave (B, T), length (B,), label (B,) or (B, K), index (B,)."""
    waves, numbers = zip(*examples)
    return {**pad_waveforms(waves), "label": labels.targets(numbers), "index": torch.from_numpy(rows)}


def file_batch(examples: list[Tensor], rows: np.ndarray, epoch: int, *, files: list[str]) -> Batch:
    """Collate waveforms (T,) of files: wave (B, T), length (B,), file, the list of names, and index (B,)."""
    names = [files[row] for row in rows.tolist()]
    return {**pad_waveforms(examples), "file": names, "index": torch.from_numpy(rows)}


class RecordingExamples(Examples):
    """Recordings of known lengths, without those whose headers are bad.

    Args:
        split: The rows.
        read: As in `Examples`.
        collate: As in `Examples`.
        seconds: (N,) lengths of the recordings.
        faults: Faults of bad rows, by their position in the split.
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
        """(N,) lengths of the remaining recordings."""
        return self._seconds[self.positions]

    def others(self, position: int) -> Iterator[int]:
        """Rows to replace a bad one: first those that are not longer, so that a batch stays within max_seconds."""
        found = np.array(list(super().others(position)), dtype=int)
        seconds = self._seconds[found]
        longer = seconds > self._seconds[position]
        yield from np.concatenate([found[~longer], found[longer][np.argsort(seconds[longer], kind="stable")]]).tolist()

    def remove_unreadable(self, num_threads: int = 1) -> None:
        """Read each remaining recording once, and leave out the unreadable ones.

        A recording may last hours, so that only `num_threads` are in memory at a time.
        """

        def readable(position: int) -> bool:
            return self._read_row(self.split.rows[position], position) is not None

        with ThreadPoolExecutor(num_threads) as pool:
            self.keep(np.array(list(pool.map(readable, self.positions.tolist()))))
