"""A command: its arguments parsed once, its objects built, and run with Lightning."""

import os
import signal
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn
from torch.multiprocessing import ProcessRaisedException

import softformer.adapters.timm
import softformer.training.encoders.sequence  # noqa: F401  (only imported classes have short names)
import tasks.image
import tasks.text
from softformer.training.callbacks import ClassReport, PredictionTable, ResultTable
from softformer.training.callbacks.predictions import TABLE
from softformer.training.callbacks.results import print_results
from softformer.training.divergence import DivergedError
from softformer.training.module import SoftformerModule
from softformer.training.run.folder import RunFolder
from softformer.training.specs import root_error
from tasks.command.console import COMMANDS, fail, quiet
from tasks.command.errors import UNAVAILABLE, kind_in_traceback, paragraph
from tasks.command.outputs import RunStart, RunTrainer, TestSplitCheck, best_checkpoint, fit_callbacks, run_loggers
from tasks.command.parser import HelpFormatter, Parser, RecipeOption
from tasks.command.request import Request, read_request, stored_processor
from tasks.command.run import RunSettings, evaluation_folder
from tasks.data.files import escaped
from tasks.processor import Processor

try:
    import tasks.audio  # noqa: F401
except ImportError as missing:
    # Images and texts need no extra; the error names the one that it lacks.
    if not str(missing.name).startswith("softformer["):
        raise
    UNAVAILABLE.append(missing)

TRACEBACK = "SOFTFORMER_TRACEBACK"
_USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, MisconfigurationException, DivergedError)
# Lightning raises these, too, where options of the trainer do not fit the task.
_OF_LIGHTNING = (RuntimeError, AttributeError, TypeError)
_NOT_TRAINED = (
    "predict needs a trained network: give the checkpoint of a run by --ckpt_path runs/NAME/checkpoints/best.ckpt, or "
    "a recipe with --model.weights FILE"
)
_NO_RECIPE = "Give a recipe, such as --config image/digits, or a checkpoint by --ckpt_path."
_USAGE = "softformer {} [--config RECIPE ...] [--ckpt_path CHECKPOINT] [options]"
_HELP = {
    "--config": "Recipe: a YAML file, or the name of a shipped one, such as image/digits. Later ones override earlier.",
    "--seed_everything": "Seed of the weights, of dropout, and of mixing.",
    "--ckpt_path": "Checkpoint: a file, or best or last of the run. fit resumes it; the others need nothing else.",
    "--output": f"CSV file to write, or a folder for {TABLE} and other files of the task: transcripts and subtitles.",
}


