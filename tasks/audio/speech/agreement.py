"""Whether the weights, the data and the batches of a speech recognizer mean the same units."""

from typing import Any

import torch
from torch import Tensor, nn

from softformer.training.checkpoints.weights import WeightReport
from tasks.audio.speech.units import UNITS_FILE, units_from

REMEDY = (
    "take the units that the weights were trained with, and the same writing: --data.units FileUnits --data.units.path "
    f"FOLDER, where FOLDER is that of the run and holds {UNITS_FILE}"
)


def check_unit_weights(report: WeightReport | None, head: nn.Linear) -> None:
    """Accept starting weights of the encoder's width, with a row for each unit or without any.

    The head of a classifier is no obstacle: that of the recognizer then keeps its start.

    Args:
        report: What was loaded; None where nothing was.
        head: The network's layer `head`, which names the units.

    Raises:
        ValueError: The file has a layer of another width, or of another number of units.
    """
    if report is None:
        return
    shapes = dict(entry.split(" ", 1) for entry in report.reshaped)
    width, units = shapes.get("backbone.subsampling.project.weight"), shapes.get("head.weight")
    if width is not None:
        raise ValueError(
            f"weights: {report.path} must have the width of the encoder, {head.in_features}, but the shapes of its "
            f"first linear layer differ: {width}. Set the encoder's options as they were"
        )
    if units is not None and not ((report.processor or {}).get("init_args") or {}).get("class_names"):
        raise ValueError(
            f"weights: {report.path} must have as many units as the data, but the shapes (units, width) differ: "
            f"{units}; {REMEDY}"
        )


def check_same_units(name: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Accept data whose units have the same numbers as in trained weights.

    Args:
        name: What to call the weights.
        theirs: Units of the weights as plain values.
        ours: Units of the data as plain values.

    Raises:
        ValueError: A number stands for another unit.
    """
    if difference := unit_difference(theirs, ours, "the weights"):
        raise ValueError(f"{name} belongs to other units: {difference}; {REMEDY}")


def unit_difference(ours: dict[str, Any], data: dict[str, Any], name: str) -> str | None:
    """The first unit that has another number in the data, with units as plain values; None without one."""
    before, now = units_from(ours).table, units_from(data).table
    if before == now:
        return None
    number = next(i for i in range(max(len(before), len(now))) if before[i : i + 1] != now[i : i + 1])
    return f"unit {number} is {_unit(now, number)} in the data and {_unit(before, number)} in {name}"


def check_batch_units(units: Tensor, num_units: Tensor, size: int) -> None:
    """Accept transcripts that a network can write.

    Args:
        units: (B, U) int64, padded.
        num_units: (B,) int64, how many of the U are real.
        size: Number of units V of the network.

    Raises:
        ValueError: A transcript is empty, or holds the blank or a unit outside the network's.
    """
    if int(num_units.min()) < 1:
        raise ValueError("a transcript of the batch is empty; leave such recordings out")
    real = units[torch.arange(units.shape[1]) < num_units.unsqueeze(1)]
    least, most = int(real.min()), int(real.max())
    if least < 1 or most >= size:
        raise ValueError(
            f"transcripts must be of units 1 to {size - 1}, those of the network without the blank, got {least} to "
            f"{most}: use the units that it was trained with"
        )


def _unit(table: list[str], number: int) -> str:
    return repr(table[number]) if number < len(table) else "none"
