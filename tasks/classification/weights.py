"""Weights of classes in a loss: given, or against their frequency."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

ClassWeights = list[float] | Literal["balanced"] | None


def starting_weights(class_weights: Any, num_classes: int) -> Tensor:
    """(K,) weights as they were given; ones where there are none, or where the data has to tell them.

    Args:
        class_weights: A number for each class, "balanced", or None.
        num_classes: Number of classes K.

    Raises:
        ValueError: They are something else, or not K, or one is not positive.
    """
    if class_weights is None or (isinstance(class_weights, str) and class_weights == "balanced"):
        return torch.ones(num_classes)
    numbers = isinstance(class_weights, Sequence) and all(isinstance(weight, int | float) for weight in class_weights)
    if not numbers or len(class_weights) != num_classes or not min(class_weights) > 0:
        raise ValueError(
            f"class_weights must be {num_classes} positive numbers, one a class, or 'balanced', got {class_weights!r}"
        )
    return torch.tensor(class_weights, dtype=torch.float32)


def balanced_weights(counts: list[int] | None, rows: int, multi_label: bool) -> Tensor:
    """Weights of classes against their frequency.

    Args:
        counts: Training rows of each class; None where they cannot be counted.
        rows: Training rows in all.
        multi_label: Whether a row may have several classes.

    Returns:
        (K,): rows / (K counts) for one label, as scikit-learn does; absences over presences for several.

    Raises:
        ValueError: The rows were not counted, or a class has none.
    """
    if counts is None or min(counts) == 0:
        raise ValueError(
            f"class_weights='balanced' needs training rows of every class that can be counted, got {counts}; "
            "give the weights as numbers"
        )
    present = torch.tensor(counts, dtype=torch.float32)
    return (rows - present) / present if multi_label else rows / (len(counts) * present)
