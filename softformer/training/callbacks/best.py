"""The best checkpoint of a run."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

_LOSS = "val/loss"


class BestCheckpoint(ModelCheckpoint):
    """Keeps best.ckpt: the best value of a metric, and of equal ones the lowest loss of validation.

    With few rows to validate on, many epochs have the same accuracy; the first of them is rarely the best network.

    Args:
        folder: Where best.ckpt goes.
        monitor: The metric.
        mode: Whether it should grow or shrink.
    """

    def __init__(self, folder: Path, monitor: str, mode: Literal["min", "max"]) -> None:
        super().__init__(
            folder,
            filename="best",
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.best_loss = math.inf

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether the epoch just validated is to be kept."""
        if super().check_monitor_top_k(trainer, current):
            return True
        best = self.best_model_score
        equal = current is not None and best is not None and bool(torch.as_tensor(current) == torch.as_tensor(best))
        # All processes have the same values, which are synchronized.
        return equal and self._loss(trainer) < self.best_loss

    def _update_best_and_save(self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        self.best_loss = self._loss(trainer)
        super()._update_best_and_save(current, trainer, monitor_candidates)

    def _loss(self, trainer: Trainer) -> float:
        """The loss of the validation; infinite where the task logs none, or no row had one."""
        loss = float(trainer.callback_metrics.get(_LOSS, math.inf))
        return math.inf if math.isnan(loss) else loss

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {**super().state_dict(), "best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where an earlier run stopped."""
        super().load_state_dict(state_dict)
        self.best_loss = state_dict["best_loss"]
