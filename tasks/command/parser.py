"""The argument parser of the command line: recipes by name, and errors of one sentence."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, NoReturn

from jsonargparse import ActionConfigFile, DefaultHelpFormatter, Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from softformer.training.module import SoftformerModule
from tasks.command.console import fail
from tasks.command.errors import WITHIN, class_list, unknown_option, wrong_value
from tasks.command.recipes import find_recipe, is_name

_OTHER, _UNKNOWN, _MISSING, _WRONG = range(4)  # kinds of mistakes, the most informative last
_MARK = re.compile(r"\x02(\d+)\x02")
_QUOTED = re.compile("'([^']*)'")
_NO_SETTING = re.compile(r"^--print_|help$|\+$")
_REQUIRED = "the following arguments are required: "
_UNRECOGNIZED = "unrecognized arguments: "
_TASK = SoftformerModule.__name__


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of a description."""


class RecipeOption(ActionConfigFile):
    """``--config``: a local file first, then the shipped recipe of that name."""

    def __call__(self, parser: "Parser", cfg: Namespace, values: str, option_string: str | None = None) -> None:  # type: ignore[override]
        """Read the recipe; an error in it names the file."""
        source = str(find_recipe(values)) if is_name(values) else values
        parser.source = f"{source}: " if is_name(values) else ""
        super().__call__(parser, cfg, source, option_string)
        parser.source = ""


class Parser(LightningArgumentParser):
    """The argument parser.

    jsonargparse makes a parser of this class for every object that an option describes, and joins the texts of their
    errors. So the innermost parser, which knows the option and its type, makes the sentence; a mark in the text
    represents it, and the parsers around it prepend to the option's name.

    Attributes:
        hint: Remedy where the command lacks a class; empty in parsers of objects.
        source: The recipe that is being read.
    """

    hint = ""
    source = ""
    _owner = ""
    _looked_at: tuple[Any, Any] = (None, None)
    _sentences: ClassVar[list["_Sentence"]] = []

    def add_class_arguments(
        self, theclass: type, nested_key: str | None = None, *args: Any, **kwargs: Any
    ) -> list[str]:
        """As in jsonargparse, recording the class of the parser."""
        if nested_key is None:
            self._owner = theclass.__name__
        return super().add_class_arguments(theclass, nested_key, *args, **kwargs)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any
    ) -> Namespace:
        """Parse; a null for an option inside an object, which jsonargparse passes on as "None", is null."""
        if args is not None and not self.exit_on_error:
            args = [f"{arg[:-4]}null" if arg.endswith("=None") else arg for arg in args]
        return self._log_inherited(kwargs.get("namespace"), super().parse_args(args, *rest, **kwargs))

    def parse_object(self, obj: Any, namespace: Namespace | None = None, *args: Any, **kwargs: Any) -> Namespace:
        """Parse, and log the options that an object inherits from one of another class."""
        return self._log_inherited(namespace, super().parse_object(obj, namespace, *args, **kwargs))

    def _log_inherited(self, before: Namespace | None, after: Namespace) -> Namespace:
        for name, new in vars(after).items():
            old = vars(before).get(name) if before else None
            if not (isinstance(old, Namespace) and isinstance(new, Namespace) and "class_path" in old):
                continue
            if old.class_path != new.get("class_path"):
                options, arguments = old.get("init_args") or {}, vars(new.get("init_args") or Namespace())
                if same := [f"{key}={value}" for key, value in arguments.items() if options.get(key) == value]:
                    kinds = [path.rpartition(".")[2] for path in (new.class_path, old.class_path)]
                    rank_zero_info(f"{self._owner}.{name}: {kinds[0]} keeps {', '.join(same)} from {kinds[1]}")
        return after

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """As in argparse, recording the option and its value."""
        values = super()._get_values(action, arg_strings)
        self._looked_at = action, values
        return values

    def _check_value_key(self, action: argparse.Action, value: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        """As in jsonargparse, recording the option and its value."""
        self._looked_at = action, value
        return super()._check_value_key(action, value, key, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with status 2, or pass the sentence to the parser around this one."""
        if isinstance(ex, _MarkedError) and ex.parser is self:
            raise ex
        parser = self
        if self._subcommands_action is not None:  # the options are those of the one command
            parser = next(iter(self._subcommands_action.choices.values()))
            parser._looked_at = self._looked_at
        sentence = parser._sentence(message, ex)
        if self.exit_on_error:
            fail(f"{parser.source}{sentence.text.replace(WITHIN, '')}")
        self._sentences.append(sentence)
        raise _MarkedError(f"\x02{len(self._sentences) - 1}\x02", self) from ex

    def _sentence(self, message: str, error: Exception | None) -> "_Sentence":
        (action, value), owner = self._looked_at, self._owner
        if marks := _MARK.findall(message):
            inner = max((self._sentences[int(mark)] for mark in marks), key=lambda sentence: sentence[:2])
            if inner.kind == _UNKNOWN and (not inner.num_known or (self.hint and inner.owner == _TASK)):
                return _Sentence(_MISSING, 0, self._no_class(action))
            return inner._replace(text=inner.text.replace(WITHIN, f"{WITHIN}{action.dest}."), owner=owner)
        if message.startswith(_REQUIRED):
            names = [name.removeprefix(self._command) for name in message[len(_REQUIRED) :].split(", ")]
            reason = self.hint or f"{owner} needs it."
            return _Sentence(_MISSING, 0, f"missing: {', '.join(WITHIN + name for name in names)}. {reason}")
        if message.startswith(_UNRECOGNIZED) or isinstance(error, KeyError):
            # The argument itself, or the group and the option that jsonargparse quotes.
            given = message.removeprefix(_UNRECOGNIZED).split()[0].partition("=")[0]
            if isinstance(error, KeyError):
                given = "--" + ".".join(_QUOTED.findall(message)).removeprefix(self._command)
            names = [name for a in self._actions for name in a.option_strings if not _NO_SETTING.search(name)]
            known = [name.removeprefix("--") for name in names if name.startswith("--")]
            return _Sentence(_UNKNOWN, len(known), unknown_option(given, known, owner), owner)
        if ("NestedArg(" in message or " is abstract" in message) and class_list(action._typehint):
            return _Sentence(_MISSING, 0, self._no_class(action))
        if isinstance(error, TypeError) and hasattr(action, "_typehint"):
            return _Sentence(_WRONG, 0, wrong_value(action.dest.removesuffix(".help"), action._typehint, value))
        if isinstance(error, TypeError) and action is not None and action.metavar == "CONFIG":
            text = f"{WITHIN}{action.dest} must hold settings by name, or be a YAML file of them, got {value!r}"
            return _Sentence(_WRONG, 0, f"{text}. Set one of them by --{WITHIN}{action.dest}.NAME")
        return _Sentence(_OTHER, 0, " ".join(message.split()))

    def _no_class(self, action: Any) -> str:
        known = class_list(action._typehint)
        remedy = self.hint if action.dest in ("model", "data") else ""
        return f"{WITHIN}{action.dest} must name a class before its options.{known} {remedy}".rstrip()

    @property
    def _command(self) -> str:
        return f"{self.subcommand}." if hasattr(self, "subcommand") else ""


class _Sentence(NamedTuple):
    """A sentence about a mistake; the highest one of the alternatives of a union is shown."""

    kind: int
    num_known: int  # of two classes without an option, the user meant the one with more options
    text: str
    owner: str = ""


class _MarkedError(argparse.ArgumentError):
    """Carries the mark of a sentence through jsonargparse."""

    def __init__(self, mark: str, parser: Parser) -> None:
        super().__init__(None, mark)
        self.parser = parser
