"""Metrics of classifiers, and the check of their labels."""

from typing import Literal

from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelAveragePrecision,
    MultilabelConfusionMatrix,
    MultilabelExactMatch,
    MultilabelF1Score,
)
from torchmetrics.utilities.data import dim_zero_cat

_BEST = 5
# The memory of a confusion matrix grows with the square of the number of classes.
_MOST_COUNTED = 4096


def class_counter(num_classes: int, multi_label: bool) -> Metric | None:
    """The confusion matrix; None where there are too many classes for it."""
    if multi_label:
        return MultilabelConfusionMatrix(num_classes)
    return MulticlassConfusionMatrix(num_classes) if num_classes <= _MOST_COUNTED else None


def classification_metrics(
    num_classes: int, multi_label: bool, *, second: Literal["top5_accuracy", "f1"]
) -> MetricCollection:
    """Metrics of every stage: accuracy and a second one; for several labels accuracy, F1 and exact matches.

    F1 is the mean over classes. With several labels a class that no row has counts as zero.
    """
    if multi_label:
        return MetricCollection(
            {
                "accuracy": MultilabelAccuracy(num_classes, average="micro"),
                "f1": MultilabelF1Score(num_classes, average="macro"),
                "exact_match": MultilabelExactMatch(num_classes),
            }
        )
    more = {
        "top5_accuracy": MulticlassAccuracy(num_classes, average="micro", top_k=min(_BEST, num_classes)),
        "f1": MulticlassF1Score(num_classes, average="macro"),
    }
    return MetricCollection({"accuracy": MulticlassAccuracy(num_classes, average="micro"), second: more[second]})


def check_num_classes(num_classes: int | None) -> int:
    """The number of classes; a ValueError unless it is given and at least 2."""
    if num_classes is None or num_classes < 2:
        single = "; the label column has a single class: choose another label_column or train_split"
        raise ValueError(
            f"num_classes must be given and at least 2, got {num_classes}{single if num_classes == 1 else ''}"
        )
    return num_classes


def ranking_metrics(num_classes: int) -> dict[str, Metric]:
    """Further metrics of several labels, in evaluations only, because they store the scores of all rows."""
    return {"map": MeanAveragePrecision(num_classes)}


class MeanAveragePrecision(MultilabelAveragePrecision):
    """The mean of the average precision over the classes that some row has; NaN without rows.

    The mean of torchmetrics counts a class without a row as zero.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="none")

    def compute(self) -> Tensor:
        """The mean, a scalar."""
        present = dim_zero_cat(self.target).sum(0) > 0
        return super().compute()[present].mean()


def check_labels(labels: Tensor, num_classes: int, multi_label: bool) -> None:
    """Raise a ValueError for labels of another shape, or outside the classes."""
    if multi_label:
        if labels.ndim != 2 or labels.shape[1] != num_classes:
            raise ValueError(
                f"with several labels they must have shape (batch, {num_classes}), got {tuple(labels.shape)}"
            )
        return
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape (batch,), got {tuple(labels.shape)}; is multi_label missing?")
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise ValueError(f"labels must lie between 0 and {num_classes - 1}, got {wrong.unique().tolist()}")
