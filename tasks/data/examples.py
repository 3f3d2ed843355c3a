"""Rows of a split as batches: read each row, leave out what cannot be read, collate."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
# Skipped rows that are told one by one; the rest are only counted.
MOST_TOLD = 10


class ReadError(ValueError):
    """A row of the data that cannot be read: a broken picture, a cut-off recording.

    A loader's worker process hands an error on as its whole traceback; the message here is its last paragraph alone.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("ReadError: ")[2].strip())


@dataclass(frozen=True)
class Split:
    """Rows of a data set that serve one purpose.

    Args:
        name: what to call it in messages.
        rows: the rows, of the columns that are needed.
        numbers: (N,) number of each row in the data set's own split.
    """

    name: str
    rows: datasets.Dataset
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)


class Examples(Dataset[Batch]):
    """A split, read a batch at a time: `examples[Draw(epoch, positions)]` is a collated batch.

    Args:
        split: the rows.
        read: one row as an example; raises `ReadError` where it cannot. It must not use random numbers.
        collate: (examples, their row numbers, epoch) to a batch. Random numbers come from these three alone.
        on_bad: "error" raises at an unreadable row. "skip" puts the next readable row of the split in its place, so
            that batches stay equal on every rank; where no row may count twice (evaluation), `remove_unreadable` first.
    """

    def __init__(
        self,
        split: Split,
        read: Callable[[dict[str, Any]], Any],
        collate: Callable[[list[Any], np.ndarray, int], Batch],
        *,
        on_bad: OnBad = "error",
        remedy: str = "Repair or remove it",
    ) -> None:
        self.split = split
        self.read = read
        self.collate = collate
        self.on_bad = on_bad
        self.remedy = remedy
        self.positions = np.arange(len(split))
        # Shared memory: workers mark the rows that they could not read, the main process counts them. Threads do
        # so, too, and do not share the inference mode in which a loader may be made.
        with torch.inference_mode(False):
            self.unreadable = torch.zeros(len(split) if on_bad == "skip" else 0, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def skipped(self) -> list[int]:
        """Row numbers that could not be read so far."""
        return [int(self.split.numbers[i]) for i in self.unreadable.nonzero().flatten().tolist()]

    def remove_unreadable(self, num_threads: int = 1) -> None:
        """Read every row once and leave out those that cannot be read."""
        self.keep(np.array([example is not None for example in self.read_each(num_threads)]))

    def leave_out(self, faults: Mapping[int, str], numbers: np.ndarray | None = None) -> None:
        """Leave out rows of which it is known that they cannot be read, before any other is left out.

        Args:
            faults: what is wrong with each, by its place in the split.
            numbers: (N,) what messages call the rows; by default their own numbers.

        Raises:
            ReadError: there are such rows and `on_bad` is "error", or there are no others.
        """
        numbers = self.split.numbers if numbers is None else numbers
        places = sorted(faults)
        for place in places[: 1 if self.on_bad == "error" else MOST_TOLD]:
            message = f"{self.split.name}, row {numbers[place]}: {faults[place]}"
            if self.on_bad == "error":
                raise ReadError(f"{message}. {self.remedy}")
            logger.warning("skipped: %s", message)
        if places:
            good = np.ones(len(self.split), dtype=bool)
            good[places] = False
            self.unreadable[torch.from_numpy(~good)] = True
            self.keep(good)

    def keep(self, good: np.ndarray) -> None:
        """Leave out the rows whose place in `good` (N,) is False.

        Raises:
            ReadError: no row is left.
        """
        self.positions = self.positions[good]
        if len(self) == 0:
            raise ReadError(f"{self.split.name}: none of its {len(self.split)} rows can be read")

    def read_each(self, num_threads: int = 1) -> Iterator[Any | None]:
        """Examples of all rows in order; None for those that cannot be read and are to be skipped.

        Args:
            num_threads: readers at a time. Decoders of large pictures or recordings run side by side.

        Raises:
            ReadError: a row cannot be read and `on_bad` is "error".
        """
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
            message = f"{self.split.name}, row {self.split.numbers[position]}: {error}"
            if self.on_bad == "error":
                raise ReadError(f"{message}. {self.remedy}") from error
            if not self.unreadable[position]:
                self.unreadable[position] = True
                if self.unreadable.sum() <= MOST_TOLD:
                    logger.warning("skipped: %s", message)
            return None

    def others(self, position: int) -> Iterator[int]:
        """Rows to take the place of one that cannot be read, in their order: those that follow it in the split."""
        return ((position + step) % len(self.split) for step in range(1, len(self.split)))

    def _another(self, position: int) -> tuple[int, Any]:
        for other in self.others(position):
            if self.unreadable[other]:
                continue
            example = self._read_row(self.split.rows[other], other)
            if example is not None:
                return other, example
        raise ReadError(f"{self.split.name}: none of its {len(self.split)} rows can be read")

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
                positions[i], example = self._another(position)
            examples.append(example)
        return self.collate(examples, self.split.numbers[positions], epoch)
