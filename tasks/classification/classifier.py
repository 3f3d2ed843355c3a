"""What all classifiers have in common: metrics, counts of classes, their names, and what they learn from their data."""

from typing import Any, Literal

import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from softformer.training.module import Stage
from tasks.base import InputSettingsModule
from tasks.classification.metrics import class_counter, classification_metrics, ranking_metrics
from tasks.classification.predictions import BEST, Guess, best_guesses
from tasks.classification.weights import ClassWeights, balanced_weights, starting_weights
from tasks.data.labels import shortened


class Classifier(InputSettingsModule):
    """Base of the classifiers: a task that turns inputs into one class or several.

    A subclass calls `set_classes`, and in its `step` `count`. What a data module tells it (`input_settings`) also holds
    the names of the classes, as "class_names".

    Attributes:
        num_classes: Number of classes K.
        multi_label: Whether an input has any number of labels, as (B, K) zeros and ones, instead of one.
        label_smoothing: Share of the target that is spread over all classes in training.
        class_weights: (K,) weights of the classes in the loss, in training alone.
    """

    num_classes: int
    multi_label: bool
    label_smoothing: float
    class_weights: Tensor

    def set_classes(
        self,
        num_classes: int,
        multi_label: bool,
        *,
        beside: Literal["top5_accuracy", "f1"],
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
    ) -> None:
        """Set up metrics and loss.

        Args:
            num_classes: As in `tasks.classification.metrics.classification_metrics`.
            multi_label: Likewise.
            beside: Likewise.
            label_smoothing: In [0, 1).
            class_weights: Weights of the classes in the loss, in the order of their numbers; with several labels those
                of the presence of each. "balanced" weighs them against their frequency in the training split.

        Raises:
            ValueError: label_smoothing or the weights are out of range.
        """
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.label_smoothing = label_smoothing
        self._class_weights = class_weights
        kept = class_weights is not None
        self.register_buffer("class_weights", starting_weights(class_weights, num_classes), persistent=kept)
        self.monitor, self.monitor_mode = ("val/f1" if multi_label else "val/accuracy"), "max"
        self.make_metrics(classification_metrics(num_classes, multi_label, beside=beside))
        if multi_label:
            for metrics in (self.val_metrics, self.test_metrics):
                metrics.add_metrics(ranking_metrics(num_classes))
        self.val_counts = class_counter(num_classes, multi_label)
        self.test_counts = class_counter(num_classes, multi_label)

    def count(self, stage: Stage, logits: Tensor, target: Tensor) -> None:
        """Update the metrics of a stage, and in evaluations the counts of classes."""
        # Told logits that happen to lie in [0, 1], torchmetrics takes them for probabilities.
        scores = logits.detach().sigmoid() if self.multi_label else logits.detach()
        self.log_metrics(stage, scores, target.long())
        if stage != "train" and (counts := self._counts(stage)) is not None:
            counts.update(scores, target.long())

    def setup(self, stage: str) -> None:
        """Learn from the data that is trained on; balance the classes by their frequency there.

        Raises:
            ValueError: The classes are to be balanced, and the data does not count them, or lacks one.
        """
        super().setup(stage)
        if stage == "fit" and self._class_weights == "balanced":
            data: Any = getattr(self.trainer, "datamodule", None)
            counts = getattr(data, "class_counts", None)
            rows = 0 if counts is None else len(data.split_for("train"))
            self.class_weights.copy_(balanced_weights(counts, rows, self.multi_label))

    def loss(self, logits: Tensor, target: Tensor, stage: Stage) -> Tensor:
        """Cross entropy, binary for several labels; smoothed and weighted in training alone.

        Args:
            logits: (B, K) float32.
            target: (B,) class numbers, or (B, K) shares of several labels.
            stage: Where the batch is from.
        """
        smoothing = self.label_smoothing if stage == "train" else 0.0
        weights = self.class_weights if stage == "train" and self._class_weights is not None else None
        if self.multi_label:
            smooth = target.float() * (1 - smoothing) + smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights)
        return F.cross_entropy(logits, target, weight=weights, label_smoothing=smoothing)

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

    @property
    def num_told(self) -> int:
        """How many classes a row of predictions tells: the best five, or all where an input may have any number."""
        return self.num_classes if self.multi_label else BEST

    def guesses(self, logits: Tensor, top_k: int) -> list[list[Guess]]:
        """The likeliest classes of each row of logits (B, K) and their probabilities, best first."""
        logits = logits.float()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(-1)
        return best_guesses(probabilities, self.class_labels(), top_k)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over how inputs are prepared; warn where a run that trains has classes of other names."""
        super().on_load_checkpoint(checkpoint)
        ours, stored = self.input_settings, checkpoint.get("input_settings")
        if ours is not None and stored is not None and stored.get("class_names") != ours.get("class_names"):
            rank_zero_warn("the classes of the checkpoint have other names than those of the data; check their order")
