"""The checkpoint from which a run resumes exactly where it stopped."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info


class LastCheckpoint(Checkpoint):
    """Saves last.ckpt after every epoch, every `every_n_steps` steps, and when the run is stopped inside an epoch.

    Lightning's ``save_last`` follows the best checkpoint, not the last epoch, and stores a stop inside an epoch as if
    the epoch had ended. Here the first Ctrl-C ends the run after the current step; the second ends it at once.

    Args:
        folder: Folder of last.ckpt.
        every_n_steps: Optimizer steps between saves inside an epoch.
    """

    def __init__(self, folder: Path, every_n_steps: int = 1000) -> None:
        self.path = folder / "last.ckpt"
        self._every_n_steps = every_n_steps
        self._saved_step = 0
        self._interrupted = False
        self._stopping = False
        self._handler: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch for Ctrl-C in runs of one process; several could not agree on the step."""
        self._saved_step, self._interrupted, self._stopping = trainer.global_step, False, False
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupt)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save inside an epoch after an optimizer step."""
        inside_step = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        if self._epoch_is_over(trainer) or (inside_step and not trainer.should_stop):
            return
        # Only the first time: with min_epochs Lightning goes on although it was asked to stop.
        ends = (trainer.should_stop and not self._stopping) or (0 <= trainer.max_steps <= trainer.global_step)
        self._stopping = trainer.should_stop
        if ends or self._interrupted or trainer.global_step - self._saved_step >= self._every_n_steps:
            self._save(trainer)
        if self._interrupted:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a whole epoch."""
        if self._epoch_is_over(trainer):
            self._save(trainer)
            if self._interrupted:
                raise KeyboardInterrupt

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save when the system asks the run to end, as a cluster does; Lightning calls no `teardown` then."""
        if isinstance(exception, SIGTERMException) and trainer.global_step > self._saved_step:
            self._save(trainer)
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the handler of Ctrl-C."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        unfinished = self.path.with_suffix(".part")
        trainer.save_checkpoint(unfinished, weights_only=False)
        if trainer.is_global_zero:
            os.replace(unfinished, self.path)  # a run that dies while it writes keeps its last checkpoint
        self._saved_step = trainer.global_step

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        rank_zero_info("\nStopping after this step, with a checkpoint. Ctrl-C again stops at once, without.")

    @staticmethod
    def _epoch_is_over(trainer: Trainer) -> bool:
        return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
