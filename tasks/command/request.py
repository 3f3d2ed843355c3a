"""The recipes and the checkpoint of a command, which must be known before its arguments are parsed."""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from softformer.models.checkpoint_keys import DATA_KEY
from softformer.models.weight_files import read_weight_file
from softformer.training.checkpoints.content import processor_description, read_checkpoint, task_description
from softformer.training.run.folder import CONFIG, RunFolder
from tasks.command.recipes import find_recipe, is_name, read_recipe
from tasks.command.run import RunSettings
from tasks.processor import Processor

# The options that are read, and their places in recipes.
_OPTIONS = {
    "ckpt_path": ("ckpt_path",),
    "run.name": ("run", "name"),
    "run.root": ("run", "root"),
    "data.path": ("data", "init_args", "path"),
}
# Arguments of a data module that select files within its path.
_WITHIN_PATH = ("name", "data_dir", "data_files")


@dataclass
class Request:
    """The recipes, the run, and the checkpoint of a command.

    Args:
        recipes: Files of --config, in their order.
        run: Settings of the run, its name by default that of the first recipe.
        named: Whether the command line names the run, and not a recipe.
        checkpoint: File of --ckpt_path.
        settings: Configuration of the checkpoint, which everything else overrides.
        processor: Processor of the checkpoint, which the data of an evaluation follows.
    """

    recipes: list[Path]
    run: RunSettings
    named: bool
    checkpoint: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    processor: Processor | None = None

    def layer(self, command: str) -> list[str]:
        """The arguments that all others override: settings of the checkpoint, or the config.yaml of a resumed run."""
        if self.checkpoint is None:
            return []
        if command != "fit":
            return ["--config", json.dumps(self.settings)]
        folder = RunFolder.of_checkpoint(self.checkpoint)
        return [] if folder is None or self.recipes else ["--config", str(folder.path / CONFIG)]

    def remedy(self, error: BaseException) -> str:
        """The remedy of an error that names a missing file or folder of the checkpoint's data; empty for others."""
        missing = isinstance(error, FileNotFoundError) or re.search("no file|not exist|not found|no folder", str(error))
        arguments = self.settings.get("data", {}).get("init_args", {}) if missing else {}
        for name in ("data_files", "data_dir", "path"):
            for path in _texts(arguments.get(name)):
                if path in str(error) and not Path(path).is_absolute():
                    return (
                        f"The checkpoint names {path} relative to the folder that it was trained in, and this command"
                        f" runs in {Path.cwd()}. Run it in that folder, or give the data by --data.{name}."
                    )
        return ""


def _texts(value: Any) -> Iterator[str]:
    """The strings in a value, its lists, and its dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def read_request(args: list[str]) -> Request:
    """Find the recipes and the checkpoint in the arguments of a command; where options repeat, the last one wins."""
    parser = _Reader(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action=_ReadRecipe, dest="recipes", default=[])
    for name in _OPTIONS:
        parser.add_argument(f"--{name}", action=_ReadOption, dest=name)
    given = vars(parser.parse_known_args(args, argparse.Namespace(named=False))[0])
    recipes = given["recipes"]
    run = RunSettings(str(given["run.name"] or (recipes[0].stem if recipes else "run")), given["run.root"] or "runs")
    request = Request(recipes, run, given["named"])
    if given["ckpt_path"] is not None:
        request.checkpoint = _checkpoint(str(given["ckpt_path"]), run.folder())
        content = read_checkpoint(request.checkpoint, mmap=True)  # the tensors stay on disk
        request.settings, request.processor = _settings(content), _processor(content)
        arguments = request.settings.get("data", {}).get("init_args", {})
        if given["data.path"] not in (None, str(arguments.get("path"))):
            for name in _WITHIN_PATH:  # they select files of another data set
                arguments.pop(name, None)
    return request


class _Reader(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


class _ReadOption(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, value: Any, option_string: str | None = None) -> None:
        given = None if value in ("", "null") else value
        setattr(namespace, self.dest, given)
        if self.dest == "run.name":
            namespace.named = given is not None


class _ReadRecipe(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, value: Any, option_string: str | None = None) -> None:
        if is_name(value):
            namespace.recipes = [*namespace.recipes, find_recipe(value)]
        content = read_recipe(value)
        for name, keys in _OPTIONS.items():
            place: Any = content
            for key in keys:
                place = place.get(key) if isinstance(place, dict) else None
            if place is not None:
                setattr(namespace, name, place)


def _checkpoint(given: str, folder: RunFolder) -> Path:
    path = folder.checkpoint(given) if given in ("best", "last") else Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    return path


def _settings(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Task and data module of a checkpoint as configuration."""
    task, data = task_description(checkpoint), checkpoint.get(DATA_KEY)
    task["init_args"].pop("processor", None)  # the data gets it, and the task follows the data
    return {"model": task, **({"data": data} if data else {})}


def _processor(content: dict[str, Any]) -> Processor | None:
    description = processor_description(content)
    return None if description is None else Processor.from_dict(description)


def stored_processor(file: str | Path | None) -> Processor | None:
    """The processor in a file of weights; None where it has none."""
    return None if file is None else _processor(read_weight_file(file, mmap=True))
