"""A streamed split as batches: shuffled through a buffer, divided among ranks and workers.

The order follows from (seed, epoch), the number of ranks, and the number of workers. A resumed run reads the rows
up to its place without decoding them. Two things are not repeated exactly: the last rows of an epoch where several
workers run out of rows at different times, and rows after unreadable ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset, get_worker_info

from tasks.data.batches import mix
from tasks.data.examples import Batch, OnBad, ReadError, report_unreadable


@dataclass(eq=False)
class StreamExamples(IterableDataset[Batch]):
    """Collated batches of a streamed split.

    Args:
        name: Name of the split in messages.
        stream: The rows.
        read: Turns a row into an example, or raises `ReadError`.
        collate: Turns (examples, their numbers, epoch) into a batch.
        batch_size: Rows in a batch.
        on_bad: "error" raises at an unreadable row, "skip" takes the next row of the stream.
        remedy: The remedy of an unreadable row, for messages.
        rank: This process among `num_replicas`.
        num_replicas: Processes that share the stream.
        shuffle: (seed, rows in the buffer); None for the stream's order.
        full_batches: Leave out the rows after the last full batch.
        endless: Begin again at the end with another order, so that no rank runs out before the others.
    """

    name: str
    stream: datasets.IterableDataset
    read: Callable[[dict[str, Any]], Any]
    collate: Callable[[list[Any], np.ndarray, int], Batch]
    _: KW_ONLY
    batch_size: int
    on_bad: OnBad = "error"
    remedy: str = "Repair or remove it"
    rank: int = 0
    num_replicas: int = 1
    shuffle: tuple[int, int] | None = None
    full_batches: bool = False
    endless: bool = False

    def __post_init__(self) -> None:
        # Shared memory, so that persistent workers see a new epoch: epoch, batches to leave out, unreadable rows.
        self.place = torch.zeros(3, dtype=torch.int64).share_memory_()

    def set_place(self, epoch: int, start: int) -> None:
        """Choose the epoch of the next pass and how many of its batches were done before (-1: all)."""
        self.place[:2] = torch.tensor([epoch, start])

    @property
    def most_workers(self) -> int:
        """Number of workers that find rows: one for each file, or part of a file, of this process's share."""
        shards = self.stream.num_shards
        return shards // self.num_replicas if shards % self.num_replicas == 0 else shards

    @property
    def num_skipped(self) -> int:
        """Number of unreadable rows so far."""
        return int(self.place[2])

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        epoch, start = self.place[:2].tolist()
        if start < 0:
            return
        # The loader takes a batch from each worker in turn, from the first one on, so the workers before the
        # next one yield an empty turn.
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
                fault = f"{self.name}, row {count} of the stream: {error}"
                report_unreadable(fault, self.on_bad, self.remedy, self.num_skipped, error)
                self.place[2] += 1
                continue
            numbers.append(first + count * stride)
            if len(examples) == self.batch_size:
                yield self.collate(examples, np.asarray(numbers), epoch)
                examples, numbers = [], []
        if examples and not self.full_batches:
            yield self.collate(examples, np.asarray(numbers), epoch)

    def _rows(self, epoch: int) -> Iterator[dict[str, Any]]:
        row = None
        for row in self._pass(epoch):
            yield row
        while self.endless and row is not None:
            epoch += 1
            yield from self._pass(epoch)

    def _pass(self, epoch: int) -> datasets.IterableDataset:
        stream = self.stream
        if self.shuffle is not None:
            seed, buffer_size = self.shuffle
            stream = stream.shuffle(seed=mix(seed, epoch) >> 32, buffer_size=buffer_size)
        return split_dataset_by_node(stream, self.rank, self.num_replicas) if self.num_replicas > 1 else stream
