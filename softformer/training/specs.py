"""Configuration objects, to and from plain dictionaries.

Recipes, checkpoints and ``jsonargparse`` share the form ``{"class_path": ..., "init_args": {...}}``, so no object has
to be pickled.
"""

import dataclasses
import functools
import inspect
import numbers
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from softformer.ops.options import Options

T = TypeVar("T")

# Beginnings of the errors of jsonargparse that wrap an error of a constructor or a property.
_WRAPPERS = ("Does not validate against any of the Union subtypes", "Call to compute_fn of link")
_ARGS = "\n\nArgs:"
_PLAIN: dict[type, Callable[[Any], Any]] = {numbers.Integral: int, numbers.Real: float, str: str.__str__, Path: str}
# An entry of that section, with its further lines, and its name.
_ARGUMENT = re.compile(r"^( {4}(\w+): .*\n(?: {8}.*\n)*)", re.MULTILINE)


class Spec(Options):
    """Base of options that describe an object to build, among several kinds."""

    def to_dict(self) -> dict[str, Any]:
        """``{"class_path", "init_args"}`` of plain values, nested objects included."""
        return describe(self)

    @classmethod
    def from_dict(cls: type[T], description: dict[str, Any]) -> T:
        """The object that `to_dict` described, of this class or a subclass; errors as in `rebuild`."""
        return rebuild(cls, description)


class Settings(Options):
    """Base of options of one kind: recipes and checkpoints hold the arguments alone, and the help lists each."""

    def items(self) -> Iterable[tuple[str, Any]]:
        """The arguments and their values, by which jsonargparse reads an object that is a default."""
        return self.init_args.items()


set_parsing_settings(subclasses_disabled=[Settings])


def takes_options_of(described: type, *left_out: str, optional: bool = False) -> Callable[[type[T]], type[T]]:
    """Class decorator that replaces ``**options`` of ``__init__`` by the arguments of another class.

    Signature and docstring of the decorated class name each of them, so the help lists them and typos are errors.

    Args:
        described: The class whose arguments are taken, with their documentation.
        left_out: Arguments of it that are not taken.
        optional: Whether to make None the default of all of them.
    """

    def decorate(cls: type[T]) -> type[T]:
        init: Any = vars(cls)["__init__"]
        signature = inspect.signature(init)
        own = {name: parameter for name, parameter in signature.parameters.items() if name != "options"}
        taken = [
            parameter.replace(kind=parameter.KEYWORD_ONLY, default=None if optional else parameter.default)
            for name, parameter in inspect.signature(described).parameters.items()
            if name not in own and name not in left_out
        ]
        functools.update_wrapper(init, vars(described)["__init__"])  # jsonargparse reads the defaults in its source
        init.__signature__ = signature.replace(parameters=[*own.values(), *taken])
        init.__annotations__ = {name: parameter.annotation for name, parameter in init.__signature__.parameters.items()}
        lines = inspect.cleandoc(cls.__doc__ or "")
        entries = _ARGUMENT.findall(inspect.cleandoc(described.__doc__ or ""))
        listed = "".join(entry for entry, name in entries if name in init.__signature__.parameters)
        cls.__doc__ = f"{lines}{'' if 'Args:' in lines else _ARGS}\n{listed}"
        return cls

    return decorate


def describe(value: Any) -> Any:
    """A plain copy of a value: specs, inverses and dataclasses become dictionaries, tuples lists, paths strings.

    Numbers and strings of other types, such as numpy's, become Python's own, or loading a checkpoint with
    ``weights_only`` would refuse them. Other objects are a ValueError.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind, plain in _PLAIN.items():
        if isinstance(value, kind):
            return plain(value)
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, Settings):
        return describe(value.init_args)
    if isinstance(value, Options):
        return {"class_path": public_path(type(value)), "init_args": describe(value.init_args)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise ValueError(
        f"{value!r} cannot be stored as configuration: expected numbers, strings, lists, dictionaries, an EncoderSpec,"
        f" an Inverse or a dataclass of these, got {type(value).__name__}"
    )


def rebuild(base: type[T], description: dict[str, Any]) -> T:
    """The object of class `base`, or of a subclass of it, that a dictionary describes.

    Every nested class must be one that the signature it is passed to asks for, so a description cannot name an
    arbitrary function.

    Raises:
        ValueError: The class or an argument of it does not exist or is of the wrong type.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "it", required=True)
    try:
        config = parser.parse_object({"it": description})
    except ArgumentError as error:
        raise ValueError(f"{description!r} does not describe a {base.__name__}: {error}") from error
    try:
        return parser.instantiate(config).it
    except ValueError as error:
        raise root_error(error) from error


def root_error(error: BaseException) -> BaseException:
    """The error that a constructor or a property raised, where jsonargparse wrapped it in its own."""
    while error.__cause__ is not None and str(error).startswith(_WRAPPERS):
        error = error.__cause__
    return error


def public_path(kind: type) -> str:
    """The path of a class under the outermost package that exports it, which stays when files move."""
    parts = kind.__module__.split(".")
    packages = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    exporting = (name for name in packages if getattr(sys.modules.get(name), kind.__qualname__, None) is kind)
    return f"{next(exporting, kind.__module__)}.{kind.__qualname__}"
