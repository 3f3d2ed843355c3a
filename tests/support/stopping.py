"""Ways in which a run stops before its end."""

import os
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Crash(Exception):
    """Not one that anybody handles."""


class Stop(Callback):
    """Ends the run after an optimizer step: in the way of max_time, by Ctrl-C, by a cluster, or by a crash."""

    def __init__(self, how: str, step: int) -> None:
        self.how, self.step, self.done = how, step, False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step != self.step or self.done:
            return
        self.done = True
        if self.how == "time":
            trainer.should_stop = True
        elif self.how in ("SIGINT", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, self.how))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.how == "crash" and trainer.global_step == self.step:
            self.done = True
            raise Crash
