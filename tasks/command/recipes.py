"""Recipes by name: a local file first, then those that ship with the package."""

import difflib
from pathlib import Path
from typing import Any

import yaml

import softformer


def shipped_recipes() -> Path:
    """The folder of recipes: in the package where it was installed, next to it in a checkout."""
    package = Path(softformer.__file__).parent
    return package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"


def is_name(value: str) -> bool:
    """Whether a value of --config is a file or a name, and not the settings themselves."""
    return not value.lstrip().startswith("{") and "\n" not in value


def find_recipe(name: str) -> Path:
    """The file of a recipe, by its path or the name of a shipped one; a FileNotFoundError lists the shipped ones."""
    for candidate in (Path(name), Path(f"{name}.yaml"), shipped_recipes() / name, shipped_recipes() / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = [str(path.relative_to(shipped_recipes()).with_suffix("")) for path in shipped_recipes().rglob("*.yaml")]
    nearest = difflib.get_close_matches(name.removesuffix(".yaml").removeprefix("recipes/"), known, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    raise FileNotFoundError(f"there is no recipe {name!r}.{hint} Shipped: {', '.join(sorted(known)) or 'none'}")


def read_recipe(value: str) -> dict[str, Any]:
    """The settings of a value of --config, which is a file, a name, or the settings; a ValueError if it has none."""
    file = find_recipe(value) if is_name(value) else None
    source = f"the recipe {file}" if file else f"config={value!r}"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8") if file else value)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        given = "nothing" if content is None else f"a {type(content).__name__}"
        raise ValueError(f"{source} must hold settings by name, such as trainer: {{max_epochs: 3}}, got {given}")
    for name in {"trainer", "run"} & {*content}:
        if not isinstance(content[name], dict | str):
            raise ValueError(
                f"{name} in {source} must hold settings by name, got {content[name]!r}; leave it out instead"
            )
    return content
