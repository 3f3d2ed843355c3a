"""Checks that weights, data, and batches of a speech recognizer have the same units."""

from typing import Any

import torch
from torch import Tensor, nn

from softformer.training.checkpoints.weights import WeightReport
from tasks.audio.speech.units import UNITS_FILE, units_from

REMEDY = (
    "use the units and the writing that the weights were trained with: --data.units FileUnits --data.units.path FOLDER"
    f", where FOLDER is the folder of that run, with its {UNITS_FILE}"
)


def check_unit_weights(report: WeightReport | None, head: nn.Linear) -> None:
    """Accept pretrained weights that have the width of the encoder, and a row for each unit if they have a head.

    The head of a classifier may differ; that of the recognizer then keeps its initial weights.

    Args:
        report: Report of the loaded weights; None without pretrained weights.
        head: The last layer of the network, of one output for each unit.

    Raises:
        ValueError: The weights have another width, or another number of units.
    """
    if report is None:
        return
    shapes = dict(entry.split(" ", 1) for entry in report.reshaped)
    width, units = shapes.get("backbone.subsampling.project.weight"), shapes.get("head.weight")
    if width is not None:
        raise ValueError(
            f"weights must have the width of the encoder, {head.in_features}, got another in {report.path}: the shapes "
            f"of the first linear layer differ, {width}; set the options of the encoder as they were"
        )
    if units is not None and not ((report.processor or {}).get("init_args") or {}).get("class_names"):
        raise ValueError(
            f"weights must have as many units as the data, got another number in {report.path}: the shapes (units, "
            f"width) differ, {units}; {REMEDY}"
        )


def unit_difference(trained: dict[str, Any], data: dict[str, Any], name: str) -> str | None:
    """The first unit whose number differs between trained weights and data; None for equal units.

    Args:
        trained: Units of the weights as plain values.
        data: Units of the data as plain values.
        name: Name of the weights in the answer.
    """
    before, now = units_from(trained).table, units_from(data).table
    if before == now:
        return None
    number = next(i for i in range(max(len(before), len(now))) if before[i : i + 1] != now[i : i + 1])
    return f"unit {number} is {_unit(now, number)} in the data and {_unit(before, number)} in {name}"


def check_batch_units(units: Tensor, num_units: Tensor, size: int) -> None:
    """Accept transcripts of the units of a network.

    Args:
        units: (B, U) int64, padded.
        num_units: (B,) int64, number of real units.
        size: Number of units V of the network.

    Raises:
        ValueError: A transcript is empty, or has the blank or a unit that the network lacks.
    """
    if int(num_units.min()) < 1:
        raise ValueError("transcripts must have at least one unit, got an empty one; leave such recordings out")
    real = units[torch.arange(units.shape[1]) < num_units.unsqueeze(1)]
    least, most = int(real.min()), int(real.max())
    if least < 1 or most >= size:
        raise ValueError(
            f"transcripts must have units 1 to {size - 1}, those of the network without the blank, got {least} to "
            f"{most}; use the units that the network was trained with"
        )


def _unit(table: list[str], number: int) -> str:
    return repr(table[number]) if number < len(table) else "none"
