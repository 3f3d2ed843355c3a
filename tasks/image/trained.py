"""What pictures take over from the task that they are to evaluate: mean and standard deviation."""

from typing import Any


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
