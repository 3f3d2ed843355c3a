"""A trained task from a checkpoint alone."""

import importlib
from pathlib import Path

import torch

from softformer.models.checkpoint_keys import STATE_KEY
from softformer.training.checkpoints.content import read_checkpoint, task_description
from softformer.training.module import SoftformerModule
from softformer.training.specs import rebuild


def load(checkpoint: str | Path, *, map_location: str | torch.device = "cpu") -> SoftformerModule:
    """The task that a checkpoint holds, with its weights, in evaluation mode, ready for ``.predict``.

    No pickled code is executed, and no recipe, data set or weight file is needed. A task of your own must be
    importable.

    Args:
        checkpoint: File written by a run, such as runs/digits/checkpoints/best.ckpt.
        map_location: Device of the weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint of a Softformer task.
    """
    content = read_checkpoint(checkpoint, map_location)
    description = task_description(content)
    _import_class(description["class_path"])
    task = rebuild(SoftformerModule, description)  # type: ignore[type-abstract]
    task.on_load_checkpoint(content)
    task.load_state_dict(content[STATE_KEY])
    return task.to(map_location).eval()


def _import_class(path: str) -> None:
    module = path.rpartition(".")[0]
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"the checkpoint needs the class {path}, which cannot be imported: {error}") from error
