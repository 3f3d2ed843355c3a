"""Random numbers that depend on the place in a run and not on its history, which makes resuming exact."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix(*numbers: int) -> int:
    """A 64-bit seed from several integers and their order; neighboring integers give unrelated seeds."""
    state = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        state = splitmix(state ^ np.uint64(number % 2**64))
    return int(state[0])


def splitmix(words: np.ndarray) -> np.ndarray:
    """The output of the generator SplitMix64 for each state in `words`, uint64.

    Source: G. Steele, D. Lea, and C. Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def run_seed() -> int:
    """The seed of this run: from Lightning's `seed_everything` if it was called, else from torch."""
    return int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator on the CPU inside the block, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        yield
