"""The entry point of the command line: ``softformer fit | validate | test | predict``, and its help.

Nothing here imports torch: the help is shown at once, and OpenMP's settings are made before torch loads and reads them.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from tasks.command.console import COMMANDS, fail

# Threads of OpenMP wait for work in a busy loop of this many rounds before they sleep. With the default of libgomp
# (billions) they take the processor from everything else, and wait for each other where another process is busy.
SPIN_COUNT = "1000"
_DESCRIPTION = """\
Softmax-free attention on real data, from YAML recipes.

  train on the digits     softformer fit --config image/digits
  change a setting        softformer fit --config image/digits --model.optimizer.lr 3e-4
  resume a run            softformer fit --config image/digits --ckpt_path last
  test a checkpoint       softformer test --ckpt_path runs/digits/checkpoints/best.ckpt
  classify images         softformer predict --ckpt_path FILE --data.images FOLDER --output predictions.csv
  classify texts          softformer predict --ckpt_path FILE --data.texts FILE --output predictions.csv
  classify recordings     softformer predict --ckpt_path FILE --data.sounds FOLDER --output predictions.csv
  transcribe speech       softformer predict --ckpt_path FILE --data.sounds FOLDER --output texts/
  options of a class      softformer fit --model.help ImageClassifier"""


def _top_level() -> argparse.ArgumentParser:
    """The parser of the commands without their options, which need the imports of tasks."""
    parser = argparse.ArgumentParser(
        "softformer",
        usage=f"softformer {{{','.join(COMMANDS)}}} [--config RECIPE ...] [options]",
        description=_DESCRIPTION,
        epilog="softformer COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        commands.add_parser(name, help=purpose)
    return parser


def limit_spinning() -> None:
    """Let the threads of OpenMP sleep soon, unless the user has chosen how they wait; torch must not be loaded yet."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def main(args: Sequence[str] | None = None) -> None:
    """Run a command with arguments, by default those of the command line.

    An error that the user can correct ends with status 2 and one paragraph on the error stream; with
    SOFTFORMER_TRACEBACK=1 its traceback is shown, too.
    """
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] in (["-h"], ["--help"]):
        _top_level().parse_args(args[:1])
    if not args or args[0] not in COMMANDS:
        given = f", got {args[0]!r}" if args else ""
        fail(f"the command must be one of {', '.join(COMMANDS)}{given}; see softformer --help")
    limit_spinning()
    from tasks.command.application import run

    run(args[0], args[1:])
