"""Batches of rows of similar length: caps, equal steps, and an order that follows from (seed, epoch)."""

from typing import Any

import numpy as np
import pytest
import torch
from toy_rows import ToyNet, quiet_trainer

from tasks.data.batches import Draw, EvalBatches
from tasks.data.length_batches import LengthBatches, LengthEvalBatches, RowCosts, windows
from tasks.data.loaders import ResumableLoader, eval_loader, train_loader


def _lengths(rows: int, longest: int = 211, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, longest + 1, rows).astype(np.int32)


def _ranks(costs: RowCosts, size: int, world: int, epoch: int = 0, seed: int = 1) -> list[list[list[int]]]:
    found = []
    for rank in range(world):
        batches = LengthBatches(costs, size, seed=seed, rank=rank, num_replicas=world)
        batches.set_epoch(epoch)
        drawn = list(batches)
        assert len(drawn) == len(batches)
        assert {draw.epoch for draw in drawn} <= {epoch}
        found.append([draw.positions for draw in drawn])
    return found


def _cost(values: np.ndarray, batch: list[int]) -> float:
    return len(batch) * values[batch].max()


@pytest.mark.parametrize("rows", [3, 7, 67, 1013])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("size", "most"), [(1, None), (13, None), (13, 419), (10_007, 211), (10_007, 1009.5)])
@pytest.mark.parametrize("grouped", [True, False])
def test_ranks_get_equal_disjoint_batches_within_the_cap(
    rows: int, world: int, size: int, most: float | None, grouped: bool
) -> None:
    values = _lengths(rows)
    costs = RowCosts(values, most, grouped)
    sizes = set()
    for epoch in range(5):
        ranks = _ranks(costs, size, world, epoch)
        sizes.add(tuple(sorted(len(batch) for batch in ranks[0])))
        steps = list(zip(*ranks, strict=True))
        drawn = [row for step in steps for batch in step for row in batch]
        assert len(drawn) == len(set(drawn))
        assert set(drawn) <= set(range(rows))
        for step in steps:
            assert len({len(batch) for batch in step}) == 1
            assert all(1 <= len(batch) <= size for batch in step)
            assert most is None or all(_cost(values, batch) <= most for batch in step)
        # Less than half a step of the shortest rows, and what the ranks cannot share.
        short = min(size, rows // world) if most is None else min(size, int(most // values.min()))
        assert rows - len(drawn) < max(short * world / 2, world)
    assert len(sizes) == 1  # the number of batches and their sizes do not change from epoch to epoch


def test_a_cap_is_used_up() -> None:
    values = _lengths(5003)
    ranks = _ranks(RowCosts(values, 4001), 10_007, 1)
    # Rows times the longest stay a little below the cap; padding is small.
    assert np.mean([_cost(values, batch) for batch in ranks[0]]) > 0.9 * 4001
    assert values.sum() > 0.9 * sum(_cost(values, batch) for batch in ranks[0])


def test_a_row_above_the_cap_may_be_a_batch_by_itself() -> None:
    values = np.array([2.0, 31.0, 3.0, 5.0, 2.0])
    costs = RowCosts(values, 7.0, argument="max_seconds", longer_alone=True)
    evaluated = [draw.positions for draw in LengthEvalBatches(costs, 13)]
    assert sorted(map(sorted, evaluated)) == [[0, 2], [1], [3], [4]]
    (trained,) = _ranks(costs, 13, 1)  # which leaves out a row, another one in each epoch
    assert len(trained) == 3
    assert all(batch == [1] or _cost(values, batch) <= 7 for batch in trained)
    with pytest.raises(ValueError, match=r"max_seconds must be at least 31, .* raise it, or .* leave them out"):
        RowCosts(values, 7.0, argument="max_seconds")


def test_grouping_saves_padding() -> None:
    values = _lengths(1013)
    padding = {}
    for grouped in (True, False):
        (batches,) = _ranks(RowCosts(values, None, grouped), 13, 1)
        padding[grouped] = 1 - values[np.concatenate(batches)].sum() / sum(_cost(values, batch) for batch in batches)
    assert padding[False] > 0.4
    assert padding[True] < 0.06


def test_the_batches_of_a_step_are_alike() -> None:
    values = _lengths(1013)
    steps = list(zip(*_ranks(RowCosts(values, 1009), 31, 3), strict=True))
    costs = np.array([[_cost(values, batch) for batch in step] for step in steps])
    assert (costs.max(1) - costs.min(1)).max() < 0.25 * 1009


def test_rows_change_mates_and_the_batches_their_order() -> None:
    values = _lengths(1013)
    costs = RowCosts(values)
    first, second = ([tuple(sorted(batch)) for batch in _ranks(costs, 13, 1, epoch)[0]] for epoch in (0, 1))
    assert len(set(first) & set(second)) < 5
    longest = [values[list(batch)].max() for batch in first]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4


def test_the_order_follows_from_seed_and_epoch() -> None:
    costs = RowCosts(_lengths(67), 419)
    batches = LengthBatches(costs, 5, seed=1)
    first = list(batches)
    assert first == list(LengthBatches(costs, 5, seed=1)) != list(LengthBatches(costs, 5, seed=2))
    batches.set_epoch(3)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first
    batches.set_place(0, 4)
    assert list(batches) == first[4:]
    batches.set_place(0, -1)
    assert list(batches) == []
    batches.set_place(0, 0)
    iterator = iter(batches)
    batches.set_epoch(7)
    assert next(iterator).epoch == 0


def test_rows_that_are_left_out_change() -> None:
    costs = RowCosts(_lengths(67))
    left = [set(range(67)) - {row for batch in _ranks(costs, 16, 1, epoch)[0] for row in batch} for epoch in range(4)]
    assert [len(rows) for rows in left] == [3] * 4
    assert len(set.union(*left)) > 3


def test_windows_depend_on_lengths_alone() -> None:
    values = _lengths(1013)
    shuffled = np.random.default_rng(1).permutation(values)
    assert windows(RowCosts(values, 997), 13, 2) == windows(RowCosts(shuffled, 997), 13, 2)
    assert len(windows(RowCosts(values), 13, 2)) > 5
    assert [window.rows for window in windows(RowCosts(values, None, False), 13, 1)] == [13, 12]


def test_seconds_in_place_of_tokens() -> None:
    values = np.random.default_rng(0).uniform(0.3, 17.0, 503)
    (batches,) = _ranks(RowCosts(values, 60.0, argument="max_seconds"), 64, 1)
    assert all(_cost(values, batch) <= 60.0 for batch in batches)
    with pytest.raises(ValueError, match=r"max_seconds must be at least 16.9\d*, .* the longest row, got 9.5"):
        RowCosts(values, 9.5, argument="max_seconds")


def test_fewer_rows_than_processes_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one row for each of 3 processes, got 2 rows"):
        LengthBatches(RowCosts(_lengths(2)), 5, rank=0, num_replicas=3)


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 29, 31])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("size", "most"), [(1, None), (2, None), (5, None), (7, 211), (7, 431)])
def test_evaluation_reads_every_row_once_in_equal_steps(rows: int, world: int, size: int, most: float | None) -> None:
    values = _lengths(rows)
    costs = RowCosts(values, most)
    ranks = [list(LengthEvalBatches(costs, size, rank=rank, num_replicas=world)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {len(LengthEvalBatches(costs, size, num_replicas=world))}
    assert all(1 <= len(draw.positions) <= size and draw.epoch == 0 for batches in ranks for draw in batches)
    drawn = sorted(row for batches in ranks for draw in batches for row in draw.positions)
    assert sorted(set(drawn)) == list(range(rows))
    assert most is None or all(_cost(values, draw.positions) <= most for batches in ranks for draw in batches)
    single = any(len(draw.positions) == 1 for batches in ranks for draw in batches[-2:])
    assert len(drawn) == rows or (world > 1 and single and len(drawn) < rows + world)
    if world == 1:
        longest = [values[draw.positions].max() for draw in ranks[0]]
        assert longest[0] == max(longest)
        assert longest[-1] == min(longest)
        assert len(longest) < 6 or longest != sorted(longest, reverse=True)


class _Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Says which rows were asked for."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        index = torch.tensor(draw.positions)
        return {"value": index[:, None].float(), "index": index, "epoch": draw.epoch}


def _train_loader(trainer: Any, **options: Any) -> Any:
    costs = RowCosts(_lengths(67), **{"most": 419, "argument": "max_tokens", **options})
    return train_loader(_Rows(67), trainer, batch_size=5, seed=3, costs=costs)  # type: ignore[arg-type]


def test_loaders_take_costs() -> None:
    loader = _train_loader(None)
    assert isinstance(loader, ResumableLoader)
    assert isinstance(loader.sampler, LengthBatches)
    figures = {"max_tokens": 419, "grouped by length": 1, "sum of lengths": int(_lengths(67).sum())}
    assert loader.layout == {"batch_size": 5, "seed": 3, "processes": 1, "rows": 67, **figures}
    rows = _Rows(67)
    for options, kind in (
        ({"grouped": False}, EvalBatches),
        ({"grouped": False, "most": 419}, LengthEvalBatches),
        ({}, LengthEvalBatches),
    ):
        costs = RowCosts(_lengths(67), **options)  # type: ignore[arg-type]
        evaluated = eval_loader(rows, None, batch_size=5, costs=costs)  # type: ignore[arg-type]
        assert type(evaluated.sampler) is kind
        assert sorted(row for batch in evaluated for row in batch["index"].tolist()) == list(range(67))


def _fitted(loader: Any, checkpoint: str | None = None, **options: Any) -> ToyNet:
    net = ToyNet()
    trainer = quiet_trainer(max_epochs=3, **options)
    loader.trainer = trainer
    trainer.fit(net, loader, ckpt_path=checkpoint, weights_only=True)
    return net


def test_an_interrupted_run_goes_on_with_the_same_batches(tmp_path: Any) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    saved = ModelCheckpoint(tmp_path, every_n_train_steps=7, save_top_k=-1)
    whole = _fitted(_train_loader(None), callbacks=[saved])
    files = {torch.load(file, weights_only=True)["global_step"]: str(file) for file in tmp_path.glob("*.ckpt")}
    assert len(files) >= 5
    for step, file in files.items():
        assert _fitted(_train_loader(None), file).seen == whole.seen[step:]
    within = next(file for step, file in files.items() if step % (len(whole.seen) // 3))
    for options, message in (
        ({"most": 433}, r"max_tokens 419 -> 433"),
        ({"grouped": False}, r"grouped by length 1 -> 0"),
    ):
        with pytest.raises(ValueError, match=f"the batches of that epoch have changed since: .*{message}"):
            _fitted(_train_loader(None, **options), within)
