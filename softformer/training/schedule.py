"""The learning rate over the steps of a run: warm-up, then a curve down to a floor."""

import math
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from softformer.training.specs import Settings

ScheduleName = Literal["cosine", "linear", "constant"]


class ScheduleSpec(Settings):
    """Learning rate over the whole run, changed at every optimizer step.

    Args:
        name: Shape after the warm-up: half a cosine, a straight line, or none.
        warmup: Share of all steps over which the rate rises in a straight line, in [0, 1); 10 epochs of 300 are 0.0333.
        min_lr: Rate after the last step (of the head, where layers have their own).
    """

    def __init__(self, name: ScheduleName = "cosine", warmup: float = 0.05, min_lr: float = 0.0) -> None:
        self.name = name
        self.warmup = warmup
        self.min_lr = min_lr
        if not 0 <= self.warmup < 1:
            raise ValueError(f"schedule.warmup must be a share of all steps in [0, 1), got {self.warmup}")
        if self.min_lr < 0:
            raise ValueError(f"schedule.min_lr must be zero or positive, got {self.min_lr}")


class RunSchedule(LambdaLR):
    """The scheduler of a `ScheduleSpec`, stepped once per optimizer step.

    `start` sets the length of the run when training starts; until then the rates are the peak rates. To ask Lightning
    for it while optimizers are made would open the training data before a resumed run knows its place.

    Args:
        optimizer: Its groups hold their peak rates.
        spec: The curve.
        lr: Peak rate of the head, which must be at least min_lr.
    """

    def __init__(self, optimizer: Optimizer, spec: ScheduleSpec, lr: float) -> None:
        if spec.min_lr > lr:
            raise ValueError(f"schedule.min_lr must not exceed optimizer.lr, got {spec.min_lr} and {lr}")
        self.total_steps: int | None = None
        super().__init__(optimizer, lambda step: self._factor(step, spec, spec.min_lr / lr))

    def start(self, total_steps: int) -> None:
        """Set the number of optimizer steps of the whole run, and the rates of the current step."""
        self.total_steps = total_steps
        for group, peak, factor in zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas):
            group["lr"] = peak * factor(self.last_epoch)

    def _factor(self, step: int, spec: ScheduleSpec, floor: float) -> float:
        total = self.total_steps
        return 1.0 if total is None else lr_factor(step, total, round(spec.warmup * total), spec.name, floor)


def lr_factor(step: int, total_steps: int, warmup_steps: int, name: ScheduleName, floor: float) -> float:
    """The factor on the peak learning rate at a step.

    Args:
        step: Optimizer steps taken so far.
        total_steps: Optimizer steps of the run; steps after it keep the floor.
        warmup_steps: Steps of the rise, of which the first already has the factor 1 / warmup_steps.
        name: Shape after the rise.
        floor: Factor at the end.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if name == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    curve = 1 - progress if name == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return floor + (1 - floor) * curve
