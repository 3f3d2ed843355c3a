"""Predictions of a classifier: the best classes and their probabilities."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

BEST = 5


class Guess(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


def best_guesses(probabilities: Tensor, names: Sequence[str], top_k: int) -> list[list[Guess]]:
    """The likeliest classes of each row, best first.

    Args:
        probabilities: (B, K).
        names: Of the K classes.
        top_k: How many; at most K.
    """
    values, classes = probabilities.topk(min(top_k, probabilities.shape[1]))
    return [
        [Guess(names[number], value) for number, value in zip(numbers, row)]
        for numbers, row in zip(classes.tolist(), values.tolist())
    ]


def columns(guesses: Sequence[Guess]) -> dict[str, str]:
    """Guesses as columns of a table: class_1, probability_1, class_2 and so on."""
    row: dict[str, str] = {}
    for place, (label, probability) in enumerate(guesses, start=1):
        row |= {f"class_{place}": label, f"probability_{place}": f"{probability:.6f}"}
    return row
