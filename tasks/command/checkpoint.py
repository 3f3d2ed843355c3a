"""The settings that a checkpoint brings along, as the first and weakest layer of a command's configuration."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from softformer.models.weight_files import read_weight_file
from softformer.training.checkpoints.content import DATA_KEY, processor_description, read_checkpoint, task_description
from softformer.training.run.folder import CONFIG, RunFolder
from tasks.command.recipes import recipe_files
from tasks.command.run import RunSettings

# Arguments of a data module that say what to read within its path.
_WITHIN_PATH = ("name", "data_dir", "data_files")

_SUBCOMMANDS = ("fit", "validate", "test", "predict")


def with_checkpoint_settings(args: list[str], name: str) -> list[str]:
    """Command-line arguments with the settings of their checkpoint below all others.

    ``best`` and ``last`` become files. A run that goes on without a recipe takes its settings from the folder of the
    run; everything else needs the checkpoint alone. Recipes and other arguments win over what it says.

    Args:
        args: Arguments, with a subcommand first.
        name: Name of the run where neither arguments nor recipes give one.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It is not a checkpoint of one of our tasks, or a recipe that may name the run is not YAML.
    """
    if not args or args[0] not in _SUBCOMMANDS or not (given := option(args, "ckpt_path")):
        return args
    path = run_folder(args, name).checkpoint(given) if given in ("best", "last") else Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    settings = settings_of(path)  # read for a fit too, whose mistakes are then told as those of the other commands
    if args[0] != "fit":
        _check_same_task(path, settings["model"], args)
        _leave_out_other_data(settings, args)
        layer = ["--config", json.dumps(settings)]
    else:
        folder = RunFolder.of_checkpoint(path)
        layer = [] if folder is None or recipe_files(args) else ["--config", str(folder.path / CONFIG)]
    return [args[0], *layer, *args[1:], "--ckpt_path", str(path)]


def _check_same_task(checkpoint: Path, model: dict[str, Any], args: list[str]) -> None:
    """Refuse a recipe for another task than that of a checkpoint, before its arguments are missed one by one."""
    given = option(args, "model") or option(args, "model.class_path")
    for recipe in [] if given else recipe_files(args):
        content = yaml.safe_load(recipe.read_text())
        named = content.get("model") if isinstance(content, dict) else None
        given = named.get("class_path") if isinstance(named, dict) else None
    kind = str(model.get("class_path", "")).rpartition(".")[2]
    if given and given.rpartition(".")[2] != kind:
        raise ValueError(
            f"the checkpoint {checkpoint} is one of {kind}, but the command or its recipe asks for "
            f"{given.rpartition('.')[2]}: leave the recipe out, as a checkpoint stands alone, or give the right one"
        )


def _leave_out_other_data(settings: dict[str, Any], args: list[str]) -> None:
    """What says which files of a data set were read means nothing where the command line names another data set."""
    arguments = settings.get("data", {}).get("init_args", {})
    path = option(args, "data.path")
    if path is not None and path != str(arguments.get("path")):
        for name in _WITHIN_PATH:
            arguments.pop(name, None)


def settings_of(checkpoint: Path) -> dict[str, Any]:
    """Task and data of a checkpoint as configuration, without the processor, which `stored_processor` reads.

    Raises:
        ValueError: It cannot be read without executing code, or is not a checkpoint of one of our tasks.
    """
    content = read_checkpoint(checkpoint)
    task = task_description(content)
    data = content.get(DATA_KEY)
    task["init_args"].pop("processor", None)
    return {"model": task, "data": data} if data else {"model": task}


def stored_processor(checkpoint: str) -> Namespace | None:
    """The processor in a checkpoint, or in another file of weights, as configuration; None where it holds none."""
    description = processor_description(read_weight_file(checkpoint))
    if description is None:
        return None
    # An object could not be written into the configuration, and jsonargparse would warn.
    return Namespace(class_path=description["class_path"], init_args=Namespace(description["init_args"]))


def option(args: list[str], name: str) -> str | None:
    """The last value of a command-line option, given as ``--name value`` or ``--name=value``."""
    values = [value for flag, value in pairwise(args) if flag == f"--{name}"]
    values += [arg.partition("=")[2] for arg in args if arg.startswith(f"--{name}=")]
    return values[-1] if values else None


def run_folder(args: list[str], name: str) -> RunFolder:
    """The folder of the run that arguments and recipes name, before they are parsed for good."""
    settings: dict[str, Any] = {"name": name}
    for recipe in recipe_files(args):
        try:
            content = yaml.safe_load(recipe.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"the recipe {recipe} is not valid YAML: {error}") from error
        run = content.get("run") if isinstance(content, dict) else None
        settings |= run if isinstance(run, dict) else {}
    settings |= {key: value for key in ("name", "root") if (value := option(args, f"run.{key}"))}
    return RunSettings(name=settings["name"] or name, root=settings.get("root", "runs")).folder()
