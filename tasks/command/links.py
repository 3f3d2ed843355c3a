"""Arguments of the task that its data set."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

# The arguments of a task that the attributes of the data module of the same names set, with their defaults.
FROM_DATA: dict[str, Any] = {
    "num_classes": None,
    "multi_label": False,
    "vocab_size": None,
    "num_units": None,
    "sample_rate": None,
}


def link_data_to_task(parser: LightningArgumentParser, given: Callable[[], dict[str, Any]]) -> None:
    """Let the data module set the arguments of the task.

    Args:
        parser: The parser of a command that learns from its data.
        given: Returns the arguments of the task that the user gave.
    """
    for name, default in FROM_DATA.items():
        value = _value(name, default, given)
        parser.link_arguments("data", f"model.init_args.{name}", compute_fn=value, apply_on="instantiate")


def _value(name: str, default: Any, given: Callable[[], dict[str, Any]]) -> Callable[[Any], Any]:
    def value(data: Any) -> Any:
        own, found = given().get(name) or default, getattr(data, name, None)
        if found is None:
            return own
        if own and own != found:
            raise ValueError(f"model.{name} is set by the data, to {found!r}; leave it out (got {own!r})")
        return found

    value.__name__ = f"{name}_of"  # as the help shows it
    return value
