"""A run that was interrupted goes on exactly as it would have, wherever it stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from toy_rows import ToyData, ToyNet, ToyNetWithValidation, quiet_trainer

from tasks.data.loaders import Loading


def _data(workers: int = 0, persistent: bool = True, **options: Any) -> ToyData:
    options = {"batch_size": 5, "seed": 3, **options}
    return ToyData("numbers", num_workers=workers, loading=Loading(persistent_workers=persistent), **options)


def _train(net: ToyNet, data: ToyData, checkpoint: str | None = None, **options: Any) -> ToyNet:
    quiet_trainer(**options).fit(net, data, ckpt_path=checkpoint, weights_only=True)
    return net


def _checkpoints(folder: Path) -> list[tuple[int, str]]:
    files = [(torch.load(file, weights_only=True)["global_step"], str(file)) for file in folder.glob("*.ckpt")]
    return sorted(files)


_EACH_STEP = {"every_n_train_steps": 1, "save_top_k": -1}
_EACH_EPOCH = {"every_n_epochs": 1, "save_top_k": -1}
_AFTER_EPOCH = {**_EACH_EPOCH, "save_on_train_epoch_end": True}


@pytest.mark.parametrize("limit", [{"max_epochs": 3}, {"max_steps": 12}], ids=str)
@pytest.mark.parametrize("net", [ToyNet, ToyNetWithValidation])
@pytest.mark.parametrize("saved", [_EACH_STEP, _EACH_EPOCH, _AFTER_EPOCH], ids=["step", "epoch", "after epoch"])
def test_resume_repeats_order_and_augmentation_from_any_checkpoint(
    tmp_path: Path, limit: dict[str, int], net: type[ToyNet], saved: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    whole = _train(net(), _data(), callbacks=[ModelCheckpoint(tmp_path, **saved)], **limit)
    assert len(whole.seen) == 12
    checkpoints = _checkpoints(tmp_path)
    assert len(checkpoints) >= 3
    for step, file in checkpoints:
        resumed = _train(net(), _data(), file, **limit)
        assert resumed.seen == whole.seen[step:]
        assert torch.equal(resumed.linear.weight, whole.linear.weight)


@pytest.mark.parametrize("options", [{"limit_train_batches": 3}, {"val_check_interval": 2}], ids=str)
def test_resume_is_exact_with_short_epochs_and_frequent_validation(tmp_path: Path, options: dict[str, int]) -> None:
    torch.manual_seed(0)
    checkpoint = ModelCheckpoint(tmp_path, **_EACH_STEP)
    whole = _train(ToyNetWithValidation(), _data(), callbacks=[checkpoint], max_epochs=3, **options)
    for step, file in _checkpoints(tmp_path):
        resumed = _train(ToyNetWithValidation(), _data(), file, max_epochs=3, **options)
        assert resumed.seen == whole.seen[step:]


@pytest.mark.parametrize("persistent", [True, False])
def test_workers_change_nothing_and_resume_too(tmp_path: Path, persistent: bool) -> None:
    torch.manual_seed(0)
    whole = _train(ToyNet(), _data(), max_epochs=2)
    torch.manual_seed(0)
    checkpoint = ModelCheckpoint(tmp_path, **_EACH_STEP)
    with_workers = _train(ToyNet(), _data(2, persistent), callbacks=[checkpoint], max_epochs=2)
    assert with_workers.seen == whole.seen
    step, file = _checkpoints(tmp_path)[2]
    assert _train(ToyNet(), _data(2, persistent), file, max_epochs=2).seen == whole.seen[step:]


def test_epochs_differ_and_cover_the_rows() -> None:
    seen = _train(ToyNet(), _data(batch_size=1), max_epochs=2).seen
    first, second = [rows for _, rows, _ in seen[:23]], [rows for _, rows, _ in seen[23:]]
    assert sorted(first) == sorted(second) == [[row] for row in range(23)]
    assert first != second
    noise = {row[0]: value[0] for _, row, value in seen[:23]}, {row[0]: value[0] for _, row, value in seen[23:]}
    assert all(noise[0][row] != noise[1][row] for row in range(23))


@pytest.mark.parametrize("changed", [{"batch_size": 4}, {"seed": 4}], ids=str)
def test_other_batches_within_a_started_epoch_are_an_error(tmp_path: Path, changed: dict[str, int]) -> None:
    _train(ToyNet(), _data(), callbacks=[ModelCheckpoint(tmp_path, **_EACH_STEP)], max_epochs=2)
    (name, value), former = next(iter(changed.items())), {"batch_size": 5, "seed": 3}
    files = dict(_checkpoints(tmp_path))
    with pytest.raises(ValueError, match=f"within an epoch.*{name} {former[name]} -> {value}"):
        _train(ToyNet(), _data(**changed), files[2], max_epochs=2)


def test_other_batches_from_the_end_of_an_epoch_are_fine(tmp_path: Path) -> None:
    _train(ToyNet(), _data(), callbacks=[ModelCheckpoint(tmp_path, **_AFTER_EPOCH)], max_epochs=1)
    ((_, file),) = _checkpoints(tmp_path)
    resumed = _train(ToyNet(), _data(batch_size=11), file, max_epochs=2)
    assert [len(rows) for _, rows, _ in resumed.seen] == [11, 11]


def test_overfitting_a_batch_trains_on_the_same_rows() -> None:
    net = _train(ToyNet(), _data(), max_epochs=3, overfit_batches=1)
    assert [rows for _, rows, _ in net.seen] == [[0, 1, 2, 3, 4]] * 3


def test_without_a_trainer_set_epoch_chooses_the_order() -> None:
    loader = _data().train_dataloader()
    first = [batch["index"].tolist() for batch in loader]
    loader.sampler.set_epoch(1)
    second = [batch["index"].tolist() for batch in loader]
    loader.sampler.set_epoch(0)
    assert [batch["index"].tolist() for batch in loader] == first != second
