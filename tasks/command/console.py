"""A console that shows what the run says, and not what libraries advertise or warn themselves of."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out lines and warnings that no user of a recipe can act on, inside the block."""
    # A logger's filter does not see what its children say; the handlers do.
    handlers = [*logging.getLogger("lightning").handlers, *logging.getLogger("lightning.pytorch").handlers]
    for handler in handlers:
        handler.addFilter(_tells)
    try:
        with warnings.catch_warnings():
            for pattern in _WARNINGS:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(_tells)


def _tells(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_LINES)
