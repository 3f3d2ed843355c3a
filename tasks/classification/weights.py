"""Weights of classes in a loss: given, or inverse to their frequency."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

ClassWeights = list[float] | Literal["balanced"] | None


def starting_weights(class_weights: Any, num_classes: int) -> Tensor:
    """(K,) given weights, which must be positive numbers; ones for "balanced", which the data decides, and for None."""
    if class_weights is None or (isinstance(class_weights, str) and class_weights == "balanced"):
        return torch.ones(num_classes)
    numbers = isinstance(class_weights, Sequence) and all(isinstance(weight, int | float) for weight in class_weights)
    if not numbers or len(class_weights) != num_classes or not min(class_weights) > 0:
        raise ValueError(
            f"class_weights must be {num_classes} positive numbers, one a class, or 'balanced', got {class_weights!r}"
        )
    return torch.tensor(class_weights, dtype=torch.float32)


def balanced_weights(counts: list[int] | None, rows: int, multi_label: bool) -> Tensor:
    """Weights of classes inverse to their frequency, (K,).

    rows / (K counts) for one label, as in scikit-learn; (rows - counts) / counts for several. A ValueError if the rows
    of the classes cannot be counted (None), or a class has none.
    """
    if counts is None or min(counts) == 0:
        raise ValueError(
            f"class_weights='balanced' needs training rows of every class that can be counted, got {counts}; "
            "give the weights as numbers"
        )
    present = torch.tensor(counts, dtype=torch.float32)
    return (rows - present) / present if multi_label else rows / (len(counts) * present)
