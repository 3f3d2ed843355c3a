"""The base of all classifiers: the classes of a processor, metrics, loss, and predictions."""

from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from softformer.training.module import Stage
from tasks.base import Task
from tasks.classification.metrics import class_counter, classification_metrics, ranking_metrics
from tasks.classification.predictions import TOP_K, Prediction, top_predictions
from tasks.classification.weights import ClassWeights, balanced_weights, starting_weights
from tasks.data.labels import shortened
from tasks.processor import Processor

P = TypeVar("P", bound=Processor)


def given_classes(num_classes: int | None, multi_label: bool, processor: Processor | None) -> tuple[int | None, bool]:
    """num_classes and multi_label by a processor that has classes; a ValueError if the arguments contradict it."""
    if processor is None or not processor.class_names:
        return num_classes, multi_label
    count = len(processor.class_names)
    if num_classes not in (None, count):
        raise ValueError(
            f"num_classes must be {count}, as the data has the classes {shortened(processor.class_names)}, got "
            f"{num_classes}; leave num_classes out, or give the data that the checkpoint was trained on"
        )
    if multi_label and not processor.multi_label:
        raise ValueError("multi_label must be false, as a row of the data has one class, got true; leave it out")
    return count, processor.multi_label


class Classifier(Task[P]):
    """Base of the classifiers: a task that gives an input one class or several.

    A subclass calls `set_classes`, and `count` in its `step`.

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
        second: Literal["top5_accuracy", "f1"],
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
    ) -> None:
        """Set up metrics (see `classification_metrics`) and loss.

        class_weights are the weights of the classes in the loss, in the order of their numbers; with several labels the
        weights of the presence of each. "balanced" weighs them inversely to their frequency in the training split.
        """
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.label_smoothing = label_smoothing
        self._class_weights = class_weights
        weights = starting_weights(class_weights, num_classes)
        self.register_buffer("class_weights", weights, persistent=class_weights is not None)
        self.monitor, self.monitor_mode = ("val/f1" if multi_label else "val/accuracy"), "max"
        self.make_metrics(classification_metrics(num_classes, multi_label, second=second))
        if multi_label:
            for metrics in (self.val_metrics, self.test_metrics):
                metrics.add_metrics(ranking_metrics(num_classes))
        self.val_counts = class_counter(num_classes, multi_label)
        self.test_counts = class_counter(num_classes, multi_label)

    @torch.compiler.disable  # dynamo cannot trace torchmetrics
    def count(self, stage: Stage, logits: Tensor, target: Tensor) -> None:
        """Update the metrics of a stage, and in evaluations the confusion matrix."""
        # torchmetrics would take logits within [0, 1] for probabilities.
        scores = logits.detach().sigmoid() if self.multi_label else logits.detach()
        self.log_metrics(stage, scores, target.long())
        if stage != "train" and (counts := self._counts(stage)) is not None:
            counts.update(scores, target.long())

    def meet(self, data: Any) -> None:
        """As `Task.meet`; in training, also balance the classes by their frequency in the data."""
        super().meet(data)
        if (count := getattr(data, "num_classes", None)) not in (None, self.num_classes):
            raise ValueError(f"the data must have the {self.num_classes} classes of the network, got {count}")
        if self.trains and self._class_weights == "balanced":
            counts = getattr(data, "class_counts", None)
            rows = 0 if counts is None else len(data.split_for("train"))
            self.class_weights.copy_(balanced_weights(counts, rows, self.multi_label))

    def loss(self, logits: Tensor, target: Tensor, stage: Stage) -> Tensor:
        """Cross entropy, binary for several labels; smoothed and weighted in training only.

        Logits are (B, K) float32; the target is class numbers (B,), or shares of several labels (B, K).
        """
        smoothing = self.label_smoothing if stage == "train" else 0.0
        weights = self.class_weights if stage == "train" and self._class_weights is not None else None
        if self.multi_label:
            smooth = target.float() * (1 - smoothing) + smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights)
        return F.cross_entropy(logits, target, weight=weights, label_smoothing=smoothing)

    def on_validation_epoch_start(self) -> None:
        """Reset the confusion matrices."""
        for counts in (self.val_counts, self.test_counts):
            if counts is not None:
                counts.reset()

    on_test_epoch_start = on_validation_epoch_start

    def _counts(self, stage: Stage) -> Metric | None:
        return self.val_counts if stage == "val" else self.test_counts

    def class_labels(self) -> list[str]:
        """Names of the classes; their numbers where the names are unknown."""
        names = None if self.processor is None else self.processor.class_names
        return list(names) if names and len(names) == self.num_classes else [str(i) for i in range(self.num_classes)]

    def class_counts(self, stage: Stage) -> Tensor | None:
        """The confusion matrix of an evaluation, as in `softformer.training.callbacks.class_report.Classifies`."""
        return None if (counts := self._counts(stage)) is None else counts.compute()

    @property
    def listed(self) -> int:
        """Number of classes in a row of predictions: the best five, or all where an input may have any number."""
        return self.num_classes if self.multi_label else TOP_K

    def predictions(self, logits: Tensor, top_k: int) -> list[list[Prediction]]:
        """The top-k classes of each row of logits (B, K) and their probabilities, best first."""
        logits = logits.float()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(-1)
        return top_predictions(probabilities, self.class_labels(), top_k)
