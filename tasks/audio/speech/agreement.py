"""Checks of the units of weights, data, and batches of a speech recognizer."""

from typing import Any

import torch
from torch import Tensor, nn

from softformer.training.checkpoints.weights import WeightReport
from tasks.audio.speech.units import UNITS_FILE, units_from

REMEDY = (
    "use the units and the normalization (writing) of the run that trained the weights: --data.units FileUnits "
    f"--data.units.path FOLDER, where FOLDER is the folder of that run, with its {UNITS_FILE}"
)


def check_unit_weights(report: WeightReport | None, head: nn.Linear) -> None:
    """Raise ValueError unless pretrained weights have the width of the encoder, and a row for each unit in their head.

    A head of class labels may differ; the head of the recognizer then keeps its initial weights.
    """
    if report is None:
        return
    shapes = dict(entry.split(" ", 1) for entry in report.reshaped)
    width, units = shapes.get("backbone.subsampling.project.weight"), shapes.get("head.weight")
    if width is not None:
        raise ValueError(
            f"weights must have the width of the encoder, {head.in_features}, got another in {report.path}: the shapes "
            f"of the first linear layer differ, {width}; set the options of the encoder as in the run of the weights"
        )
    if units is not None and not ((report.processor or {}).get("init_args") or {}).get("class_names"):
        raise ValueError(
            f"weights must have as many units as the data, got another number in {report.path}: the shapes (units, "
            f"width) differ, {units}; {REMEDY}"
        )


def unit_difference(trained: dict[str, Any], data: dict[str, Any], name: str) -> str | None:
    """A message on the first unit that differs between `name` and the data; None for equal units."""
    before, now = units_from(trained).table, units_from(data).table
    if before == now:
        return None
    number = next(i for i in range(max(len(before), len(now))) if before[i : i + 1] != now[i : i + 1])
    return f"unit {number} is {_unit(now, number)} in the data and {_unit(before, number)} in {name}"


def check_batch_units(units: Tensor, num_units: Tensor, size: int) -> None:
    """Raise ValueError unless transcripts have the units of a network.

    Args:
        units: (B, U) int64, padded.
        num_units: (B,) int64, number of real units.
        size: Number of units V of the network, the blank included.
    """
    if int(num_units.min()) < 1:
        raise ValueError("transcripts must have at least one unit, got an empty one; leave such recordings out")
    real = units[torch.arange(units.shape[1]) < num_units.unsqueeze(1)]
    least, most = int(real.min()), int(real.max())
    if least < 1 or most >= size:
        raise ValueError(
            f"transcripts must have units 1 to {size - 1}, the units of the network without the blank, got {least} to "
            f"{most}; use the units that the network was trained with"
        )


def _unit(table: list[str], number: int) -> str:
    return repr(table[number]) if number < len(table) else "none"
