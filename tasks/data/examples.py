"""Rows of a split as batches: read each row, leave out unreadable rows, collate."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from tasks.data.batches import Draw

logger = logging.getLogger(__name__)

Batch = dict[str, Any]
OnBad = Literal["error", "skip"]

_CHUNK = 256
# Skipped rows that are logged one by one; the rest are only counted.
MOST_LOGGED = 10


class ReadError(ValueError):
    """A row of the data that cannot be read: a broken image, a truncated recording.

    A loader's worker process passes an error on as its whole traceback; only the last paragraph of it is stored here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("ReadError: ")[2].strip())


def report_unreadable(
    fault: str, on_bad: OnBad, remedy: str, num_reported: int, error: ReadError | None = None
) -> None:
    """Raise a `ReadError` at an unreadable row, or log it where such rows are skipped and few were logged before."""
    if on_bad == "error":
        raise ReadError(f"{fault}. {remedy}") from error
    if num_reported < MOST_LOGGED:
        logger.warning("skipped: %s", fault)


@dataclass(frozen=True)
class Split:
    """Rows of a data set that serve one purpose.

    Args:
        name: Its name in messages.
        rows: The rows, with the needed columns.
        numbers: (N,) number of each row in the data set's own split.
    """

    name: str
    rows: datasets.Dataset
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(eq=False)
class Examples(Dataset[Batch]):
    """A split, read a batch at a time: `examples[Draw(epoch, positions)]` is a collated batch.

    Args:
        split: The rows.
        read: Turns a row into an example, or raises `ReadError`. It must not use random numbers.
        collate: Turns (examples, their row numbers, epoch) into a batch. Random numbers depend on these three alone.
        on_bad: "error" raises at an unreadable row. "skip" puts the next readable row of the split in its place, so
            that batches stay equal on every rank; where no row may count twice (evaluation), `remove_unreadable` first.
        remedy: The remedy of an unreadable row, for messages.
    """

    split: Split
    read: Callable[[dict[str, Any]], Any]
    collate: Callable[[list[Any], np.ndarray, int], Batch]
    _: KW_ONLY
    on_bad: OnBad = "error"
    remedy: str = "Repair or remove it"

    def __post_init__(self) -> None:
        self.positions = np.arange(len(self.split))
        # Shared memory: workers mark unreadable rows, and the main process counts them. Threads mark them, too, which
        # are not in the inference mode in which a loader may be made.
        with torch.inference_mode(False):
            self.unreadable = torch.zeros(
                len(self.split) if self.on_bad == "skip" else 0, dtype=torch.bool
            ).share_memory_()

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def skipped(self) -> list[int]:
        """Numbers of the rows that were unreadable so far."""
        return [int(self.split.numbers[i]) for i in self.unreadable.nonzero().flatten().tolist()]

    def remove_unreadable(self, num_threads: int = 1) -> None:
        """Read every row once and leave out those that cannot be read."""
        self.keep(np.array([example is not None for example in self.read_each(num_threads)]))

    def leave_out(self, faults: Mapping[int, str], numbers: np.ndarray | None = None) -> None:
        """Leave out rows that are known to be unreadable, before any other is left out; or raise a `ReadError`.

        Args:
            faults: Errors by the places of the rows in the split.
            numbers: (N,) numbers of all rows in messages; by default their own.
        """
        numbers = self.split.numbers if numbers is None else numbers
        for count, place in enumerate(sorted(faults)):
            fault = f"{self.split.name}, row {numbers[place]}: {faults[place]}"
            report_unreadable(fault, self.on_bad, self.remedy, count)
        if faults:
            good = np.ones(len(self.split), dtype=bool)
            good[list(faults)] = False
            self.unreadable[torch.from_numpy(~good)] = True
            self.keep(good)

    def keep(self, good: np.ndarray) -> None:
        """Leave out the rows whose place in `good` (N,) is False; a `ReadError` if none is left."""
        self.positions = self.positions[good]
        if len(self) == 0:
            raise self._none_readable()

    def _none_readable(self) -> ReadError:
        return ReadError(f"{self.split.name}: none of its {len(self.split)} rows can be read")

    def read_each(self, num_threads: int = 1) -> Iterator[Any | None]:
        """Examples of all rows in order, read by several threads; None for unreadable rows that are skipped."""
        places = range(len(self.split))
        with ThreadPoolExecutor(num_threads) as pool:
            for start in range(0, len(places), _CHUNK):
                chunk = places[start : start + _CHUNK]
                rows = self.split.rows.__getitems__(list(chunk))
                yield from (
                    pool.map(self._read_row, rows, chunk) if num_threads > 1 else map(self._read_row, rows, chunk)
                )

    def _read_row(self, row: dict[str, Any], position: int) -> Any | None:
        try:
            return self.read(row)
        except ReadError as error:
            if self.on_bad == "error" or not self.unreadable[position]:
                fault = f"{self.split.name}, row {self.split.numbers[position]}: {error}"
                report_unreadable(fault, self.on_bad, self.remedy, int(self.unreadable.sum()), error)
                self.unreadable[position] = True
            return None

    def others(self, position: int) -> Iterator[int]:
        """Rows that may replace an unreadable one, in order of preference: those that follow it in the split."""
        return ((position + step) % len(self.split) for step in range(1, len(self.split)))

    def _replacement(self, position: int) -> tuple[int, Any]:
        for other in self.others(position):
            if not self.unreadable[other] and (example := self._read_row(self.split.rows[other], other)) is not None:
                return other, example
        raise self._none_readable()

    def __getitem__(self, draw: Draw | Sequence[int] | int) -> Batch:
        if isinstance(draw, int):
            draw = [draw]
        # Lightning's overfit_batches replaces the sampler by plain positions.
        epoch, places = draw if isinstance(draw, Draw) else (0, list(draw))
        return self.batch(self.positions[places], epoch)

    __getitems__ = __getitem__

    def batch(self, positions: np.ndarray, epoch: int) -> Batch:
        """The collated batch of some places of the split."""
        examples = []
        rows = self.split.rows.__getitems__(positions.tolist())
        for i, (position, row) in enumerate(zip(positions.tolist(), rows)):
            example = self._read_row(row, position)
            if example is None:
                positions[i], example = self._replacement(position)
            examples.append(example)
        return self.collate(examples, self.split.numbers[positions], epoch)
