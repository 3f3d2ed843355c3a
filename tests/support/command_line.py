"""Runs the command line inside the test process."""

import contextlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import tiny_images  # noqa: F401  (makes `--data TinyImages` known)

from tasks.cli import main

# A network of a quarter of a second, on a processor whatever the machine has.
TINY = [
    *("--model", "ImageClassifier", "--data", "TinyImages"),
    *("--model.encoder", "TimmSpec", "--model.encoder.name", "test_vit", "--model.encoder.img_size", "32"),
    *("--trainer.accelerator", "cpu", "--trainer.num_sanity_val_steps", "0"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def softformer(folder: Path, *args: str) -> Outcome:
    """Run a command in a folder."""
    out, err, code, before = io.StringIO(), io.StringIO(), 0, Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(args))
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os.chdir(before)
    return Outcome(code, out.getvalue(), err.getvalue())
