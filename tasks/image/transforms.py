"""From a decoded image to the tensor that a network takes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform
from torch import Tensor

from softformer.training.specs import Settings
from tasks.image.decoding import Channels, middle

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
CropMode = Literal["center", "squash", "border"]
Statistics = Literal["imagenet", "auto"] | list[float]

# Longer images are cropped to their middle before they are resized.
_LARGEST_RATIO = 64
# A constant channel is shifted, and not divided by zero.
_LEAST_STD = 1 / 255


class Preprocess(Settings):
    """Resizing, cropping, and normalization of images.

    Args:
        mean: mean of each channel, for values in [0, 1]; "imagenet", or "auto" for the mean of 1,024 images of the
            training split. An evaluation of a trained task uses the mean and std of the task.
        std: standard deviation of each channel; "imagenet" or "auto", as for mean.
        interpolation: interpolation of the resizing.
        crop_pct: side of the crop over the side of the resized image, in (0, 1].
        crop_mode: "center" resizes the shorter side and cuts off the ends of the longer one, "squash" resizes both
            sides, "border" resizes the longer side and adds a border. As in timm.
    """

    def __init__(
        self,
        mean: Statistics = "imagenet",
        std: Statistics = "imagenet",
        interpolation: Interpolation = "bilinear",
        crop_pct: float = 1.0,
        crop_mode: CropMode = "center",
    ) -> None:
        self.mean = mean
        self.std = std
        self.interpolation = interpolation
        self.crop_pct = crop_pct
        self.crop_mode = crop_mode
        if not 0 < crop_pct <= 1:
            raise ValueError(f"preprocess.crop_pct must be a share in (0, 1], got {crop_pct}")


def channel_statistics(
    argument: str, given: Statistics, channels: Channels, measured: Callable[[], tuple[list[float], list[float]]]
) -> list[float]:
    """The numbers of `Preprocess.mean` or `Preprocess.std`; for one channel, "imagenet" is the average of its three.

    `measured` returns mean and std of the training split.
    """
    if given == "auto":
        return measured()[0 if argument == "mean" else 1]
    if given == "imagenet":
        known = IMAGENET_DEFAULT_MEAN if argument == "mean" else IMAGENET_DEFAULT_STD
        return list(known) if channels == 3 else [sum(known) / 3]
    values = [float(value) for value in cast(Sequence[float], given)]
    if len(values) != channels:
        raise ValueError(
            f"preprocess.{argument} must be 'imagenet', 'auto', or one number for each of {channels} channels, got "
            f"{given}"
        )
    if argument == "std" and min(values) <= 0:
        raise ValueError(f"preprocess.std must be positive, got {given}")
    return values


def measured_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of images (N, C, H, W) uint8, for values in [0, 1]."""
    values = images.transpose(0, 1).flatten(1).double() / 255
    return values.mean(1).tolist(), values.std(1, correction=0).clamp(min=_LEAST_STD).tolist()


def resize_transform(
    image_size: tuple[int, int],
    interpolation: Interpolation,
    crop_pct: float,
    crop_mode: CropMode,
    mean: Sequence[float],
) -> Callable[[Image.Image], Tensor]:
    """The resizing and cropping of validation: PIL image to uint8 (C, H, W). A border has the color of the mean."""
    options = {"interpolation": interpolation, "crop_pct": crop_pct, "crop_mode": crop_mode}
    transform = create_transform(image_size, is_training=False, mean=tuple(mean), normalize=False, **options)
    # A line of pixels would take gigabytes at the height of the network's input, or become 0 pixels high in a border.
    ratios = {"center": _LARGEST_RATIO, "border": 2 * min(image_size) - 1}
    if crop_mode in ratios:
        transform.transforms.insert(0, partial(middle, ratio=ratios[crop_mode]))
    return transform


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std of uint8 images (..., C, H, W), as float32."""
    scale = torch.tensor([1 / (255 * value) for value in std])[:, None, None]
    shift = torch.tensor([average / value for average, value in zip(mean, std)])[:, None, None]
    return images.float().mul_(scale).sub_(shift)
