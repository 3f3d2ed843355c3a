"""What pictures take over from the task that they are to evaluate: normalization, and the names of the classes."""

from typing import Any

from lightning.pytorch import Trainer


def trained_settings(trainer: Trainer | None) -> dict[str, Any] | None:
    """Input settings of the task that a run evaluates; None where the task has none, or learns them from the data.

    A checkpoint is read after the data's `setup`, so the answer is right from the making of loaders on.

    Args:
        trainer: the run; None for data without one.
    """
    if trainer is None or trainer.state.fn is None or trainer.state.fn == "fit":
        return None
    return getattr(trainer.lightning_module, "input_settings", None)


def normalized_as_trained(geometry: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """Input settings of an evaluation: size and cropping of the data module, mean and std of the task.

    Args:
        geometry: image_size, channels, interpolation, crop_pct, crop_mode.
        trained: the task's input settings.

    Raises:
        ValueError: the task was trained with another number of channels.
    """
    channels = len(trained["mean"])
    if channels != geometry["channels"]:
        raise ValueError(
            f"channels: expected {channels}, with which the task was trained, got {geometry['channels']}; leave it out "
            f"or set --data.channels {channels}"
        )
    return {**geometry, "mean": trained["mean"], "std": trained["std"]}
