"""Order and randomness of the data: which rows make a batch, and the random numbers that belong to a row.

Everything is a function of (seed, epoch, row), never of a generator's state, so a resumed run, another number of
workers and a single process all see the same batches with the same augmentation.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler

from softformer.training.seeding import mix, splitmix


class Draw(NamedTuple):
    """One batch to read: the epoch that it belongs to, and the places of its rows in the split, from 0."""

    epoch: int
    positions: list[int]


def row_seeds(seed: int, epoch: int, rows: np.ndarray, purpose: int) -> np.ndarray:
    """Seeds, (B,) uint64, of rows (B,) in an epoch; those of different purposes (crop, flip, ...) are independent."""
    return splitmix(np.uint64(mix(seed, epoch, purpose)) ^ rows.astype(np.uint64))


def row_uniforms(seed: int, epoch: int, rows: np.ndarray, purpose: int) -> np.ndarray:
    """Random numbers in [0, 1), (B,) float64; arguments as in `row_seeds`."""
    return (splitmix(row_seeds(seed, epoch, rows, purpose)) >> np.uint64(11)) * 2.0**-53


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's CPU generators, which augmentation libraries draw from."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed % 2**63)


@contextmanager
def restored_generators() -> Iterator[None]:
    """Restore the global generators after the block, so that reading data does not change the run's randomness."""
    python, array, tensor = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        torch.set_rng_state(tensor)


class TrainBatches(DistributedSampler[Any]):
    """Batches of an epoch in an order given by (seed, epoch); each rank gets the same number of equal batches.

    Rows that do not fill a batch on every rank are left out for that epoch. Fewer rows than one such batch give one
    short batch of the same size on every rank.

    It yields whole batches, so it is the `sampler` of a loader with `batch_size=None`. It is a `DistributedSampler`
    because Lightning would replace another sampler.

    Args:
        num_rows: Rows of the split.
        batch_size: Rows in a batch, on one rank.
        seed: The data seed.
        rank: This process among `num_replicas`.
        num_replicas: Processes that share the rows.
    """

    def __init__(self, num_rows: int, batch_size: int, *, seed: int = 0, rank: int = 0, num_replicas: int = 1) -> None:
        if num_rows < num_replicas:
            raise ValueError(
                f"the training split must have at least one row for each of {num_replicas} processes, "
                f"got {num_rows} rows; use fewer devices"
            )
        super().__init__(cast(Dataset[Any], range(num_rows)), num_replicas, rank, shuffle=True, seed=seed)
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.start = 0

    def __len__(self) -> int:
        return max(1, self.num_rows // (self.batch_size * self.num_replicas))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass, from its first batch."""
        self.set_place(epoch, 0)

    def set_place(self, epoch: int, start: int) -> None:
        """Choose the epoch of the next pass, and how many of its batches were done before (-1: all)."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[Draw]:
        # Not a generator function: epoch and start are those of the moment of iter(), also when workers prefetch.
        batches = self.shuffled_batches(torch.Generator().manual_seed(mix(self.seed, self.epoch) >> 1))
        return iter([Draw(self.epoch, batch) for batch in (batches[self.start :] if self.start >= 0 else [])])

    def shuffled_batches(self, generator: torch.Generator) -> list[list[int]]:
        """All batches of this rank in an epoch, in an order that the generator decides."""
        order = torch.randperm(self.num_rows, generator=generator)
        size = min(self.batch_size, self.num_rows // self.num_replicas)
        own = order[self.rank :: self.num_replicas][: len(self) * size].split(size)
        return [batch.tolist() for batch in own]


class EvalBatches(DistributedSampler[Any]):
    """Batches in the split's own order, every row once, with the same number of batches on each rank.

    A rank that has a row less than others may cut its last batch in two. Only where that is impossible (fewer rows than
    ranks, or batches of one row) a row is read twice. Arguments as in `TrainBatches`.
    """

    def __init__(self, num_rows: int, batch_size: int, *, rank: int = 0, num_replicas: int = 1) -> None:
        super().__init__(cast(Dataset[Any], range(num_rows)), num_replicas, rank, shuffle=False)
        self.num_rows = num_rows
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.num_rows // (self.num_replicas * self.batch_size))

    def __iter__(self) -> Iterator[Draw]:
        own = list(range(self.rank, self.num_rows, self.num_replicas)) or [self.num_rows - 1]
        return self.draws([own[i : i + self.batch_size] for i in range(0, len(own), self.batch_size)])

    def draws(self, batches: list[list[int]]) -> Iterator[Draw]:
        """The batches of this rank, the last one cut in two where other ranks have one more."""
        if len(batches) < len(self):
            last = batches.pop()
            batches += [last[:-1] or last, last[-1:]]
        return iter([Draw(0, batch) for batch in batches])
