"""The content of our checkpoints besides weights, and the check that one fits a task."""

import inspect
import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from softformer.models.checkpoint_keys import (
    ARGUMENTS_KEY,
    CLASS_KEY,
    DATA_KEY,
    INSTANTIATOR_KEY,
    PROCESSOR_KEY,
    STATE_KEY,
)
from softformer.models.weight_files import plain_name, read_weight_file
from softformer.training.checkpoints.earlier import earlier_processor, with_public_paths
from softformer.training.specs import describe, public_path

_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
_SHOWN = 8

CheckpointFile = str | Path | IO[bytes]


def read_checkpoint(
    path: str | Path, map_location: str | torch.device = "cpu", *, mmap: bool = False
) -> dict[str, Any]:
    """The content of a checkpoint, also of an earlier version, in today's names; errors as in `read_weight_file`."""
    content = read_weight_file(path, kind="checkpoint", map_location=map_location, mmap=mmap)
    return {**content, **{key: with_public_paths(content[key]) for key in (ARGUMENTS_KEY, DATA_KEY) if key in content}}


def processor_description(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """The processor that a checkpoint holds, as ``{"class_path", "init_args"}``; None without one."""
    arguments = checkpoint.get(ARGUMENTS_KEY) or {}
    return arguments.get("processor") or checkpoint.get(PROCESSOR_KEY) or earlier_processor(checkpoint)


def as_read(checkpoint: CheckpointFile) -> CheckpointFile:
    """The result of `read_checkpoint` as a file in memory; other things than local files are returned unchanged."""
    if not isinstance(checkpoint, str | Path) or not Path(checkpoint).is_file():
        return checkpoint
    file = io.BytesIO()
    torch.save(read_checkpoint(checkpoint), file)
    file.seek(0)
    return file


def rebuildable_hyperparameters(kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that build a task again, as plain values and without starting weights, from its ``hparams``.

    Lightning's own keys are added, so that ``load_from_checkpoint`` turns dictionaries back into objects. An argument
    that is not plain is a ValueError.
    """
    # Lightning also collects arguments that a subclass passes to its base and may not take itself.
    taken = inspect.signature(kind).parameters
    hyperparameters = _described(kind, {name: value for name, value in arguments.items() if name in taken})
    hyperparameters = {name: _untrained(value) for name, value in hyperparameters.items()}
    if "weights" in hyperparameters:
        hyperparameters["weights"] = None
    return {**hyperparameters, CLASS_KEY: public_path(kind), INSTANTIATOR_KEY: _INSTANTIATOR}


def _untrained(value: Any) -> Any:
    """The description of an encoder with ``pretrained`` off; other values unchanged."""
    if isinstance(value, dict) and isinstance(value.get("init_args"), dict) and "pretrained" in value["init_args"]:
        return {**value, "init_args": {**value["init_args"], "pretrained": False}}
    return value


def data_description(data: Any) -> dict[str, Any] | None:
    """The data module as ``{"class_path", "init_args"}``; None unless it saved hyperparameters, all of them plain."""
    hyperparameters = _saved(data)
    if not hyperparameters:
        return None
    try:
        return {"class_path": public_path(type(data)), "init_args": _described(type(data), hyperparameters)}
    except ValueError:
        return None


def check_storable(kind: type, arguments: Mapping[str, Any], data: Any) -> None:
    """Check at the start of training that checkpoints can hold the task: a ValueError if its arguments are not plain.

    A data module whose arguments are not plain is left out of checkpoints, with a warning. The constructor of the task
    cannot check this, because a subclass may remove hyperparameters after it.
    """
    rebuildable_hyperparameters(kind, arguments)
    try:
        _described(type(data), _saved(data))
    except ValueError as error:
        rank_zero_warn(
            f"checkpoints of this run will not hold its data module, so who loads one has to name the data: {error}"
        )


def _saved(data: Any) -> dict[str, Any]:
    return {name: value for name, value in getattr(data, "hparams", {}).items() if name[0] != "_"}


def _described(owner: type, arguments: dict[str, Any]) -> dict[str, Any]:
    described = {}
    for name, value in arguments.items():
        try:
            described[name] = describe(value)
        except ValueError as error:
            raise ValueError(
                f"argument {name!r} of {owner.__name__}: {error}. Give it as one of these, or keep it out of"
                f" checkpoints by self.save_hyperparameters(ignore=[{name!r}]) after super().__init__()"
            ) from error
    return described


def task_description(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The task of a checkpoint as ``{"class_path", "init_args"}``; a ValueError for a file that is not of our tasks."""
    hyperparameters = dict(checkpoint.get(ARGUMENTS_KEY) or {})
    path = hyperparameters.pop(CLASS_KEY, None)
    if path is None or STATE_KEY not in checkpoint:
        raise ValueError(
            "this file is not a checkpoint of a Softformer task: it lacks the task's class and hyperparameters."
            " Pass bare weights as --model.weights, with a recipe that names the model"
        )
    hyperparameters.pop(INSTANTIATOR_KEY, None)
    return {"class_path": path, "init_args": hyperparameters}


def check_state_fits(ours: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise a ValueError if the state dicts of a task and of a checkpoint differ in names or shapes."""
    theirs = {plain_name(name): value for name, value in stored.items()}
    missing = [f"{name} is not in the checkpoint" for name in ours if name not in theirs]
    unexpected = [f"{name} is only in the checkpoint" for name in theirs if name not in ours]
    shapes = [
        f"{name} is {_shape(theirs[name])} in the checkpoint and {_shape(value)} here"
        for name, value in ours.items()
        if name in theirs and _shape(theirs[name]) != _shape(value)
    ]
    if differences := shapes + missing + unexpected:
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise ValueError(
            f"the checkpoint belongs to another configuration: {'; '.join(differences[:_SHOWN])}{more}."
            " Use the recipe and the settings that it was trained with, or start from its weights with --model.weights"
        )


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
