"""The validation part of a training split, and rows that cannot be read."""

from typing import Any

import numpy as np
import pytest
from toy_rows import ToyData, ToyNetWithValidation, numbers, quiet_trainer

from tasks.data.examples import ReadError
from tasks.data.splits import validation_part


def _only_train(monkeypatch: pytest.MonkeyPatch, rows: int = 31) -> None:
    monkeypatch.setattr(ToyData, "built_in", {"numbers": lambda: numbers(train=rows)})


def test_parts_are_disjoint_complete_and_seeded() -> None:
    train, validation = validation_part(103, 0.2, seed=5)
    assert sorted([*train, *validation]) == list(range(103))
    assert len(validation) == 21
    assert (validation_part(103, 0.2, seed=5)[1] == validation).all()
    assert (validation_part(103, 0.2, seed=6)[1] != validation).any()


def test_parts_keep_the_shares_of_classes() -> None:
    classes = np.repeat([0, 1, 2], [70, 20, 10])
    _, validation = validation_part(100, 0.3, seed=0, classes=classes)
    assert np.bincount(classes[validation]).tolist() == [21, 6, 3]


@pytest.mark.parametrize("classes", [[0] * 9 + [1], list(range(10))])
def test_classes_too_rare_to_divide_are_left_to_chance(classes: list[int]) -> None:
    train, validation = validation_part(10, 0.3, seed=0, classes=np.array(classes))
    assert (len(train), len(validation)) == (7, 3)


@pytest.mark.parametrize(("rows", "fraction"), [(4, 0.1), (4, 0.9)])
def test_an_empty_part_is_an_error(rows: int, fraction: float) -> None:
    with pytest.raises(ValueError, match=f"val_fraction={fraction}: 4 training rows give"):
        validation_part(rows, fraction, seed=0)


def test_without_a_validation_split_a_part_of_train_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    _only_train(monkeypatch)
    data = ToyData("numbers", val_fraction=0.2, batch_size=1)
    train = [batch["index"].item() for batch in data.train_dataloader()]
    validation = [batch["index"].item() for batch in data.val_dataloader()]
    assert len(validation) == 6
    assert sorted(train + validation) == list(range(31))


def test_without_a_fraction_nothing_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    _only_train(monkeypatch)
    data = ToyData("numbers", val_fraction=0.0, batch_size=1)
    assert len(data.train_dataloader()) == 31
    assert data.val_dataloader() == []
    net = ToyNetWithValidation()
    quiet_trainer(max_epochs=1).fit(net, data)
    assert net.evaluated == []


def test_a_validation_split_is_found_by_its_name_or_chosen() -> None:
    assert len(ToyData("numbers").split_for("validation")) == 7
    assert len(ToyData("numbers").split_for("train")) == 23
    assert len(ToyData("numbers", val_split="test").split_for("validation")) == 11


def _with_bad(monkeypatch: pytest.MonkeyPatch, *bad: int, **options: Any) -> ToyData:
    monkeypatch.setattr(ToyData, "bad", bad)
    return ToyData("numbers", batch_size=5, **options)


def test_an_unreadable_row_is_an_error_that_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _with_bad(monkeypatch, 6)
    expected = (
        "split 'validation', row 6: the value 6 is broken. Repair or remove it, or skip and count such rows by "
        "--data.on_bad skip"
    )
    with pytest.raises(ReadError) as error:
        list(data.val_dataloader())
    assert str(error.value) == expected


def test_an_error_raised_in_a_worker_says_no_more() -> None:
    # A loader hands on what its worker raised with the whole traceback as the message.
    handed_on = (
        "Caught ReadError in DataLoader worker process 1.\nOriginal Traceback (...):\n  ...\ntasks.rows.ReadError: x"
    )
    assert str(ReadError(handed_on)) == "x"


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_rows_leave_batches_full_and_are_counted(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    data = _with_bad(monkeypatch, 2, 3, 6, on_bad="skip", num_workers=workers)
    batches = [batch["index"].tolist() for batch in data.train_dataloader()]
    assert [len(rows) for rows in batches] == [5] * 4
    drawn = [row for rows in batches for row in rows]
    assert not {2, 3, 6} & set(drawn)
    expected = {row for draw in data.train_dataloader().sampler for row in draw.positions} & {2, 3, 6}
    assert data.skipped == {"train": len(expected)}
    assert set(data.examples_for("train").skipped) == expected


def test_skipped_rows_are_told_and_counted_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = _with_bad(monkeypatch, *range(12), on_bad="skip", val_split="train")
    data.val_dataloader()
    told = [record.message for record in caplog.records if record.message.startswith("skipped: split 'train', row")]
    assert len(told) == 10
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        data.teardown("fit")
    assert "unreadable rows that were skipped: 12 of validation" in caplog.text


def test_evaluation_leaves_unreadable_rows_out_and_counts_no_other_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _with_bad(monkeypatch, 2, 3, on_bad="skip")
    assert [batch["index"].tolist() for batch in data.val_dataloader()] == [[0, 1, 4, 5, 6]]
    assert data.skipped == {"validation": 2}


def test_a_split_without_a_readable_row_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _with_bad(monkeypatch, *range(23), on_bad="skip")
    with pytest.raises(ReadError, match="split 'validation': none of its 7 rows can be read"):
        data.val_dataloader()
    with pytest.raises(ReadError, match="split 'train': none of its 23 rows can be read"):
        next(iter(data.train_dataloader()))
