"""Predictions of a classifier: the top-k classes and their probabilities."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

TOP_K = 5


class Prediction(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


def top_predictions(probabilities: Tensor, names: Sequence[str], top_k: int) -> list[list[Prediction]]:
    """The top-k of K named classes for each row of probabilities (B, K), best first; at most K."""
    values, classes = probabilities.topk(min(top_k, probabilities.shape[1]))
    return [
        [Prediction(names[number], value) for number, value in zip(numbers, row)]
        for numbers, row in zip(classes.tolist(), values.tolist())
    ]


def prediction_rows(
    batch: dict[str, Any], predictions: Sequence[Sequence[Prediction]], inputs: Sequence[str] = ("file",)
) -> list[dict[str, Any]]:
    """Rows of a table of predictions: index, the inputs, then class_1, probability_1, class_2, and so on.

    Args:
        batch: Dictionary with index (B,), and lists (B) of names or texts.
        predictions: Predictions of the B inputs.
        inputs: Keys of the lists that become columns; a missing "file" is replaced by the row numbers.
    """
    indices = batch["index"].tolist()
    given = {"file": indices, **batch}
    rows = []
    for place, (index, classes) in enumerate(zip(indices, predictions)):
        row = {"index": index, **{name: given[name][place] for name in inputs if name in given}}
        for rank, (label, probability) in enumerate(classes, start=1):
            row |= {f"class_{rank}": label, f"probability_{rank}": f"{probability:.6f}"}
        rows.append(row)
    return rows
