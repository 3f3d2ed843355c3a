"""A run that was stopped and goes on ends with exactly the weights of one that was not."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.utilities.exceptions import SIGTERMException
from stopping import Crash, Stop
from tiny_images import TinyImages
from training_runs import SOFT, VIT, classifier, quiet_trainer

from softformer.training.callbacks import LastCheckpoint
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import ScheduleSpec
from tasks.image import ImageClassifier


def run(folder: Path, encoder: Any = VIT, *callbacks: Callback, goes_on: bool = False, **options: Any) -> Any:
    """Three epochs of four batches, or what is left of them; returns the task."""
    task = classifier(encoder, mixup=0.4, cutmix=0.5, label_smoothing=0.1)
    if goes_on:
        seed_everything(99)  # the seed of the first part counts
    workers = options.pop("workers", 0)
    trainer = quiet_trainer(folder, LastCheckpoint(folder), *callbacks, max_epochs=3, gradient_clip_val=1.0, **options)
    try:
        trainer.fit(
            task, datamodule=TinyImages(num_workers=workers), ckpt_path=folder / "last.ckpt" if goes_on else None
        )
    except (SystemExit, SIGTERMException, Crash):
        assert any(isinstance(callback, Stop) and callback.done for callback in callbacks)
    return task


def difference(one: ImageClassifier, two: ImageClassifier) -> float:
    pairs = zip(one.state_dict().values(), two.state_dict().values())
    return max(float((first.double() - second.double()).abs().max()) for first, second in pairs)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> ImageClassifier:
    return run(tmp_path_factory.mktemp("straight"))


@pytest.mark.parametrize(
    ("how", "step"),
    [("time", 2), ("time", 7), ("SIGINT", 3), ("SIGINT", 4), ("SIGTERM", 5), ("crash", 4), ("crash", 8)],
)
def test_resume_is_exact(tmp_path: Path, straight: ImageClassifier, how: str, step: int) -> None:
    stopped = run(tmp_path, VIT, Stop(how, step))
    assert difference(stopped, straight) > 0
    assert difference(run(tmp_path, goes_on=True), straight) == 0.0


def test_resume_with_workers(tmp_path: Path, straight: ImageClassifier) -> None:
    run(tmp_path, VIT, Stop("time", 6), workers=2)
    assert difference(run(tmp_path, goes_on=True, workers=2), straight) == 0.0


def test_resume_with_averaging_and_accumulation(tmp_path: Path) -> None:
    options = {"accumulate_grad_batches": 3}
    whole = run(tmp_path / "whole", SOFT, EMAWeightAveraging(decay=0.7), **options)
    run(tmp_path / "parts", SOFT, EMAWeightAveraging(decay=0.7), Stop("SIGINT", 3), **options)
    rest = run(tmp_path / "parts", SOFT, EMAWeightAveraging(decay=0.7), goes_on=True, **options)
    assert difference(whole, rest) == 0.0


def test_resume_after_max_steps_inside_an_epoch(tmp_path: Path) -> None:
    """The schedule follows max_steps, so only its constant part can be compared."""

    def part(folder: Path, max_steps: int, goes_on: bool = False) -> ImageClassifier:
        task = classifier(mixup=0.4)
        trainer = quiet_trainer(folder, LastCheckpoint(folder), max_epochs=-1, max_steps=max_steps)
        task.schedule_spec = type(task.schedule_spec)("constant", warmup=0.0)
        trainer.fit(task, datamodule=TinyImages(), ckpt_path=folder / "last.ckpt" if goes_on else None)
        return task

    whole = part(tmp_path / "whole", 10)
    part(tmp_path / "parts", 6)
    assert difference(part(tmp_path / "parts", 10, goes_on=True), whole) == 0.0


def test_checkpoints_inside_an_epoch_come_by_step(tmp_path: Path) -> None:
    saved: list[int] = []

    class Watched(LastCheckpoint):
        def _save(self, trainer: Trainer) -> None:
            super()._save(trainer)
            saved.append(trainer.global_step)

    handler = signal.getsignal(signal.SIGINT)  # another one where the tests run in the background of a shell
    trainer = quiet_trainer(tmp_path, Watched(tmp_path, every_n_steps=3), max_epochs=2)
    trainer.fit(classifier(), datamodule=TinyImages(rows=77))
    assert saved == [3, 6, 7, 10, 13, 14]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_dropout_and_mixing_follow_the_seed(tmp_path: Path) -> None:
    def one(seed: int) -> ImageClassifier:
        task = classifier(mixup=0.4)
        seed_everything(seed)
        quiet_trainer(tmp_path, max_epochs=1).fit(task, datamodule=TinyImages(rows=23))
        return task

    assert difference(one(5), one(5)) == 0.0
    assert difference(one(5), one(7)) > 0


def go_on(folder: Path, name: str = "last.ckpt", max_epochs: int = 2, **options: Any) -> ImageClassifier:
    task = classifier(**options)
    trainer = quiet_trainer(folder, LastCheckpoint(folder), max_epochs=max_epochs)
    trainer.fit(task, datamodule=TinyImages(rows=23), ckpt_path=folder / name)
    return task


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint of a first epoch."""
    folder = tmp_path_factory.mktemp("begun")
    trainer = quiet_trainer(folder, LastCheckpoint(folder))
    trainer.fit(classifier(optimizer=OptimizerSpec(lr=1e-3)), datamodule=TinyImages(rows=23))
    (folder / "last.ckpt").rename(folder / "one.ckpt")
    return folder


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (OptimizerSpec(lr=3e-4), r"optimizer.lr is 0.001 in the checkpoint and 0.0003 here. .*--model.weights FILE"),
        (OptimizerSpec(weight_decay=0.1), r"optimizer.weight_decay is 0.05 in the checkpoint and 0.1 here"),
        (OptimizerSpec("sgd"), r"optimizer.name is adamw in the checkpoint and sgd here"),
        (OptimizerSpec(betas=(0.8, 0.9)), r"optimizer.betas is None in the checkpoint and \[0.8, 0.9\] here"),
    ],
)
def test_the_optimizer_goes_on_as_it_was(begun: Path, optimizer: OptimizerSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        go_on(begun, "one.ckpt", optimizer=optimizer)


def test_the_schedule_may_change(begun: Path) -> None:
    """Unlike the optimizer's settings it is not in the checkpoint: a run may get longer, or end in another way."""
    task = go_on(begun, "one.ckpt", max_epochs=3, schedule=ScheduleSpec("constant", warmup=0.0))
    assert task.trainer.current_epoch == 3
    assert {group["lr"] for group in task.trainer.optimizers[0].param_groups} == {1e-3}


def test_weights_alone_are_no_run_to_go_on_with(begun: Path) -> None:
    content = torch.load(begun / "one.ckpt", weights_only=True)
    del content["optimizer_states"], content["lr_schedulers"]
    torch.save(content, begun / "weights.ckpt")
    with pytest.raises(ValueError, match=r"weights without the state of the optimizer: start a new run from them"):
        go_on(begun, "weights.ckpt")
