"""The LightningModule that every task extends: optimizer, schedule, metrics, seeding and checkpoints, once."""

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MetricCollection

from softformer.models.checkpoint_keys import DATA_KEY, OPTIMIZER_KEY, SEED_KEY, STATE_KEY
from softformer.training.checkpoints.compiled import store_plain_names
from softformer.training.checkpoints.content import (
    CheckpointFile,
    as_read,
    check_state_fits,
    check_storable,
    data_description,
    rebuildable_hyperparameters,
)
from softformer.training.checkpoints.resume import check_resumable
from softformer.training.checkpoints.weights import WeightReport, load_weights
from softformer.training.divergence import stop_if_not_finite
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import RunSchedule, ScheduleSpec
from softformer.training.seeding import mix, run_seed
from softformer.training.specs import describe

Stage = Literal["train", "val", "test"]

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()


class SoftformerModule(LightningModule):
    """Base of the tasks.

    A task sets ``self.network``, calls `begin`, and implements `step`. The arguments of its ``__init__`` become its
    hyperparameters, stored in checkpoints as plain values: such a checkpoint loads with ``weights_only``, from Python,
    from the command line, and without other files.

    Args:
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.

    Attributes:
        network: The network in training; the optimizer has no other parameters.
        weight_report: Report of the loaded ``weights``; None without these.
        monitor: The metric by which the best checkpoint is chosen.
        monitor_mode: "max" if larger values of the metric are better, else "min".
    """

    network: nn.Module
    monitor: str = "val/loss"
    monitor_mode: Literal["min", "max"] = "min"

    def __init__(self, *, optimizer: OptimizerSpec = _OPTIMIZER, schedule: ScheduleSpec = _SCHEDULE) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # finds the arguments of the subclass in the frames above
        store_plain_names(self)
        self.optimizer_spec = optimizer
        self.schedule_spec = schedule
        self.weight_report: WeightReport | None = None
        self._seed: int | None = None
        self._frozen: tuple[nn.Module, nn.Module] | None = None

    @abstractmethod
    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """The mean loss of a batch, a scalar; also updates the metrics of the stage (`log_metrics`)."""

    def begin(self, *, weights: str | Path | None, head: nn.Module, freeze_backbone: bool) -> None:
        """Load starting weights into the network, and freeze all but its head. Called once, by the task.

        Args:
            weights: File of starting weights (see `softformer.training.checkpoints.weights`), or None.
            head: The part of the network that always trains.
            freeze_backbone: Whether the rest keeps its weights, its statistics and its evaluation mode.
        """
        if weights is not None:
            self.weight_report = load_weights(self.network, weights)
            self.print_once(str(self.weight_report))
        if freeze_backbone:
            self.network.requires_grad_(False)
            head.requires_grad_(True)
            self._frozen = (self.network, head)
            self.train(self.training)

    def make_metrics(self, metrics: MetricCollection) -> None:
        """Give each stage its own copy of the metrics, named ``train/...``, ``val/...`` and ``test/...``."""
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")

    @torch.compiler.disable
    def log_metrics(self, stage: Stage, predictions: Any, targets: Any) -> None:
        """Update the metrics of a stage, with tensors or lists of texts, and log them at the end of the epoch."""
        metrics = getattr(self, f"{stage}_metrics")
        metrics.update(predictions, targets)
        for name, metric in metrics.items(keep_base=False, copy_state=False):
            shown = name == self.monitor
            # Lightning would infer the number of rows from the batch, which a metric does not need.
            self.log(name, metric, on_step=False, on_epoch=True, prog_bar=shown, batch_size=len(targets))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step of training; stops the run when the loss is not a number."""
        loss = self._logged_step(batch, "train")
        stop_if_not_finite(self.trainer, loss, self.network, lambda: self.step(batch, "train"))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Metrics of a validation batch."""
        self._logged_step(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Metrics of a test batch."""
        self._logged_step(batch, "test")

    @partial(torch.compiler.disable, recursive=False)
    def _logged_step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        loss = self.step(batch, stage)
        options: dict[str, Any] = {"on_epoch": True, "sync_dist": True, "batch_size": self.rows_of_loss(batch)}
        self.log(f"{stage}/loss", loss, on_step=stage == "train", prog_bar=stage == "train", **options)
        return loss

    def rows_of_loss(self, batch: dict[str, Any]) -> int | None:
        """Number of rows of which the last loss of `step` is the mean; None for a batch without index."""
        # Lightning would infer the number of rows from every value, and warn of lists of texts.
        return len(batch["index"]) if "index" in batch else None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and a schedule that moves once per optimizer step."""
        optimizer = self.optimizer_spec.build(self.network)
        schedule = RunSchedule(optimizer, self.schedule_spec, self.optimizer_spec.lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "lr"}}

    def on_fit_start(self) -> None:
        """Check before the first epoch that checkpoints can hold this task and its data."""
        if self.trainer.checkpoint_callbacks:
            check_storable(type(self), self.hparams, getattr(self.trainer, "datamodule", None))

    def on_train_start(self) -> None:
        """Give the schedule the length of the run, which must be known, and set the seed of a new run."""
        total = self.trainer.estimated_stepping_batches
        if total == float("inf"):
            raise ValueError("the schedule needs the length of the run: set trainer.max_epochs or trainer.max_steps")
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, RunSchedule):
                config.scheduler.start(int(total))
        if self._seed is None:
            self._seed = run_seed()

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Seed the random numbers of the forward pass (dropout) by the position in the run."""
        torch.manual_seed(self.batch_seed(batch_idx) % 2**63)

    def batch_seed(self, batch_idx: int, purpose: int = 0) -> int:
        """A seed from the run's seed, the epoch, the batch, the rank, and the purpose."""
        seed = run_seed() if self._seed is None else self._seed
        return mix(seed, self.trainer.current_epoch, batch_idx, self.global_rank, purpose)

    def train(self, mode: bool = True) -> "SoftformerModule":
        """Switch to training mode, the frozen part excepted."""
        super().train(mode)
        if self._frozen is not None:
            backbone, head = self._frozen
            backbone.eval()
            head.train(mode)
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store all that is needed to build the task and the data from the checkpoint alone."""
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = rebuildable_hyperparameters(type(self), self.hparams)
        data = getattr(self.trainer, "datamodule", None)
        checkpoint[DATA_KEY] = data_description(data)
        checkpoint[OPTIMIZER_KEY] = describe(self.optimizer_spec)
        # Lightning stores the objects themselves, which weights_only would refuse.
        checkpoint.pop(LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY, None)
        checkpoint[SEED_KEY] = run_seed() if self._seed is None else self._seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another configuration, and restore the seed of its run."""
        check_state_fits(self.state_dict(), checkpoint.get(STATE_KEY, {}))
        if self._trainer is not None and self._trainer.training:
            check_resumable(self.optimizer_spec, self._trainer, checkpoint)
        self._seed = checkpoint.get(SEED_KEY)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: CheckpointFile, **kwargs: Any) -> Any:  # type: ignore[override]
        """As in Lightning; also for checkpoints of earlier versions."""
        return super().load_from_checkpoint(as_read(checkpoint_path), **kwargs)

    @rank_zero_only
    def print_once(self, message: str) -> None:
        """Print on the first process only, also before there is a trainer."""
        print(message)
