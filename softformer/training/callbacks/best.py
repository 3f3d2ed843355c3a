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
    """Saves best.ckpt: the best value of a metric, and of equal values the lowest validation loss.

    With few rows to validate on, many epochs have the same accuracy; the first of them is rarely the best network.

    Args:
        folder: Folder of best.ckpt.
        monitor: The metric.
        mode: "max" if larger values are better, else "min".
    """

    def __init__(self, folder: Path, monitor: str, mode: Literal["min", "max"]) -> None:
        options: dict[str, Any] = {"auto_insert_metric_name": False, "enable_version_counter": False}
        super().__init__(folder, filename="best", monitor=monitor, mode=mode, **options)
        self.best_loss = math.inf

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether the epoch that was just validated is the best so far."""
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
        """The validation loss; infinite without one."""
        loss = float(trainer.callback_metrics.get(_LOSS, math.inf))
        return math.inf if math.isnan(loss) else loss

    def state_dict(self) -> dict[str, Any]:
        """The state for a resumed run."""
        return {**super().state_dict(), "best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        super().load_state_dict(state_dict)
        self.best_loss = state_dict["best_loss"]
