"""What all classifiers have in common: metrics, counts of classes, their names, and what they learn from their data."""

from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from softformer.training.module import SoftformerModule, Stage
from tasks.classification_metrics import class_counter, classification_metrics
from tasks.guesses import Guess, best_guesses
from tasks.labels import shortened


class Classifier(SoftformerModule):
    """Base of the classifiers: a task that turns inputs into one class or several.

    A subclass calls `set_classes`, and in its `step` `count`. A data module with ``input_settings()`` tells it how
    inputs are prepared and what the classes are called; that is kept in checkpoints.

    Attributes:
        num_classes: Number of classes K.
        multi_label: Whether an input has any number of labels, as (B, K) zeros and ones, instead of one.
        input_settings: How inputs are prepared, and the class names, as plain values; None before any data was met.
    """

    num_classes: int
    multi_label: bool
    input_settings: dict[str, Any] | None

    def set_classes(self, num_classes: int, multi_label: bool, *, beside: Literal["top5_accuracy", "f1"]) -> None:
        """Set up metrics; arguments as `tasks.classification_metrics.classification_metrics`."""
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.input_settings = None
        self.monitor, self.monitor_mode = ("val/f1" if multi_label else "val/accuracy"), "max"
        self.make_metrics(classification_metrics(num_classes, multi_label, beside=beside))
        self.val_counts = class_counter(num_classes, multi_label)
        self.test_counts = class_counter(num_classes, multi_label)

    def count(self, stage: Stage, logits: Tensor, target: Tensor) -> None:
        """Update the metrics of a stage, and in evaluations the counts of classes."""
        # Told logits that happen to lie in [0, 1], torchmetrics takes them for probabilities.
        scores = logits.detach().sigmoid() if self.multi_label else logits.detach()
        self.log_metrics(stage, scores, target.long())
        if stage != "train" and (counts := self._counts(stage)) is not None:
            counts.update(scores, target.long())

    def on_validation_start(self) -> None:
        """Agree with the data on the classes."""
        if self.trainer.state.fn != "fit":
            self._meet_data()

    def on_test_start(self) -> None:
        """Agree with the data on the classes."""
        self._meet_data()

    def _meet_data(self) -> None:
        """Learn from the data of an evaluation what no checkpoint told; else check that both mean the same classes.

        Raises:
            ValueError: They do not.
        """
        told = self._told_by_data()
        self.input_settings = self.input_settings or told
        ours, theirs = ((settings or {}).get("class_names") for settings in (self.input_settings, told))
        if ours and theirs and ours != theirs:
            raise ValueError(
                f"the data must have the classes that the task was trained on, {shortened(ours)},"
                f" got {shortened(theirs)}"
            )
        count = getattr(getattr(self.trainer, "datamodule", None), "num_classes", None)
        if count not in (None, self.num_classes):
            raise ValueError(f"the data must have the {self.num_classes} classes of the network, got {count}")

    def _told_by_data(self) -> dict[str, Any] | None:
        describe = getattr(getattr(self.trainer, "datamodule", None), "input_settings", None)
        return None if describe is None else describe()

    def on_validation_epoch_start(self) -> None:
        """Count anew."""
        self._reset_counts("val")

    def on_test_epoch_start(self) -> None:
        """Count anew."""
        self._reset_counts("test")

    def _reset_counts(self, stage: Stage) -> None:
        if (counts := self._counts(stage)) is not None:
            counts.reset()

    def _counts(self, stage: Stage) -> Metric | None:
        return self.val_counts if stage == "val" else self.test_counts

    def class_labels(self) -> list[str]:
        """Names of the classes; their numbers where nothing is known."""
        names = (self.input_settings or {}).get("class_names")
        return list(names) if names and len(names) == self.num_classes else [str(i) for i in range(self.num_classes)]

    def class_counts(self, stage: Stage) -> Tensor | None:
        """Which class was taken for which in an evaluation (see `softformer.training.callbacks.class_report`)."""
        return None if (counts := self._counts(stage)) is None else counts.compute()

    def guesses(self, logits: Tensor, top_k: int) -> list[list[Guess]]:
        """The likeliest classes of each row of logits (B, K) and their probabilities, best first."""
        logits = logits.float()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(-1)
        return best_guesses(probabilities, self.class_labels(), top_k)

    def setup(self, stage: str) -> None:
        """Learn from the data that is trained on how inputs are prepared and what the classes are called."""
        if stage == "fit":
            self.input_settings = self._told_by_data() or self.input_settings

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how inputs are prepared."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["input_settings"] = self.input_settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over how inputs are prepared; a run that trains learned it from its own data."""
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint.get("input_settings")
        trains = self._trainer is not None and self.trainer.state.fn == "fit"
        if self.input_settings is None or not trains:
            self.input_settings = stored
        elif stored is not None and stored.get("class_names") != self.input_settings.get("class_names"):
            rank_zero_warn("the classes of the checkpoint have other names than those of the data; check their order")
