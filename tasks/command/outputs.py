"""The files of a training run besides its weights, and its first checks."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateFinder, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from softformer.training.callbacks import BestCheckpoint, LastCheckpoint, LearningCurves
from softformer.training.module import SoftformerModule
from softformer.training.run.folder import CONFIG, RunFolder, naming
from softformer.training.run.logger import RunLogger


class RunTrainer(Trainer):
    """Lightning's trainer, with the name of the file in errors of writing a checkpoint."""

    def save_checkpoint(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """As in Lightning."""
        with naming(Path(filepath)):
            super().save_checkpoint(filepath, *args, **kwargs)


class RunStart(Callback):
    """Writes config.yaml, with which the run can be repeated, and the files of the data.

    It does so when training starts, so a run that fails before does not change the folder. With `replace`, it deletes
    the files of an earlier run.
    """

    def __init__(self, folder: RunFolder, config: dict[str, Any], *, replace: bool) -> None:
        self.folder, self.config, self.replace = folder, config, replace

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files."""
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.replace and (others := self.folder.clear()):
            rank_zero_info(f"{self.folder.path} keeps what no run wrote: {', '.join(others)}")
        data = getattr(trainer, "datamodule", None)
        with self.folder.writing(CONFIG) as path:
            path.write_text(yaml.safe_dump(self._repeatable(data), sort_keys=False, allow_unicode=True))
        if write_run_files := getattr(data, "write_run_files", None):
            with self.folder.recording() as path:
                write_run_files(path)

    def _repeatable(self, data: Any) -> dict[str, Any]:
        """The configuration of this run, which also serves as a recipe for other data."""
        config = {**self.config, "ckpt_path": None, "run": {**self.config["run"], "overwrite": False}}
        for part in ("model", "data"):
            arguments = {**(config[part].get("init_args") or {})}
            arguments.pop("processor", None)  # made again from the data
            config[part] = {**config[part], "init_args": arguments}
        if "batch_size" in config["data"]["init_args"]:  # a BatchSizeFinder may have changed it
            config["data"]["init_args"]["batch_size"] = data.batch_size
        return config


class SuggestedLearningRate(Callback):
    """Prints the suggestion of a LearningRateFinder, which a run with a schedule of its own does not follow."""

    def __init__(self, finder: LearningRateFinder) -> None:
        finder._update_attr = False
        self.finder = finder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print it."""
        rate = self.finder.optimal_lr.suggestion() if self.finder.optimal_lr else None
        if rate is not None:
            rank_zero_info(
                f"LearningRateFinder suggests --model.optimizer.lr {rate:.3g}; this run goes on with the rate of its"
                " settings"
            )


class TestSplitCheck(Callback):
    """Opens the test split before training, where its mistakes cost nothing; it is not read to train."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the data module find and check the split."""
        data = getattr(trainer, "datamodule", None)
        if stage == "fit" and data is not None:
            data.setup("test")


def run_loggers(given: Any, folder: RunFolder) -> bool | list[Logger]:
    """The logger of metrics.csv before those that the user chose; none where the user wants none."""
    if given is False:
        return False
    others = given if isinstance(given, list) else [given]
    return [RunLogger(folder.path), *(other for other in others if isinstance(other, Logger))]


def fit_callbacks(
    task: SoftformerModule,
    folder: RunFolder,
    own: list[Callback],
    loggers: bool | list[Logger],
    enable_checkpointing: bool | None,
) -> list[Callback]:
    """The callbacks of a training run besides the user's own: checkpoints, learning rate, and curves.

    A ModelCheckpoint with a metric among the user's own replaces best.ckpt, which the metric of the task chooses.
    """
    callbacks: list[Callback] = [SuggestedLearningRate(c) for c in own if isinstance(c, LearningRateFinder)]
    if enable_checkpointing is not False:
        if not any(isinstance(callback, ModelCheckpoint) and callback.monitor for callback in own):
            callbacks.append(BestCheckpoint(folder.checkpoints, task.monitor, task.monitor_mode))
        callbacks.append(LastCheckpoint(folder.checkpoints))
    if isinstance(loggers, list) and isinstance(loggers[0], RunLogger):
        callbacks += [LearningRateMonitor("step"), LearningCurves(loggers[0])]
    return callbacks


def best_checkpoint(callbacks: list[Callback]) -> str:
    """The file of the best checkpoint of the run that just ended; empty without validation or checkpoints."""
    # The user's callbacks may include others without a metric, which save the latest or after an exception.
    watching = (callback for callback in callbacks if isinstance(callback, ModelCheckpoint) and callback.monitor)
    return next((callback.best_model_path for callback in watching if callback.best_model_path), "")