class SoftformerCLI(LightningCLI):
    """The command line of all tasks: a command, its arguments, and their request; it enters locks into resources."""

    def __init__(self, command: str, args: list[str], request: Request, resources: ExitStack) -> None:
        self._command, self._request, self._resources = command, request, resources
        super().__init__(
            SoftformerModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=None,  # ours is `RunStart`
            trainer_class=RunTrainer,
            trainer_defaults={"log_every_n_steps": 10},
            parser_class=Parser,
            parser_kwargs={
                "prog": "softformer",
                command: {"usage": _USAGE.format(command), "description": COMMANDS[command]},
            },
            args=[command, *request.layer(command), *args],
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command, and the hidden arguments of the trainer's method."""
        hidden = {"weights_only", "verbose", "return_predictions", "ckpt_path"}
        return {self._command: LightningCLI.subcommands()[self._command] | hidden}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose --config finds recipes."""
        parser = Parser(allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)
        parser.add_argument("-c", "--config", action=RecipeOption, help=_HELP["--config"])
        return parser

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.hint = _NOT_TRAINED if subcommand == "predict" else _NO_RECIPE  # type: ignore[attr-defined]
        if subcommand == "predict":
            parser.add_argument("--output", type=Path, default=Path(TABLE), help=_HELP["--output"])

        def processor_of(data: Any) -> Any:  # jsonargparse copies it, and with a method it would copy this object
            """The processor of the task: from the data, or from the checkpoint where a user's data has none."""
            # To predict files, the data set need not be read to make a processor.
            own = getattr(data, "given_processor" if subcommand == "predict" else "processor", None)
            return self._request.processor if own is None and subcommand != "fit" else own

        parser.link_arguments("data", "model.init_args.processor", compute_fn=processor_of, apply_on="instantiate")
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The arguments of Lightning's command line, in our words."""
        parser.add_argument("--seed_everything", type=bool | int, default=0, help=_HELP["--seed_everything"])
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=_HELP["--ckpt_path"])

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The settings of the run."""
        parser.add_class_arguments(RunSettings, "run")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments of this command; `sys.argv` does not matter."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning's settings of a checkpoint would override all others, which ours must not do."""

    def before_instantiate_classes(self) -> None:
        """Find the folder of the run, and check the settings before anything is loaded."""
        config, request = self.config[self._command], self._request
        config.run.name = config.run.name or request.run.name
        self.folder = RunSettings(**vars(config.run)).folder()
        config.ckpt_path = str(request.checkpoint) if request.checkpoint else None
        for name in ("check_val_every_n_epoch", "accumulate_grad_batches", "limit_train_batches"):
            if config.trainer[name] is not None and config.trainer[name] <= 0:
                raise ValueError(f"trainer.{name} must be positive, got {config.trainer[name]}")
        if self._command == "fit":
            self._claim_folder(config)
            text = self._subcommand_parsers["fit"].dump(config, skip_unset=False, skip_link_targets=False)
            self._start = RunStart(self.folder, yaml.safe_load(text), replace=self._fresh and config.run.overwrite)
        else:
            self._check_task(config)
            self.folder = evaluation_folder(self.folder, request.checkpoint, by_command=request.named)
            self._warn_of_random_weights(config)

    def _claim_folder(self, config: Any) -> None:
        source = RunFolder.of_checkpoint(config.ckpt_path) if config.ckpt_path else None
        self._fresh = source is None or source.path != self.folder.path.resolve()
        if rank_zero_only.rank == 0 and not config.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._resources.enter_context(self.folder.locked())
            if self._fresh:
                self.folder.claim(overwrite=config.run.overwrite)

    def _check_task(self, config: Any) -> None:
        """Refuse a recipe for another task than that of the checkpoint."""
        own = str(self._request.settings.get("model", {}).get("class_path", config.model.class_path)).rpartition(".")[2]
        given = config.model.class_path.rpartition(".")[2]
        if own != given:
            raise ValueError(
                f"the checkpoint {self._request.checkpoint} is one of {own}, but the command or its recipe asks for "
                f"{given}: leave the recipe out, as a checkpoint stands alone, or give the right one"
            )

    def _warn_of_random_weights(self, config: Any) -> None:
        options = config.model.get("init_args") or {}
        started = options.get("weights") or (options.get("encoder") or {}).get("init_args", {}).get("pretrained")
        if config.ckpt_path or started:
            return
        if self._command == "predict":
            raise ValueError(_NOT_TRAINED)
        rank_zero_warn(f"{self._command} without --ckpt_path or --model.weights uses a network of random weights")

    def instantiate_classes(self) -> None:
        """Build the objects; with a checkpoint, without the weights that it replaces."""
        config = self.config[self._command]
        task, data = config.model.get("init_args") or {}, config.data.get("init_args") or {}
        if self._command != "fit" and data.get("processor", "unsupported") is None:
            stored = self._request.processor or stored_processor(task.get("weights"))
            # As configuration, because jsonargparse warns of objects, which it cannot serialize.
            data["processor"] = stored and _as_configuration(stored)
        if config.ckpt_path:
            encoder = (task.get("encoder") or {}).get("init_args") or {}
            for place, name, without in ((task, "weights", None), (encoder, "pretrained", False)):
                if place.get(name):
                    place[name] = without
        super().instantiate_classes()

    def after_instantiate_classes(self) -> None:
        """Refuse to evaluate another network than the one in a file of weights."""
        report = getattr(self.model, "weight_report", None)
        if self._command != "fit" and report is not None:
            report.check_complete(self._command)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with the callbacks that write the results of a run."""
        config = self._get(self.config_init, "trainer")
        own = config.callbacks or []
        callbacks: list[Callback] = [*own] if isinstance(own, list) else [own]
        kwargs.setdefault("default_root_dir", config.default_root_dir or str(self.folder.path))
        if self._command == "fit":
            kwargs["logger"] = run_loggers(config.logger, self.folder)
            callbacks = [
                self._start,
                *callbacks,
                *fit_callbacks(self.model, self.folder, callbacks, kwargs["logger"], config.enable_checkpointing),
            ]
            if self._get(self.config_init, "run").test_after_fit:
                callbacks.append(TestSplitCheck())
        else:
            # Averaging belongs to training; an evaluation would only warn about it.
            callbacks = [callback for callback in callbacks if not isinstance(callback, WeightAveraging)]
            kwargs["logger"] = False
        if self._command == "predict":
            callbacks.append(PredictionTable(self._get(self.config_init, "output")))
        else:
            callbacks += [ResultTable(self.folder), ClassReport(self.folder)]
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        # The result table is ours, and predictions are on disk already.
        quieter = {"validate": {"verbose": False}, "test": {"verbose": False}, "predict": {"return_predictions": False}}
        path = self._get(self.config_init, "ckpt_path")
        return {**super()._prepare_subcommand_kwargs(subcommand), "ckpt_path": path, **quieter.get(subcommand, {})}

    def after_fit(self) -> None:
        """Test the best checkpoint once, if the run asks for it, and show the results."""
        if self._get(self.config_init, "run").test_after_fit and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._test_best()
        self.after_validate()

    def after_validate(self) -> None:
        """Show the results."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            print_results(self.folder)

    after_test = after_validate

    def after_predict(self) -> None:
        """Print the place of the predictions."""
        table = next(callback for callback in self.trainer.callbacks if isinstance(callback, PredictionTable))  # type: ignore[attr-defined]
        if self.trainer.is_global_zero:
            files = f", and their files into {table.folder}" if table.folder else ""
            print(f"{table.written} predictions written to {table.path}{files}")

    def _test_best(self) -> None:
        best, last = best_checkpoint(self.trainer.callbacks), self.folder.checkpoints / "last.ckpt"  # type: ignore[attr-defined]
        chosen = best or (str(last) if last.is_file() else None)  # without validation or checkpoints: as trained
        # After a fit, weight averaging would replace the weights of the checkpoint by those that were not averaged.
        self.trainer.callbacks = [c for c in self.trainer.callbacks if not isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=chosen, verbose=False)


