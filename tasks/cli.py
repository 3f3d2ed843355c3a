"""The command line: ``softformer fit | validate | test | predict``, the same as ``python -m softformer``."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

import softformer.training.encoders.sequence  # noqa: F401  (short class names are those of imported classes)
import tasks.image
import tasks.text
from softformer.training.callbacks import ClassReport, PredictionTable, ResultTable
from softformer.training.callbacks.predictions import TABLE
from softformer.training.callbacks.results import print_results
from softformer.training.divergence import DivergedError
from softformer.training.module import SoftformerModule
from softformer.training.run.folder import RunFolder
from softformer.training.specs import root_error
from tasks.command.checkpoint import option, stored_processor, with_checkpoint_settings
from tasks.command.console import quiet
from tasks.command.errors import AUDIO_EXTRA, paragraph
from tasks.command.outputs import ReplaceRun, SaveConfig, TestSplitCheck, best_checkpoint, fit_callbacks, run_loggers
from tasks.command.parser import HelpFormatter, Parser, fail
from tasks.command.recipes import recipe_files, with_recipe_files
from tasks.command.run import RunSettings, default_name, evaluation_folder

try:
    import tasks.audio  # noqa: F401
except ImportError as missing:
    # Images and texts need no extra; `tasks.command.errors` says what the classes of sound need.
    if missing.name != AUDIO_EXTRA:
        raise

TRACEBACK = "SOFTFORMER_TRACEBACK"
_USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, MisconfigurationException, DivergedError)
_DESCRIPTION = """\
Softmax-free attention on real data, from YAML recipes.

  train on the digits     softformer fit --config image/digits
  change a setting        softformer fit --config image/digits --model.optimizer.lr 3e-4
  go on with a run        softformer fit --config image/digits --ckpt_path last
  test a checkpoint       softformer test --ckpt_path runs/digits/checkpoints/best.ckpt
  classify images         softformer predict --ckpt_path FILE --data.images FOLDER --output predictions.csv
  classify texts          softformer predict --ckpt_path FILE --data.texts FILE --output predictions.csv
  classify sounds         softformer predict --ckpt_path FILE --data.sounds FOLDER --output predictions.csv
  write down speech       softformer predict --ckpt_path FILE --data.sounds FOLDER --output texts/
  options of a class      softformer fit --model.help ImageClassifier"""
_COMMANDS = {
    "fit": "Train by a recipe, or go on with a run.",
    "validate": "Measure a checkpoint on the validation split.",
    "test": "Measure a checkpoint on the test split.",
    "predict": "Classify files with a checkpoint, or write down the speech in them, into a CSV file.",
}
_NOT_TRAINED = (
    "predict needs a trained network: give the checkpoint of a run by --ckpt_path runs/NAME/checkpoints/best.ckpt, or "
    "a recipe with --model.weights FILE"
)
# Options that name a network, or only ask what there is.
_NETWORKS = ("--ckpt_path", "--config", "--model", "--help", "-h", "--print_config", "--data.help")
_COMMON: dict[str, Any] = {"allow_abbrev": False, "formatter_class": HelpFormatter}
_OUTPUT = f"CSV file to write; or a folder, which is to hold {TABLE} and what else there is: transcripts and subtitles."
_CKPT_PATH = "Checkpoint: a file, or best or last of the run. fit goes on from it; the others need nothing else."


class SoftformerCLI(LightningCLI):
    """One command line for all tasks.

    Args:
        args: Command-line arguments, recipes already found and checkpoints already read.
        name: Name of the run where the settings give none.
    """

    def __init__(self, args: list[str], name: str) -> None:
        self._args = args
        self._name = name
        super().__init__(
            SoftformerModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            trainer_defaults={"log_every_n_steps": 10},
            parser_class=Parser,
            parser_kwargs={
                "prog": "softformer",
                "usage": "softformer {fit,validate,test,predict} [--config RECIPE ...] [options]",
                "description": _DESCRIPTION,
                **_COMMON,
                **{name: _command(name) for name in _COMMANDS},
            },
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The four commands, and the arguments of the trainer's methods that they do not offer."""
        unoffered = {"weights_only", "verbose", "return_predictions", "ckpt_path"}
        return {name: skipped | unoffered for name, skipped in LightningCLI.subcommands().items()}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            parser.add_argument("--output", type=Path, default=Path(TABLE), help=_OUTPUT)
        # The one thing that data and task share: data make it, or are given that of a checkpoint.
        parser.link_arguments("data", "model.init_args.processor", compute_fn=_processor, apply_on="instantiate")
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What Lightning offers, in our words."""
        parser.add_argument(
            "--seed_everything", type=bool | int, default=0, help="Seed of weights, dropout and mixing."
        )
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=_CKPT_PATH)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The settings of the run."""
        parser.add_class_arguments(RunSettings, "run")

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """As Lightning does, with our words for the commands."""
        super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
        listed = next(action for action in self.parser._actions if action.dest == "subcommand")
        for choice in getattr(listed, "_choices_actions", []):
            choice.help = _COMMANDS[choice.dest]

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what was prepared, whatever `sys.argv` holds."""
        self.config = parser.parse_args(self._args)

    def _parse_ckpt_path(self) -> None:
        """Nothing: a checkpoint's settings are already the weakest layer, and are not to beat the others."""

    def before_instantiate_classes(self) -> None:
        """Find the folder of the run, and refuse what cannot go well before anything is loaded."""
        config = self.config[self.subcommand]
        config.run.name = config.run.name or self._name
        self.folder = RunSettings(**vars(config.run)).folder()
        if config.ckpt_path in ("best", "last"):
            config.ckpt_path = str(self.folder.checkpoint(config.ckpt_path))
        if self.subcommand == "fit":
            source = RunFolder.of_checkpoint(config.ckpt_path) if config.ckpt_path else None
            resumed = source is not None and source.path == self.folder.path.resolve()
            first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
            self._fresh = first and not resumed and not config.trainer.fast_dev_run
            if self._fresh:
                self.folder.claim(overwrite=config.run.overwrite)
        else:
            self.save_config_callback = None
            named = option(self._args, "run.name") is not None  # a recipe names its own runs
            self.folder = evaluation_folder(self.folder, config.ckpt_path, by_command=named)
            self._warn_of_random_weights(config)

    def _warn_of_random_weights(self, config: Any) -> None:
        options = config.model.get("init_args") or {}
        started = options.get("weights") or (options.get("encoder") or {}).get("init_args", {}).get("pretrained")
        if config.ckpt_path or started:
            return
        if self.subcommand == "predict":
            raise ValueError(_NOT_TRAINED)
        rank_zero_warn(f"{self.subcommand} without --ckpt_path or --model.weights uses a network of random weights")

    def instantiate_classes(self) -> None:
        """Build the objects; with a checkpoint, without the weights that it replaces."""
        config = self.config[self.subcommand]
        task, data = config.model.get("init_args") or {}, config.data.get("init_args") or {}
        trained = config.ckpt_path or task.get("weights")
        if self.subcommand != "fit" and trained and data.get("processor", "unsupported") is None:
            data["processor"] = stored_processor(trained)  # an evaluation follows the task that was trained
        encoder = (task.get("encoder") or {}).get("init_args") or {}
        replaced: list[tuple[Any, str, Any]] = []
        if self._get(self.config, "ckpt_path"):
            for place, name, without in ((task, "weights", None), (encoder, "pretrained", False)):
                if place.get(name):
                    replaced.append((place, name, place[name]))
                    place[name] = without
        super().instantiate_classes()
        for place, name, value in replaced:
            place[name] = value  # config.yaml tells where the run came from

    def after_instantiate_classes(self) -> None:
        """Refuse to evaluate another network than the one in a file of weights."""
        report = getattr(self.model, "weight_report", None)
        if self.subcommand != "fit" and report is not None:
            report.check_complete(self.subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with what a run leaves behind."""
        config = self._get(self.config_init, "trainer")
        own = config.callbacks or []
        callbacks: list[Callback] = [*own] if isinstance(own, list) else [own]
        kwargs.setdefault("default_root_dir", config.default_root_dir or str(self.folder.path))
        if self.subcommand == "fit":
            kwargs["logger"] = run_loggers(config.logger, self.folder)
            if self._fresh and self._get(self.config_init, "run").overwrite:
                callbacks.insert(0, ReplaceRun(self.folder))
            callbacks += fit_callbacks(
                self.model, self.folder, callbacks, kwargs["logger"], config.enable_checkpointing
            )
            if self._get(self.config_init, "run").test_after_fit:
                callbacks.append(TestSplitCheck())
        else:
            # Averaging belongs to training; an evaluation would only warn about it.
            callbacks = [callback for callback in callbacks if not isinstance(callback, WeightAveraging)]
            kwargs["logger"] = False
        if self.subcommand == "predict":
            callbacks.append(PredictionTable(self._get(self.config_init, "output")))
        else:
            callbacks += [ResultTable(self.folder), ClassReport(self.folder)]
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        # The result table is ours, and predictions are on disk already.
        quieter = {"validate": {"verbose": False}, "test": {"verbose": False}, "predict": {"return_predictions": False}}
        path = self._get(self.config_init, "ckpt_path")
        return {**super()._prepare_subcommand_kwargs(subcommand), "ckpt_path": path, **quieter.get(subcommand, {})}

    def before_fit(self) -> None:
        """Look again whether the run may write into its folder, as building the objects may have taken long."""
        if self._fresh:
            self.folder.claim(overwrite=self._get(self.config_init, "run").overwrite)

    def after_fit(self) -> None:
        """Test the best checkpoint once, if the run asks for it, and show what was reached."""
        if self._get(self.config_init, "run").test_after_fit and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._test_best()
        self._show()

    def after_validate(self) -> None:
        """Show what was measured."""
        self._show()

    def after_test(self) -> None:
        """Show what was measured."""
        self._show()

    def after_predict(self) -> None:
        """Say where the predictions are."""
        table = next(callback for callback in self.trainer.callbacks if isinstance(callback, PredictionTable))  # type: ignore[attr-defined]
        if self.trainer.is_global_zero:
            files = f", and their files into {table.folder}" if table.folder else ""
            print(f"{table.written} predictions written to {table.path}{files}")

    def _show(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            print_results(self.folder)

    def _test_best(self) -> None:
        best, last = best_checkpoint(self.trainer.callbacks), self.folder.checkpoints / "last.ckpt"  # type: ignore[attr-defined]
        chosen = best or (str(last) if last.is_file() else None)  # without validation or checkpoints: as trained
        # After a fit, weight averaging puts the weights that were not averaged back in place of a checkpoint's own.
        self.trainer.callbacks = [c for c in self.trainer.callbacks if not isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=chosen, verbose=False)


def _processor(data: Any) -> Any:
    """The processor of a data module; None where a module of the user's has none."""
    return getattr(data, "processor", None)


def _command(name: str) -> dict[str, Any]:
    """Arguments of the parser of a command."""
    usage = f"softformer {name} [--config RECIPE ...] [--ckpt_path CHECKPOINT] [options]"
    return {"usage": usage, "description": _COMMANDS[name], **_COMMON}


def main(args: list[str] | None = None) -> None:
    """Run a command.

    An error that the user can cure ends with status 2 and one paragraph on the error stream; with SOFTFORMER_TRACEBACK
    set to 1, where it came from is shown too.

    Args:
        args: Arguments without the program's name; None for those of the command line.
    """
    args = list(sys.argv[1:] if args is None else args)
    try:
        args = with_recipe_files(args)
        if args[:1] == ["predict"] and not any(arg.startswith(_NETWORKS) for arg in args):
            raise ValueError(_NOT_TRAINED)
        name = default_name(recipe_files(args))
        with quiet():
            SoftformerCLI(with_checkpoint_settings(args, name), name)
    except SIGTERMException:
        sys.exit(128 + signal.SIGTERM)  # asked to end; the checkpoint is saved
    except _USER_ERRORS as error:
        root = root_error(error)
        if os.environ.get(TRACEBACK) == "1" or not isinstance(root, _USER_ERRORS):
            raise
        fail(paragraph(root))
