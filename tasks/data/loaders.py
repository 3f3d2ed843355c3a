"""Loaders that resume where an interrupted run stopped."""

from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from softformer.training.specs import Settings
from tasks.data.batches import EvalBatches, TrainBatches
from tasks.data.examples import Examples
from tasks.data.length_batches import LengthBatches, LengthEvalBatches, RowCosts
from tasks.data.streams import StreamExamples


class Loading(Settings):
    """Options of data loading; the defaults suit most runs.

    Args:
        persistent_workers: Keep worker processes from one epoch to the next.
        shuffle_buffer: Number of rows among which a streamed training split is shuffled.
    """

    def __init__(self, persistent_workers: bool = True, shuffle_buffer: int = 10_000) -> None:
        self.persistent_workers = persistent_workers
        self.shuffle_buffer = shuffle_buffer
        if shuffle_buffer < 1:
            raise ValueError(f"loading.shuffle_buffer must be at least 1 row, got {shuffle_buffer}; leave it out")


DEFAULT_LOADING = Loading()


def position(trainer: Trainer | None) -> tuple[int, int]:
    """The epoch to begin with, and the number of its batches that a resumed run has already done (-1: all)."""
    if trainer is None:
        return 0, 0
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress
    if not trainer.fit_loop.restarting:
        return epochs.processed, 0
    # Of Lightning's counters, only this one is right wherever a checkpoint was saved, also with max_steps.
    epoch = epochs.completed
    if not batches.is_last_batch:
        return epoch, batches.current.processed
    # Saved after an epoch's last batch. If the epoch was counted by then, Lightning (with max_steps) still resumes it
    # and must find nothing left of it; if not, it goes on with the next one.
    return (epoch, -1) if epochs.processed > epoch else (epoch + 1, 0)


def rank_and_world(trainer: Trainer | None) -> tuple[int, int]:
    """The number of this process, and the number of processes that share the data."""
    return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)


class ResumableLoader(DataLoader[Any]):
    """A loader that takes its place from the trainer's progress, so that a run can resume within an epoch.

    The first pass begins where an interrupted run stopped; each later one at the trainer's current epoch. (Lightning
    sets the epoch of a sampler one too far after some resumes with max_steps, and a stream has no sampler.)

    Args:
        dataset: As in `DataLoader`.
        trainer: The run; None for use without one, where `sampler.set_epoch` chooses the epoch.
        layout: Figures that decide which rows a batch holds. A checkpoint stores them: they must be the same for a run
            that resumes within an epoch.
        kwargs: As in `DataLoader`.
    """

    def __init__(self, dataset: Any, *, trainer: Trainer | None, layout: dict[str, int], **kwargs: Any) -> None:
        super().__init__(dataset, **kwargs)
        self.trainer, self.layout, self.fresh = trainer, layout, True

    def __iter__(self) -> Any:
        if self.trainer is None:
            return super().__iter__()
        epoch, start = position(self.trainer) if self.fresh else (self.trainer.current_epoch, 0)
        self.fresh = False
        if isinstance(self.sampler, TrainBatches):
            self.sampler.set_place(epoch, start)
        if not isinstance(self.dataset, StreamExamples):
            return super().__iter__()
        self.dataset.set_place(epoch, start)
        batches = super().__iter__()
        for _ in range(start % self.num_workers if self.num_workers and start > 0 else 0):
            next(batches)  # an empty turn
        return batches

    def state_dict(self) -> dict[str, int]:
        """The layout of the batches."""
        return dict(self.layout)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Refuse another layout than that of the interrupted run, if its checkpoint lies within an epoch."""
        changed = [f"{key} {state[key]} -> {new}" for key, new in self.layout.items() if state.get(key, new) != new]
        if changed and position(self.trainer)[1] > 0:
            raise ValueError(
                f"the checkpoint was saved within an epoch, and the batches of that epoch have changed since: "
                f"{', '.join(changed)}. Go on with the former values, or from a checkpoint of the end of an epoch"
            )


def train_loader(
    examples: Examples | StreamExamples,
    trainer: Trainer | None,
    *,
    batch_size: int,
    seed: int,
    costs: RowCosts | None = None,
    **options: Any,
) -> DataLoader[Any]:
    """Batches to train on, beginning where the trainer's run stopped.

    Args:
        examples: The examples.
        trainer: The run; None for use without one.
        batch_size: Rows in a batch on one device; the most rows where they have costs.
        seed: The data seed.
        costs: Costs of the rows, where these decide the batches.
        options: As in `DataLoader`: workers and memory.
    """
    rank, world = rank_and_world(trainer)
    layout = {"batch_size": batch_size, "seed": seed, "processes": world}
    if isinstance(examples, StreamExamples):
        _check_streaming(trainer, world)
        options = _stream_options(examples, options)
        return ResumableLoader(examples, trainer=trainer, layout=layout, batch_size=None, **options)
    if getattr(trainer, "overfit_batches", 0):
        return _plain_loader(examples, batch_size, options)
    layout["rows"] = len(examples)
    batches = TrainBatches(len(examples), batch_size, seed=seed, rank=rank, num_replicas=world)
    if costs is not None:
        batches = LengthBatches(costs, batch_size, seed=seed, rank=rank, num_replicas=world)
        layout |= costs.layout
    return ResumableLoader(examples, sampler=batches, trainer=trainer, layout=layout, batch_size=None, **options)


def eval_loader(
    examples: Examples | StreamExamples,
    trainer: Trainer | None,
    *,
    batch_size: int,
    costs: RowCosts | None = None,
    **options: Any,
) -> DataLoader[Any]:
    """Batches of a split, in its own order without costs; arguments as in `train_loader`."""
    if isinstance(examples, StreamExamples):
        return DataLoader(examples, batch_size=None, **_stream_options(examples, options))
    if getattr(trainer, "overfit_batches", 0):
        return _plain_loader(examples, batch_size, options)
    rank, world = rank_and_world(trainer)
    batches = EvalBatches(len(examples), batch_size, rank=rank, num_replicas=world)
    if costs is not None and (costs.grouped or costs.most is not None):
        batches = LengthEvalBatches(costs, batch_size, rank=rank, num_replicas=world)
    return DataLoader(examples, sampler=batches, batch_size=None, **options)


def _stream_options(examples: StreamExamples, options: dict[str, Any]) -> dict[str, Any]:
    workers = min(options.get("num_workers", 0), examples.most_workers)
    return {**options, "num_workers": workers, "persistent_workers": options.get("persistent_workers", False)}


def _plain_loader(examples: Examples, batch_size: int, options: dict[str, Any]) -> DataLoader[Any]:
    # Lightning's overfit_batches accepts batches in order, by a sampler that it knows.
    return DataLoader(examples, batch_size=batch_size, collate_fn=_unchanged, **options)


def _unchanged(batch: Any) -> Any:
    return batch


def _check_streaming(trainer: Any, world: int) -> None:
    if trainer is None or trainer.fast_dev_run:
        return
    if trainer.max_steps < 0:
        raise ValueError(
            "streaming=True: the length of a stream is unknown; give the length of the training by --trainer.max_steps"
        )
    if world > 1 and not isinstance(trainer.limit_train_batches, int):
        raise ValueError(
            "streaming=True on several devices: their shares of a stream differ in length; give the length of an "
            "epoch in batches by --trainer.limit_train_batches"
        )
