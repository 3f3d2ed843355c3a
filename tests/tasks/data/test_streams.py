"""Streamed splits."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from toy_rows import CollateValues, ReadValue, ToyData, ToyNet, ToyNetWithValidation, quiet_trainer

from tasks.data.loaders import Loading
from tasks.data.streams import StreamExamples


@pytest.fixture(autouse=True)
def _no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {"train": _csv(tmp_path / "train.csv", 0, 23), "validation": _csv(tmp_path / "validation.csv", 0, 7)}


def _csv(file: Path, first: int, last: int) -> str:
    file.write_text("value\n" + "".join(f"{row}.0\n" for row in range(first, last)))
    return str(file)


def _data(files: dict[str, Any], **options: Any) -> ToyData:
    settings = {"batch_size": 5, "seed": 3, "loading": Loading(shuffle_buffer=11)}
    return ToyData("csv", data_files=files, streaming=True, **{**settings, **options})


def _values(net: ToyNet) -> list[list[int]]:
    return [np.floor(values).astype(int).tolist() for _, _, values in net.seen]


def _stream(rows: int, *, shards: int = 1, **options: Any) -> StreamExamples:
    stream = datasets.Dataset.from_dict({"value": [float(i) for i in range(rows)]}).to_iterable_dataset(shards)
    read = ReadValue(options.pop("bad", ()))
    return StreamExamples("split 'train'", stream, read, CollateValues(0), batch_size=5, **options)


def _read(examples: StreamExamples) -> list[list[int]]:
    return [batch["value"].floor().int().flatten().tolist() for batch in examples]


def test_training_is_shuffled_by_epoch_and_repeats(files: dict[str, str]) -> None:
    def run() -> ToyNet:
        net = ToyNet()
        quiet_trainer(max_steps=8).fit(net, _data(files))
        return net

    first = run()
    values = _values(first)
    assert [len(batch) for batch in values] == [5] * 8
    assert [epoch for epoch, _, _ in first.seen] == [0] * 4 + [1] * 4
    assert len({value for batch in values[:4] for value in batch}) == 20
    assert sorted(values[0]) != [0, 1, 2, 3, 4]
    assert values[:4] != values[4:]
    assert run().seen == first.seen


def test_evaluation_reads_every_row_once_in_order(files: dict[str, str]) -> None:
    net = ToyNetWithValidation()
    quiet_trainer(max_steps=4).fit(net, _data(files))
    assert net.evaluated == list(range(7))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("num_files", [1, 2])
def test_an_interrupted_run_goes_on_with_the_same_rows(tmp_path: Path, workers: int, num_files: int) -> None:
    each = 22 // num_files
    files = {"train": [_csv(tmp_path / f"{i}.csv", i * each, (i + 1) * each) for i in range(num_files)]}
    checkpoint = ModelCheckpoint(tmp_path / "run", every_n_train_steps=1, save_top_k=-1)
    whole = ToyNet()
    quiet_trainer(max_steps=8, callbacks=[checkpoint]).fit(whole, _data(files, num_workers=workers, val_fraction=0.0))
    for file in (tmp_path / "run").glob("*.ckpt"):
        step = torch.load(file, weights_only=True)["global_step"]
        if step not in (2, 4, 5):
            continue
        resumed = ToyNet()
        data = _data(files, num_workers=workers, val_fraction=0.0)
        quiet_trainer(max_steps=8).fit(resumed, data, ckpt_path=str(file))
        assert _values(resumed) == _values(whole)[step:]


@pytest.mark.parametrize("shards", [1, 4])
def test_ranks_share_the_rows(shards: int) -> None:
    ranks = [_read(_stream(23, shards=shards, rank=rank, num_replicas=2, shuffle=(1, 7))) for rank in (0, 1)]
    assert sorted(value for batches in ranks for batch in batches for value in batch) == list(range(23))


def test_row_numbers_differ_between_ranks() -> None:
    numbers = [
        row for rank in (0, 1) for batch in _stream(23, rank=rank, num_replicas=2) for row in batch["index"].tolist()
    ]
    assert len(set(numbers)) == 23


def test_an_endless_stream_goes_on_in_another_order() -> None:
    iterator = iter(_stream(10, shuffle=(1, 10), endless=True, full_batches=True))
    batches = [next(iterator)["value"].floor().int().flatten().tolist() for _ in range(4)]
    assert sorted(batches[0] + batches[1]) == sorted(batches[2] + batches[3]) == list(range(10))
    assert batches[:2] != batches[2:]


def test_full_batches_leave_out_the_rest() -> None:
    assert [len(batch) for batch in _read(_stream(13))] == [5, 5, 3]
    assert [len(batch) for batch in _read(_stream(13, full_batches=True))] == [5, 5]


def test_unreadable_rows_are_an_error_or_skipped_and_counted() -> None:
    with pytest.raises(ValueError, match=r"split 'train', row 6 of the stream: the value 6 is broken. Repair"):
        _read(_stream(13, bad=(6,)))
    examples = _stream(13, bad=(2, 6), on_bad="skip")
    assert _read(examples) == [[0, 1, 3, 4, 5], [7, 8, 9, 10, 11], [12]]
    assert examples.num_skipped == 2


def test_streaming_needs_max_steps(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"streaming=True: the length of a stream is unknown.*--trainer.max_steps"):
        quiet_trainer(max_epochs=1).fit(ToyNet(), _data(files))


def test_several_devices_need_the_length_of_an_epoch(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = quiet_trainer(max_steps=4)
    monkeypatch.setattr(type(trainer), "world_size", 2)
    data = _data(files)
    data.trainer = trainer
    with pytest.raises(ValueError, match=r"streaming=True on several devices.*--trainer.limit_train_batches"):
        data.train_dataloader()


def test_a_stream_is_not_divided(files: dict[str, str]) -> None:
    data = _data({"train": files["train"]})
    with pytest.raises(
        ValueError, match=r"val_split: a streamed data set cannot be divided.*validation split among train"
    ):
        data.setup("fit")
    assert _data({"train": files["train"]}, val_fraction=0.0).val_dataloader() == []


def test_columns_of_a_stream_are_checked(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("other\n1\n")
    data = _data({"train": str(tmp_path / "other.csv")}, val_fraction=0.0)
    with pytest.raises(ValueError, match="value_column='value': split 'train' has no such column; it has: other"):
        data.setup("fit")


def test_an_empty_buffer_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"loading.shuffle_buffer must be at least 1 row, got 0"):
        Loading(shuffle_buffer=0)
