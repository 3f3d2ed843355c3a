"""Seeds are mixed well, and seeding a block leaves no trace."""

import pytest
import torch

from softformer.training.seeding import mix, run_seed, seeded


def test_seeds_depend_on_every_number_and_their_order() -> None:
    seeds = [mix(a, b, c) for a in range(5) for b in range(5) for c in range(5)]
    assert len(set(seeds)) == 125
    assert mix(3, 5) != mix(5, 3)
    assert mix(-1, 2**63) == mix(2**64 - 1, 2**63)
    assert mix(3, 5, 7) == mix(3, 5, 7)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_a_seeded_block_repeats_and_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    with seeded(17):
        first = torch.rand(3)
    with seeded(17):
        again = torch.rand(3)
    with seeded(2**64 - 19):
        other = torch.rand(3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "23")
    assert run_seed() == 23
    monkeypatch.delenv("PL_GLOBAL_SEED")
    torch.manual_seed(29)
    assert run_seed() == 29
