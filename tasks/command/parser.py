"""The argument parser of the command line."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import DefaultHelpFormatter, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from tasks.command.errors import explain


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of a description."""


class Parser(LightningArgumentParser):
    """The argument parser, whose errors are one paragraph."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any
    ) -> Namespace:
        """Parse; a null for an option inside an option, which jsonargparse hands on as "None", is null."""
        if args is not None:
            args = [f"{arg[:-4]}null" if arg.startswith("--") and arg.endswith("=None") else arg for arg in args]
        return super().parse_args(args, *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and end with status 2."""
        if not self.exit_on_error:  # the parser of a nested value, whose caller goes on
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        options = [option[2:] for action in parser._actions for option in action.option_strings if option[:2] == "--"]
        fail(explain(message, options))


def fail(message: str) -> NoReturn:
    """Print an error and end with status 2, as `argparse` does."""
    print(f"softformer: error: {message}", file=sys.stderr)
    sys.exit(2)
