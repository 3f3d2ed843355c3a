"""A streamed split as batches: shuffled through a buffer, shared out to ranks and workers.

A stream repeats its order from (seed, epoch) with the same number of ranks and workers. A run that was interrupted
goes on with the rows that were left, which are read but not decoded up to there. Two things are not repeated exactly:
the last rows of an epoch where several workers run out of rows at different times, and rows after unreadable ones.
"""

from collections.abc import Callable, Iterator
from typing import Any

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset, get_worker_info

from tasks.data.batches import mix
from tasks.data.examples import MOST_TOLD, Batch, OnBad, ReadError, logger


class StreamExamples(IterableDataset[Batch]):
    """Collated batches of a streamed split.

    Args:
        name: what to call the split in messages.
        stream: the rows.
        read: one row as an example; raises `ReadError` where it cannot.
        collate: (examples, their numbers, epoch) to a batch.
        batch_size: rows in a batch.
        on_bad: at an unreadable row, "error" raises, "skip" takes the next row of the stream.
        rank: this process among `num_replicas`.
        num_replicas: processes that share the stream.
        shuffle: (seed, rows in the buffer); None keeps the stream's order.
        full_batches: leave out the rows after the last full batch.
        endless: begin again at the end with another order, so that no rank runs out before the others.
    """

    def __init__(
        self,
        name: str,
        stream: datasets.IterableDataset,
        read: Callable[[dict[str, Any]], Any],
        collate: Callable[[list[Any], np.ndarray, int], Batch],
        *,
        batch_size: int,
        on_bad: OnBad = "error",
        remedy: str = "Repair or remove it",
        rank: int = 0,
        num_replicas: int = 1,
        shuffle: tuple[int, int] | None = None,
        full_batches: bool = False,
        endless: bool = False,
    ) -> None:
        self.name = name
        self.stream = stream
        self.read = read
        self.collate = collate
        self.batch_size = batch_size
        self.on_bad = on_bad
        self.remedy = remedy
        self.rank = rank
        self.num_replicas = num_replicas
        self.shuffle = shuffle
        self.full_batches = full_batches
        self.endless = endless
        # Shared memory, so that persistent workers see a new epoch: epoch, batches to leave out, rows not readable.
        self.place = torch.zeros(3, dtype=torch.int64).share_memory_()

    def set_place(self, epoch: int, start: int) -> None:
        """Choose the epoch of the next pass and how many of its batches were done before (-1: all)."""
        self.place[:2] = torch.tensor([epoch, start])

    @property
    def most_workers(self) -> int:
        """How many workers find rows: one for each file, or part of a file, of this process's share."""
        shards = self.stream.num_shards
        return shards // self.num_replicas if shards % self.num_replicas == 0 else shards

    @property
    def num_skipped(self) -> int:
        """How many unreadable rows were met so far."""
        return int(self.place[2])

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        epoch, start = self.place[:2].tolist()
        if start < 0:
            return
        # The loader takes a batch from each worker in turn, from the first one on: those before the one that is next
        # give it an empty turn.
        left_out = self.batch_size * len(range(worker, start, num_workers))
        if worker < start % num_workers:
            yield {}
        examples: list[Any] = []
        numbers: list[int] = []
        stride, first = self.num_replicas * num_workers, self.rank * num_workers + worker
        for count, row in enumerate(self._rows(epoch)):
            if count < left_out:
                continue
            try:
                examples.append(self.read(row))
            except ReadError as error:
                self._unreadable(count, error)
                continue
            numbers.append(first + count * stride)
            if len(examples) == self.batch_size:
                yield self.collate(examples, np.asarray(numbers), epoch)
                examples, numbers = [], []
        if examples and not self.full_batches:
            yield self.collate(examples, np.asarray(numbers), epoch)

    def _rows(self, epoch: int) -> Iterator[dict[str, Any]]:
        found = True
        while found:
            found = False
            for row in self._pass(epoch):
                found = True
                yield row
            if not self.endless:
                return
            epoch += 1

    def _pass(self, epoch: int) -> datasets.IterableDataset:
        stream = self.stream
        if self.shuffle is not None:
            seed, buffer_size = self.shuffle
            stream = stream.shuffle(seed=mix(seed, epoch) >> 32, buffer_size=buffer_size)
        return split_dataset_by_node(stream, self.rank, self.num_replicas) if self.num_replicas > 1 else stream

    def _unreadable(self, count: int, error: ReadError) -> None:
        message = f"{self.name}, row {count} of the stream: {error}"
        if self.on_bad == "error":
            raise ReadError(f"{message}. {self.remedy}") from error
        self.place[2] += 1
        if self.place[2] <= MOST_TOLD:
            logger.warning("skipped: %s", message)
