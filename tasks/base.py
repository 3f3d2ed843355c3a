"""What all tasks keep of the data that they learned from: how inputs are prepared."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from softformer.training.module import SoftformerModule


class InputSettingsModule(SoftformerModule):
    """Base of the tasks that know how their inputs are prepared.

    A data module with ``input_settings()`` tells it when training begins; checkpoints keep it.

    Attributes:
        input_settings: How inputs are prepared, as plain values; None before any data was met.
    """

    input_settings: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Learn how inputs are prepared: from the data that is trained on, or from the file of the weights."""
        if stage == "fit":
            self.input_settings = self._told_by_data() or self.input_settings
        elif self.input_settings is None and self.weight_report is not None:
            self.input_settings = self.weight_report.input_settings

    def _told_by_data(self) -> dict[str, Any] | None:
        describe = getattr(getattr(self.trainer, "datamodule", None), "input_settings", None)
        return None if describe is None else describe()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how inputs are prepared."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["input_settings"] = self.input_settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over how inputs are prepared; a run that trains learned it from its own data."""
        super().on_load_checkpoint(checkpoint)
        if self.input_settings is None or not self.trains:
            self.input_settings = checkpoint.get("input_settings")

    @property
    def trains(self) -> bool:
        """Whether a run trains the task at present."""
        return self._trainer is not None and self.trainer.state.fn == "fit"

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Evaluation mode without gradients inside the block."""
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(training)
