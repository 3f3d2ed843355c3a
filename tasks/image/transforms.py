"""From a decoded picture to the tensor that a network takes, described by plain settings that a checkpoint keeps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform
from torch import Tensor

from tasks.image.decoding import Channels, middle, to_channels

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
CropMode = Literal["center", "squash", "border"]
Statistics = Literal["imagenet", "auto"] | list[float]

_NEEDED = ("image_size", "channels", "mean", "std", "interpolation", "crop_pct", "crop_mode")
# The middle of a longer image alone is resized.
_LARGEST_RATIO = 64
# A channel that never varies is shifted, not stretched.
_LEAST_STD = 1 / 255


@dataclass(frozen=True)
class Preprocess:
    """How a picture is brought to its size and its values to their range.

    Args:
        mean: mean of each channel, of values from 0 to 1, that is subtracted. "imagenet": that of ImageNet; "auto":
            that of the training split, from 1,024 of its pictures. An evaluation of a trained task takes both from it.
        std: standard deviation of each channel that the result is divided by; "imagenet" and "auto" likewise.
        interpolation: how pictures are resized.
        crop_pct: side of the part that is kept over side of the resized picture; 1 keeps as much as possible.
        crop_mode: "center" resizes the shorter side and cuts off the ends of the longer one, "squash" resizes both
            sides, "border" resizes the longer side and adds a border. As in timm.
    """

    mean: Statistics = "imagenet"
    std: Statistics = "imagenet"
    interpolation: Interpolation = "bilinear"
    crop_pct: float = 1.0
    crop_mode: CropMode = "center"

    def __post_init__(self) -> None:
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"preprocess.crop_pct: expected a share in (0, 1], got {self.crop_pct}")


def channel_statistics(
    argument: str, given: Statistics, channels: Channels, measured: Callable[[], tuple[list[float], list[float]]]
) -> list[float]:
    """The numbers that `Preprocess.mean` or `Preprocess.std` stands for.

    Args:
        argument: "mean" or "std".
        given: the user's choice.
        channels: channels of the pictures; one channel takes the average of ImageNet's three.
        measured: gives mean and std of the training split.

    Raises:
        ValueError: not one number for each channel, or a std that is not positive.
    """
    if given == "auto":
        return measured()[0 if argument == "mean" else 1]
    if given == "imagenet":
        known = IMAGENET_DEFAULT_MEAN if argument == "mean" else IMAGENET_DEFAULT_STD
        return list(known) if channels == 3 else [sum(known) / 3]
    values = [float(value) for value in cast(Sequence[float], given)]
    if len(values) != channels:
        raise ValueError(
            f"preprocess.{argument}: expected 'imagenet', 'auto' or one number for each of {channels} channels, "
            f"got {given}"
        )
    if argument == "std" and min(values) <= 0:
        raise ValueError(f"preprocess.std: expected positive numbers, got {given}")
    return values


def measured_statistics(pictures: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for values from 0 to 1.

    Args:
        pictures: (N, C, H, W) uint8.
    """
    values = pictures.transpose(0, 1).flatten(1).double() / 255
    return values.mean(1).tolist(), values.std(1, correction=0).clamp(min=_LEAST_STD).tolist()


def resize_transform(settings: dict[str, Any]) -> Callable[[Image.Image], Tensor]:
    """The resizing and cropping of validation: PIL image to uint8 (C, H, W). Settings as in `eval_transform`."""
    transform = create_transform(
        tuple(settings["image_size"]),
        is_training=False,
        interpolation=settings["interpolation"],
        mean=tuple(settings["mean"]),
        crop_pct=settings["crop_pct"],
        crop_mode=settings["crop_mode"],
        normalize=False,
    )
    # A line of pixels would take gigabytes at the height of the network's input, or become 0 pixels high in a border.
    ratios = {"center": _LARGEST_RATIO, "border": 2 * min(settings["image_size"]) - 1}
    if settings["crop_mode"] in ratios:
        transform.transforms.insert(0, partial(middle, ratio=ratios[settings["crop_mode"]]))
    return transform


def normalized(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std of uint8 pictures (..., C, H, W), as float32."""
    scale = torch.tensor([1 / (255 * value) for value in std])[:, None, None]
    shift = torch.tensor([average / value for average, value in zip(mean, std)])[:, None, None]
    return pictures.float().mul_(scale).sub_(shift)


class EvalTransform:
    """What validation does to a picture; made by `eval_transform`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.channels: Channels = settings["channels"]
        self.mean = settings["mean"]
        self.std = settings["std"]
        self.resize = resize_transform(settings)

    def __call__(self, image: Image.Image) -> Tensor:
        """PIL image of any mode to float32 (C, H, W)."""
        return normalized(self.resize(to_channels(image, self.channels)), self.mean, self.std)


def eval_transform(settings: dict[str, Any]) -> EvalTransform:
    """The transform of validation and prediction, from what `ImageDataModule.input_settings` wrote.

    Args:
        settings: image_size [height, width], channels (1 or 3), mean and std (a number for each channel),
            interpolation, crop_pct, crop_mode; further keys are not looked at.

    Raises:
        ValueError: a setting is missing.
    """
    missing = [name for name in _NEEDED if name not in settings]
    if missing:
        raise ValueError(f"input settings: expected {', '.join(_NEEDED)}; missing: {', '.join(missing)}")
    return EvalTransform(settings)
