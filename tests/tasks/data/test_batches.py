"""Order and randomness as functions of (seed, epoch, row)."""

import random

import numpy as np
import pytest
import torch

from tasks.data.batches import (
    EvalBatches,
    TrainBatches,
    mix,
    restored_generators,
    row_seeds,
    row_uniforms,
    seed_generators,
)


def test_every_number_and_their_order_change_the_mix() -> None:
    assert mix(1, 2) == mix(1, 2)
    assert len({mix(1, 2), mix(2, 1), mix(1, 3), mix(0, 2), mix(1, 2, 0), mix(-1, 2)}) == 6


def test_the_numbers_of_earlier_versions_stay() -> None:
    """Another order or augmentation would change the figures of all recipes."""
    assert (mix(3, 5, 7), mix(-1, 0)) == (14063682124280266944, 6755974106381971767)
    assert row_uniforms(3, 5, np.arange(3), 2) == pytest.approx([0.38146544, 0.19626544, 0.4086541], abs=1e-8)


def test_row_uniforms_do_not_depend_on_batch_mates_and_are_uniform() -> None:
    rows = np.arange(20_011)
    values = row_uniforms(3, 5, rows, 0)
    assert (row_uniforms(3, 5, rows[7:11], 0) == values[7:11]).all()
    assert values.min() >= 0
    assert values.max() < 1
    assert np.histogram(values, bins=10, range=(0, 1))[0] == pytest.approx(2001, rel=0.1)
    for other in (row_uniforms(4, 5, rows, 0), row_uniforms(3, 6, rows, 0), row_uniforms(3, 5, rows, 1)):
        assert abs(np.corrcoef(values, other)[0, 1]) < 0.03


def test_seeded_generators_are_put_back() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with restored_generators():
        seed_generators(int(row_seeds(0, 0, np.array([2**40]), 0)[0]))
        first = random.random(), np.random.rand(), torch.rand(1).item()
        seed_generators(int(row_seeds(0, 0, np.array([2**40]), 0)[0]))
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == first
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_train_on_equal_disjoint_batches_of_one_shuffled_order(world: int) -> None:
    ranks = [TrainBatches(67, 5, seed=1, rank=rank, num_replicas=world) for rank in range(world)]
    assert {len(list(batches)) for batches in ranks} == {67 // (5 * world)} == {len(ranks[0])}
    drawn = [position for batches in ranks for draw in batches for position in draw.positions]
    assert len(drawn) == len(set(drawn)) == 67 // (5 * world) * 5 * world
    assert all(len(draw.positions) == 5 for batches in ranks for draw in batches)


def test_the_order_follows_from_seed_and_epoch() -> None:
    batches = TrainBatches(67, 5, seed=1)
    first = list(batches)
    assert first == list(TrainBatches(67, 5, seed=1)) != list(TrainBatches(67, 5, seed=2))
    batches.set_epoch(3)
    assert {draw.epoch for draw in batches} == {3}
    assert [draw.positions for draw in batches] != [draw.positions for draw in first]
    batches.set_epoch(0)
    assert list(batches) == first


def test_a_place_within_an_epoch_leaves_out_what_was_done() -> None:
    batches = TrainBatches(67, 5, seed=1)
    batches.set_epoch(2)
    whole = list(batches)
    batches.set_place(2, 9)
    assert list(batches) == whole[9:]
    assert len(batches) == 13
    batches.set_place(2, -1)
    assert list(batches) == []


def test_an_iterator_keeps_its_epoch_when_another_is_chosen() -> None:
    batches = TrainBatches(67, 5, seed=1)
    iterator = iter(batches)
    batches.set_epoch(7)
    assert next(iterator).epoch == 0


def test_fewer_rows_than_a_batch_make_one_short_batch() -> None:
    assert [len(draw.positions) for draw in TrainBatches(7, 16)] == [7]
    assert [[len(draw.positions) for draw in TrainBatches(7, 16, rank=r, num_replicas=2)] for r in (0, 1)] == [[3], [3]]


def test_fewer_rows_than_processes_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one row for each of 3 processes, got 2 rows"):
        TrainBatches(2, 5, rank=0, num_replicas=3)


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 29, 30, 31])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_evaluation_reads_every_row_once_in_equal_steps(rows: int, world: int, size: int) -> None:
    ranks = [list(EvalBatches(rows, size, rank=rank, num_replicas=world)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(EvalBatches(rows, size, num_replicas=world))}
    assert all(1 <= len(draw.positions) <= size for batches in ranks for draw in batches)
    drawn = sorted(position for batches in ranks for draw in batches for position in draw.positions)
    assert sorted(set(drawn)) == list(range(rows))
    unavoidable = size == 1 or rows < world
    assert unavoidable or len(drawn) == rows
    assert world > 1 or len(drawn) == rows
