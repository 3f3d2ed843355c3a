"""What a training run writes beside its weights, and the checks it begins with."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import Logger

from softformer.training.callbacks import BestCheckpoint, LastCheckpoint, LearningCurves
from softformer.training.module import SoftformerModule
from softformer.training.run.folder import CONFIG, RunFolder
from softformer.training.run.logger import RunLogger
from tasks.command.run import RunSettings
from tasks.data.module import TaskDataModule


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml, with which the run can be repeated, and what the data keep, when training really starts."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: a run that fails before its first step leaves no trace."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        if trainer.is_global_zero:
            config = self.config.clone()
            config.ckpt_path, config.run.overwrite = None, False
            # Data make their processor again, so that the file also serves as a recipe for other data.
            for part in (config.model, config.data):
                (part.get("init_args") or {}).pop("processor", None)
            folder = RunSettings(**vars(config.run)).folder().path
            folder.mkdir(parents=True, exist_ok=True)
            text = self.parser.dump(config, skip_unset=False, skip_link_targets=False)
            (folder / CONFIG).write_text(text)
            data = getattr(trainer, "datamodule", None)
            if isinstance(data, TaskDataModule):
                data.write_run_files(folder)


class ReplaceRun(Callback):
    """Deletes what an earlier run left in the folder, when training really starts: a run that fails before keeps it.

    Args:
        folder: The folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Delete, before other callbacks write."""
        self.folder.clear()


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
    """Checkpoints, learning rate and curves of a training run, beside the callbacks that the user chose.

    Args:
        task: Names the metric that chooses the best checkpoint.
        folder: The folder of the run.
        own: The user's callbacks; a ModelCheckpoint with a metric among them replaces ours.
        loggers: What `run_loggers` gave.
        enable_checkpointing: The trainer's argument.
    """
    callbacks: list[Callback] = []
    if enable_checkpointing is not False:
        if not any(isinstance(callback, ModelCheckpoint) and callback.monitor for callback in own):
            callbacks.append(BestCheckpoint(folder.checkpoints, task.monitor, task.monitor_mode))
        callbacks.append(LastCheckpoint(folder.checkpoints))
    if isinstance(loggers, list) and isinstance(loggers[0], RunLogger):
        callbacks += [LearningRateMonitor("step"), LearningCurves(loggers[0])]
    return callbacks


def best_checkpoint(callbacks: list[Callback]) -> str:
    """The file of the best checkpoint of the run that just ended; empty without validation or checkpoints.

    The user's callbacks may hold others, which keep the latest or what an exception left.
    """
    watching = (callback for callback in callbacks if isinstance(callback, ModelCheckpoint) and callback.monitor)
    return next((callback.best_model_path for callback in watching if callback.best_model_path), "")
