"""Random numbers that depend on where a run stands and not on how it got there, which makes resuming exact."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def fold_seed(*numbers: int) -> int:
    """One 64-bit seed from several integers, well mixed: neighbouring inputs give unrelated seeds."""
    # SeedSequence takes no negative numbers; a seed from torch may use all 64 bits.
    words = np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1, np.uint64)
    return int(words[0])


def run_seed() -> int:
    """The seed of this run: that of Lightning's `seed_everything` if it was called, else torch's."""
    return int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator on the CPU inside the block and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        yield
