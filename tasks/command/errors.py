"""Error messages of the command line: the option, its value, and what is expected."""

import difflib
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

# Stands before the name of an option until the options around it are known, which become its beginning.
WITHIN = "\x03"
# Errors of the domains that could not be imported because their extra is not installed.
UNAVAILABLE: list[ImportError] = []
_MOST_LISTED = 24
_MOST_CHARACTERS = 200
# An error of another process, such as a worker of a loader, has its traceback in the message.
_TRACEBACK = re.compile(r"Traceback \(most recent.*\n(?P<kind>[\w.]+): (?P<message>.*)\Z", re.DOTALL)


def unknown_option(name: str, known: list[str], owner: str) -> str:
    """The message for an unknown option, or an argument that is no option.

    Args:
        name: The option, such as ``--optimizer.lrr``.
        known: The options that exist.
        owner: The class of these options; empty for a command.
    """
    if not name.startswith("--"):
        return f"unknown argument {name!r}: options begin with --."
    name = name[2:]
    group = name.rpartition(".")[0]
    siblings = [option for option in known if option.rpartition(".")[0] == group]
    nearest = difflib.get_close_matches(name, siblings or known, n=1)
    text = f"unknown option '{WITHIN}{name}'."
    if nearest:
        text += f" Did you mean '{WITHIN}{nearest[0]}'?"
    if siblings and len(siblings) <= _MOST_LISTED:
        listed = ", ".join(option.rpartition(".")[2] for option in siblings)
        return f"{text} {f'{WITHIN}{group} has' if group else f'{owner} has' if owner else 'Known'}: {listed}."
    return text if nearest else f"{text} Known: {', '.join(sorted({option.partition('.')[0] for option in known}))}."


def wrong_value(option: str, hint: Any, value: Any) -> str:
    """The message for a value that an option of a type cannot take."""
    classes = _classes(hint)
    for name in _class_names(value) if classes else ():
        if "." in name:
            return f"{WITHIN}{option}: {_not_usable(name)}"
        if name not in classes:
            nearest = difflib.get_close_matches(name, classes, n=1)
            meant = f" Did you mean {nearest[0]!r}?" if nearest else ""
            meant += "".join(f" Note that {error}." for error in UNAVAILABLE)
            return f"{WITHIN}{option}: there is no class {name!r}.{meant}{class_list(hint)}"
    given = repr(value) if len(repr(value)) <= _MOST_CHARACTERS else f"{repr(value)[:_MOST_CHARACTERS]}..."
    text = f"{WITHIN}{option} must be {_expected(hint)}, got {given}."
    if "str" in _expected(hint) and re.search("True|False", given):
        text += " YAML reads yes, no, on and off as true and false; put quotes around texts."
    return text


def _not_usable(path: str) -> str:
    """Why a class path cannot be used."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        return f"the class {path} cannot be imported ({error})."
    return f"{path} {'is not of the class that is expected' if found else 'does not exist'}."


def _members(hint: Any) -> Iterator[Any]:
    """The types of a union, or the type itself."""
    if get_origin(hint) in (Union, UnionType):
        for member in get_args(hint):
            yield from _members(member)
    else:
        yield hint


def _expected(hint: Any) -> str:
    """The values of a type, in words."""
    members = list(_members(hint))
    choices = [repr(choice) for member in members if get_origin(member) is Literal for choice in get_args(member)]
    kinds = [_kind(member) for member in members if get_origin(member) is not Literal]
    return f"one of {', '.join([*choices, *kinds])}" if choices else f"of type {' or '.join(kinds)}"


def _kind(hint: Any) -> str:
    if hint is NoneType:
        return "null"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _classes(hint: Any) -> set[str]:
    """Names of the classes that an option of this type can name; none for plain values."""

    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    kinds = {hint} if isinstance(hint, type) and hint.__module__ not in ("builtins", "pathlib", "os") else set()
    found = {kind.__name__ for base in kinds for kind in below(base) - {base} if not _is_abstract(kind)}
    return {name for name in found if name[0] != "_"}.union(*map(_classes, get_args(hint)))


def _is_abstract(kind: type) -> bool:
    """Whether a method is abstract, also in a class whose metaclass does not check that, as Lightning's."""
    return any(getattr(getattr(kind, name, None), "__isabstractmethod__", False) for name in dir(kind))


def class_list(hint: Any) -> str:
    """A sentence that lists the classes of a type, if they are few."""
    classes = sorted(_classes(hint))
    return f" Known: {', '.join(classes)}." if 0 < len(classes) <= _MOST_LISTED else ""


def _class_names(value: Any) -> Iterator[str]:
    """The classes that a value names: a name, a description with class_path, or a list of these."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        value = yaml.safe_load(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _class_names(item)
    elif isinstance(value, Mapping) or hasattr(value, "class_path"):
        yield from _class_names(dict(value if isinstance(value, Mapping) else vars(value)).get("class_path"))


def kind_in_traceback(error: BaseException) -> str:
    """The class of the error in another process, whose traceback is in the message; empty without one."""
    match = _TRACEBACK.search(str(error))
    return match["kind"] if match else ""


def paragraph(error: BaseException) -> str:
    """The message of an error in one line, without the traceback of another process."""
    match = _TRACEBACK.search(str(error))
    message = match["message"] if match else str(error)
    if "backend found" in message or "can not run on your system" in message:
        message += " This machine has no such device: leave trainer.accelerator out, or set it to cpu."
    return " ".join(message.split())
