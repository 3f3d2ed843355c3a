"""Whether the weights, the data and the batches of a speech recognizer mean the same units."""

from typing import Any

import torch
from torch import Tensor, nn

from softformer.training.checkpoints.weights import WeightReport
from tasks.audio.speech.units import UNITS_FILE, units_from

_REMEDY = (
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
    if units is not None and "class_names" not in (report.input_settings or {}):
        raise ValueError(
            f"weights: {report.path} must have as many units as the data, but the shapes (units, width) differ: "
            f"{units}; {_REMEDY}"
        )


def check_same_units(name: str, theirs: dict[str, Any] | None, ours: dict[str, Any] | None) -> None:
    """Accept data whose units have the numbers that they have in trained weights, where both are known.

    Args:
        name: What to call the weights.
        theirs: Input settings of the weights; None where they are unknown.
        ours: Input settings of the data; None where there are none.

    Raises:
        ValueError: A number stands for another unit.
    """
    trained, given = (settings.get("units") if settings else None for settings in (theirs, ours))
    if trained is None or given is None or trained == given:
        return
    before, now = units_from(trained).table, units_from(given).table
    if before == now:
        return
    number = next(i for i in range(max(len(before), len(now))) if before[i : i + 1] != now[i : i + 1])
    raise ValueError(
        f"{name} belongs to other units: unit {number} is {_unit(before, number)} there, and {_unit(now, number)} in "
        f"the data; {_REMEDY}"
    )


def check_data_units(num_units: int, data: dict[str, Any], kind: str) -> None:
    """Accept data that have transcripts, of as many units as the network.

    Args:
        num_units: Number of units V of the network.
        data: Input settings of the data.
        kind: What to call the data.

    Raises:
        ValueError: There are no transcripts, or more units or fewer.
    """
    if "units" not in data:
        raise ValueError(f"the data has no transcripts: speech is learned from a SpeechDataModule, got {kind}")
    size = units_from(data["units"]).size
    if size != num_units:
        raise ValueError(
            f"the data must have the {num_units} units of the network, got {size}: leave num_units to the data, or "
            f"{_REMEDY}"
        )


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
