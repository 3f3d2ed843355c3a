"""Recipes by name: a local file first, then those that ship with the package."""

import difflib
from pathlib import Path

import softformer

_FLAGS = ("-c", "--config")


def shipped_recipes() -> Path:
    """The folder of recipes: inside the package where it was installed, beside it in a checkout."""
    package = Path(softformer.__file__).parent
    return package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"


def find_recipe(name: str) -> Path:
    """The file of a recipe.

    Args:
        name: A path, with or without ``.yaml``, or the name of a shipped recipe such as ``image/digits``.

    Raises:
        FileNotFoundError: There is neither; the message lists the shipped ones.
    """
    for candidate in (Path(name), Path(f"{name}.yaml"), shipped_recipes() / name, shipped_recipes() / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = [str(path.relative_to(shipped_recipes()).with_suffix("")) for path in shipped_recipes().rglob("*.yaml")]
    nearest = difflib.get_close_matches(name.removesuffix(".yaml").removeprefix("recipes/"), known, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    raise FileNotFoundError(f"there is no recipe {name!r}.{hint} Shipped: {', '.join(sorted(known)) or 'none'}")


def with_recipe_files(args: list[str]) -> list[str]:
    """Command-line arguments with the names of recipes replaced by their files."""
    replaced: list[str] = []
    for place, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if place and args[place - 1] in _FLAGS and _is_name(arg):
            replaced.append(str(find_recipe(arg)))
        elif flag in _FLAGS and equals and _is_name(value):
            replaced.append(f"{flag}={find_recipe(value)}")
        else:
            replaced.append(arg)
    return replaced


def recipe_files(args: list[str]) -> list[Path]:
    """The files that command-line arguments name as configuration, in their order."""
    values = [args[place + 1] for place, arg in enumerate(args[:-1]) if arg in _FLAGS]
    values += [arg.partition("=")[2] for arg in args if arg.partition("=")[0] in _FLAGS and "=" in arg]
    return [Path(value) for value in values if _is_name(value)]


def _is_name(value: str) -> bool:
    """Whether a value of --config is a file or a name, and not the configuration itself."""
    return not value.lstrip().startswith("{") and "\n" not in value
