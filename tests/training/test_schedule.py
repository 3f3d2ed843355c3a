"""The learning rate of every step, also with accumulated gradients and in a run that goes on."""

import math

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tiny_images import TinyImages
from torch.optim import SGD

from softformer.training.encoders import TimmSpec
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import RunSchedule, ScheduleSpec, lr_factor
from tasks.image import ImageClassifier


def rates(spec: ScheduleSpec, steps: int, lr: float = 1.0) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = RunSchedule(optimizer, spec, lr)
    schedule.start(steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_cosine_by_hand() -> None:
    expected = [0.5, 1.0, 1.0, *(0.1 + 0.9 * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(1, 5))]
    assert rates(ScheduleSpec("cosine", warmup=2 / 7, min_lr=0.1), 7) == pytest.approx(expected)


def test_linear_and_constant_by_hand() -> None:
    assert rates(ScheduleSpec("linear", warmup=0.0), 5) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert rates(ScheduleSpec("constant", warmup=0.4), 5, lr=3.0) == pytest.approx([1.5, 3.0, 3.0, 3.0, 3.0])


def test_no_step_is_wasted_and_the_floor_is_kept() -> None:
    assert min(rates(ScheduleSpec(warmup=0.1), 30)) > 0
    assert lr_factor(11, 11, 0, "cosine", 0.2) == pytest.approx(0.2)
    assert lr_factor(99, 11, 0, "cosine", 0.2) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": 1.0}, r"schedule.warmup must be a share of all steps in \[0, 1\), got 1.0"),
        ({"min_lr": -0.1}, "schedule.min_lr must be zero or positive, got -0.1"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduleSpec(**options)  # type: ignore[arg-type]


def test_floor_above_the_peak() -> None:
    with pytest.raises(ValueError, match=r"schedule.min_lr must not exceed optimizer.lr, got 2.0 and 1.0"):
        rates(ScheduleSpec(min_lr=2.0), 3)


class Rates(Callback):
    """Notes the learning rate of each optimizer step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: object) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_accumulated_gradients_count_as_one_step() -> None:
    seen = Rates()
    task = ImageClassifier(
        TimmSpec("test_vit", img_size=32),
        num_classes=7,
        optimizer=OptimizerSpec(lr=1e-3),
        schedule=ScheduleSpec("linear", warmup=0.0),
    )
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        accumulate_grad_batches=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[seen],
    )
    trainer.fit(task, datamodule=TinyImages(rows=77))  # 7 batches: steps after 3, 6 and the last
    assert seen.seen == pytest.approx([1e-3 * (1 - step / 6) for step in range(6)])


def test_a_run_without_end_has_no_schedule() -> None:
    task = ImageClassifier(TimmSpec("test_vit", img_size=32), num_classes=7)
    trainer = Trainer(
        max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    with pytest.raises(ValueError, match=r"needs the length of the run: set trainer.max_epochs or trainer.max_steps"):
        trainer.fit(task, datamodule=TinyImages())
