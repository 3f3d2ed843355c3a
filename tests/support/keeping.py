"""A task that learns nothing: it keeps the batches that it is given."""

from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor


class Keeping(LightningModule):
    """Keeps what it is validated on, tested on, or given to predict."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[dict[str, Any]] = []

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.batches.append(batch)

    test_step = validation_step

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.batches.append(batch)
        return batch["index"]
