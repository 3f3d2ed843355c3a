"""The check that training can resume from a checkpoint with the given settings."""

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging

from softformer.models.checkpoint_keys import OPTIMIZER_KEY, OPTIMIZER_STATES_KEY, TRAINING_STATE_KEY
from softformer.training.optimizer import OptimizerSpec
from softformer.training.specs import describe


def check_resumable(optimizer: OptimizerSpec, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Raise a ValueError for a checkpoint of weights alone, of other settings of the optimizer, or of averaged weights.

    The optimizer's state includes its learning rate, decay and momenta, so new values would be ignored silently. The
    schedule is not in that state: it follows the task and the length of the run, which may both change.
    """
    # Some strategies store the optimizer outside the checkpoint and restore it themselves.
    if OPTIMIZER_STATES_KEY not in checkpoint and trainer.strategy.lightning_restore_optimizer:
        raise ValueError(
            "training cannot go on from this checkpoint, which holds weights without the state of the optimizer:"
            " start a new run from them with --model.weights FILE instead of --ckpt_path FILE"
        )
    ours, theirs = describe(optimizer), checkpoint.get(OPTIMIZER_KEY, {})
    changed = [
        f"optimizer.{name} is {theirs[name]} in the checkpoint and {value} here"
        for name, value in ours.items()
        if name in theirs and theirs[name] != value
    ]
    if changed:
        raise ValueError(
            f"training goes on with the optimizer of the checkpoint, whose settings differ: {'; '.join(changed)}. Set"
            " them as they were to go on with the run, or start a new run from its weights with --model.weights FILE"
            " instead of --ckpt_path FILE"
        )
    averaging = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if TRAINING_STATE_KEY in checkpoint and not averaging:
        raise ValueError(
            "the checkpoint was written with weight averaging, so its weights are averages and training cannot go on"
            " from them as if they were not: add the same EMAWeightAveraging callback to trainer.callbacks"
        )
