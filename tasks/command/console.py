"""The commands and their console: errors of one line, and filters of the warnings of libraries."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

COMMANDS = {
    "fit": "Train by a recipe, or resume a run.",
    "validate": "Evaluate a checkpoint on the validation split.",
    "test": "Evaluate a checkpoint on the test split.",
    "predict": "Classify or transcribe files with a checkpoint; writes a table.",
}

# Beginnings of lines that no user of a recipe can act on.
_LINES = ("💡", "TPU available", "`weights_only` was not set", "Loading `train_dataloader`")
_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\)",
    r".*You have overridden `on_(before|after)_batch_transfer` in `LightningModule`",
    r".*smaller than the logging interval",
    r".*does not have many workers",
    r".*callbacks used to create the checkpoint need to be provided",
    r".*module\(s\) in eval mode",
    r".*Checkpoint directory .* exists and is not empty",
)


def fail(message: str) -> NoReturn:
    """Print an error and end with status 2, as `argparse` does."""
    print(f"softformer: error: {message}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide lines and warnings that no user of a recipe can act on, inside the block."""
    # A filter of the logger would not see the records of its children, but filters of its handlers do.
    handlers = [*logging.getLogger("lightning").handlers, *logging.getLogger("lightning.pytorch").handlers]
    for handler in handlers:
        handler.addFilter(_is_useful)
    try:
        with warnings.catch_warnings():
            for pattern in _WARNINGS:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_useful)


def _is_useful(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_LINES)