def run(command: str, args: list[str]) -> None:
    """Run a command; see `tasks.cli.main`."""
    request, args = None, list(map(escaped, args))  # YAML takes no names of other bytes than UTF-8
    try:
        request = read_request(args)
        with quiet(), ExitStack() as resources:
            SoftformerCLI(command, args, request, resources)
    except SIGTERMException:
        sys.exit(128 + signal.SIGTERM)  # asked to end; the checkpoint is saved
    except (*_USER_ERRORS, *_OF_LIGHTNING, ProcessRaisedException) as error:
        root = root_error(error)
        option = None if _is_of_user(root) else _trainer_option(root)
        if os.environ.get(TRACEBACK) == "1" or not (_is_of_user(root) or option):
            raise
        remedy = f"Leave {option} out, or change its options." if option else request.remedy(root) if request else ""
        fail(f"{paragraph(root).rstrip('.')}. {remedy}" if remedy else paragraph(root))


def _as_configuration(processor: Processor) -> Namespace:
    kind, arguments = processor.to_dict().values()
    return Namespace(class_path=kind, init_args=Namespace(arguments))


def _is_of_user(error: BaseException) -> bool:
    """Whether the user can correct an error, which may come from a process of its own (ddp_spawn)."""
    kind: Any = type(error)
    if isinstance(error, ProcessRaisedException):
        kind = locate(kind_in_traceback(error)) or kind
    return issubclass(kind, _USER_ERRORS)


def _trainer_option(error: BaseException) -> str | None:
    """The class of Lightning that raised an error itself; None where the error comes from other code."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    # An error of a missing attribute of a module is raised in torch.
    while frames and frames[-1].f_globals["__name__"] == "torch.nn.modules.module":
        frames.pop()
    if not frames or not frames[-1].f_globals["__name__"].startswith("lightning."):
        return None
    owners = [type(frame.f_locals["self"]) for frame in frames if "self" in frame.f_locals]
    callbacks = [owner.__name__ for owner in owners if issubclass(owner, Callback)]
    return callbacks[-1] if callbacks else "this option of the trainer"
