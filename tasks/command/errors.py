"""Errors of the command line as one paragraph that says what is wrong, where, and what would be right."""

import difflib
import inspect
import re
from dataclasses import dataclass, field
from pydoc import locate
from typing import Any, get_args, get_type_hints

_NOISE = re.compile(r"(- )?(Does not validate against|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>)")
_KEY = re.compile(r'(?:- )?Parser key "(?P<key>[^"]*)":?\s*(?P<rest>.*)')
_CLASS = re.compile(r"(?:- )?Problem with given class_path '(?P<path>[^']*)':?\s*(?P<rest>.*)")
_VALUE = re.compile(r"Given value: (?:NestedArg\(key=.*, val=(?P<nested>.*)\)|(?P<plain>.*))")
_OPTION = re.compile(r"(?:(?:Group|Subcommand) '(?P<group>[^']*)' does not accept o|O)ption '(?P<option>[^']*)'")
_UNRECOGNIZED = re.compile(r"unrecognized arguments: --(?P<option>[^ =]*)")
_LITERAL = re.compile(r"Expected a (?:typing\.)?Literal\[(?P<choices>.*?)\](?:\. Got value: (?P<value>.*))?")
_NO_CLASS = re.compile(r"Expected a dot import path string: (?P<name>.*)")
_TYPE = re.compile(r"Expected a (?:<class '(?P<type>[^']*)'>|(?P<other>.*?))(?:\. Got value: (?P<value>.*))?")
_MISSING = re.compile(r"the following arguments are required: (?P<names>.*)")
_WRAPPED = re.compile(r"Original Traceback.*\n(?P<type>[\w.]+): (?P<message>.*)\Z", re.DOTALL)
_MOST_LISTED = 24

AUDIO_EXTRA = "softformer[audio]"
_OF_AUDIO = ("AudioClassifier", "SpeechRecognizer", "AudioDataModule", "SpeechDataModule")


@dataclass
class _Report:
    """What the parser's tree of messages says: the path to the value, the classes on it, the value, and the leaves."""

    keys: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    value: str = ""

    @property
    def where(self) -> str:
        return ".".join(key for key in self.keys if key != "init_args")

    @property
    def owner(self) -> Any:
        """The innermost class, whose argument the error is about."""
        return locate(self.classes[-1]) if self.classes else None


def explain(message: str, options: list[str]) -> str:
    """A message of the argument parser in one paragraph.

    Args:
        message: The parser's own text, a tree of everything it tried.
        options: The options that exist, without their dashes.
    """
    report = _read(message)
    for pattern, say in ((_OPTION, _option), (_UNRECOGNIZED, _option), (_LITERAL, _literal), (_NO_CLASS, _no_class)):
        for line in report.leaves:
            if match := pattern.search(line):
                return say(match, report, options)
    if 'expected "subcommand"' in message or "required: subcommand" in message:
        return "a command is missing: fit, validate, test or predict; see softformer --help."
    return " ".join(dict.fromkeys(_plain(line, report) for line in report.leaves))


def _read(message: str) -> _Report:
    report = _Report()
    for line in (line.strip() for line in message.splitlines()):
        if match := _VALUE.match(line):
            report.value = report.value or (match["nested"] or match["plain"]).strip("'")
        if match := _KEY.match(line):
            report.keys.append(match["key"])
            line = match["rest"]
        elif match := _CLASS.match(line):
            report.classes.append(match["path"])
            line = match["rest"]
        if line and not _NOISE.match(line):
            report.leaves.append(line.removeprefix("- "))
    return report


def _option(match: re.Match[str], report: _Report, options: list[str]) -> str:
    option, group = match["option"], match.groupdict().get("group") or ""
    owner = report.owner
    if owner is None:
        option = f"{group}.{option}" if group in {name.partition(".")[0] for name in options} else option
        return f"unknown option {option!r}.{_among(option, options)}"
    if "." in option:
        group, _, option = option.rpartition(".")
    target = get_type_hints(owner.__init__).get(group, owner) if group else owner
    known = [name for name in inspect.signature(target).parameters if name not in ("args", "kwargs")]
    where = ".".join(part for part in (report.where, group) if part)
    return f"{where}: {target.__name__} has no option {option!r}.{_among(option, known)}"


def _literal(match: re.Match[str], report: _Report, options: list[str]) -> str:
    return f"{report.where} must be one of {match['choices']}, got {match['value'] or report.value!r}."


def _no_class(match: re.Match[str], report: _Report, options: list[str]) -> str:
    name = match["name"]
    where = f"{report.where}: " if report.where else ""
    if name in _OF_AUDIO:  # there is one where the extra is installed
        return f"{where}{name} needs the extra for sound: pip install '{AUDIO_EXTRA}'."
    return f"{where}there is no class {name!r}.{_among(name, _class_names(report))}"


def _plain(line: str, report: _Report) -> str:
    if match := _MISSING.search(line):
        return (
            f"missing: {match['names']}. Give a recipe, such as --config image/digits, or a checkpoint by --ckpt_path."
        )
    if match := _TYPE.fullmatch(line):
        got = match["value"] or report.value
        return f"{report.where} must be of type {match['type'] or match['other']}, got {got!r}."
    return f"{report.where}: {line}" if report.where else line


def _class_names(report: _Report) -> list[str]:
    """Names of the classes that fit where the error is: subclasses of what the owner asks for, or of a task."""
    from lightning.pytorch import Callback, LightningDataModule

    from softformer.training.module import SoftformerModule

    top = {"model": SoftformerModule, "data": LightningDataModule, "trainer.callbacks": Callback}
    hint = get_type_hints(report.owner.__init__).get(report.keys[-1]) if report.owner and report.keys else None
    hint = hint or top.get(report.where)

    def below(kind: type) -> set[type]:
        children: list[type] = kind.__subclasses__()
        return {kind}.union(*map(below, children))

    bases = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and kind is not type(None)]
    kinds = {kind for base in bases for kind in below(base) - {base}}
    return sorted({kind.__name__ for kind in kinds if not inspect.isabstract(kind) and kind.__name__[0] != "_"})


def _among(name: str, known: list[str]) -> str:
    """What was meant, and all there is if that is not too much."""
    nearest = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {nearest[0]!r}?" if nearest else ""
    if not known or (nearest and len(known) > _MOST_LISTED):
        return meant
    shown = known if len(known) <= _MOST_LISTED else sorted({option.partition(".")[0] for option in known})
    return f"{meant} Known: {', '.join(shown)}."


def paragraph(error: BaseException) -> str:
    """An error's message in one line, without the traceback that a loader's worker puts into it."""
    message = str(error)
    if match := _WRAPPED.search(message):
        message = match["message"]
    if "backend found" in message or "can not run on your system" in message:
        message += " This machine has no such device: leave trainer.accelerator out, or set it to cpu."
    return " ".join(message.split())
