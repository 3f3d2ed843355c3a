"""The processor of images: size, channels, normalization, and the names of the classes."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from tasks.image.decoding import Channels, read_image
from tasks.image.transforms import CropMode, Interpolation, normalize, resize_transform
from tasks.processor import Processor

RawImage = str | Path | Image.Image | np.ndarray | Tensor


class ImageProcessor(Processor):
    """Decodes images, resizes and crops them, and normalizes their values to (x / 255 - mean) / std.

    Args:
        image_size: Height and width of the result in pixels.
        channels: 1 for grayscale, 3 for RGB.
        mean: Mean of each channel, for values in [0, 1].
        std: Standard deviation of each channel, for values in [0, 1].
        interpolation: Interpolation of the resizing.
        crop_pct: Side of the crop over the side of the resized image, in (0, 1].
        crop_mode: "center", "squash", or "border", as in timm.
        class_names: Names of the classes in the order of their numbers.
        multi_label: Whether an image has any number of classes.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: Channels,
        mean: list[float],
        std: list[float],
        interpolation: Interpolation = "bilinear",
        crop_pct: float = 1.0,
        crop_mode: CropMode = "center",
        class_names: list[str] | None = None,
        multi_label: bool = False,
    ) -> None:
        if len(mean) != channels or len(std) != channels:
            raise ValueError(
                f"mean and std must have one number for each of {channels} channels, got {len(mean)} and {len(std)}"
            )
        self.image_size = (image_size[0], image_size[1])
        self.channels = channels
        self.mean = list(mean)
        self.std = list(std)
        self.interpolation = interpolation
        self.crop_pct = crop_pct
        self.crop_mode = crop_mode
        self.class_names = class_names or None
        self.multi_label = multi_label

    @cached_property
    def _resize(self) -> Any:
        return resize_transform(self.image_size, self.interpolation, self.crop_pct, self.crop_mode, self.mean)

    def decode(self, value: Any, folder: Path = Path()) -> Image.Image:
        """An 8-bit image of the processor's channels, in its own size (see `tasks.image.decoding.read_image`)."""
        return read_image(value, self.channels, folder)

    def read(self, value: Any, folder: Path = Path()) -> Tensor:
        """A resized and cropped image, uint8 (C, H, W); arguments as in `decode`."""
        return self._resize(self.decode(value, folder))

    def normalize(self, images: Tensor) -> Tensor:
        """The input of the network, (B, C, H, W) float32, for images (B, C, H, W) uint8."""
        return normalize(images, self.mean, self.std)

    def __call__(self, images: Sequence[RawImage]) -> Tensor:
        """A batch (B, C, H, W) float32 of raw images.

        Args:
            images: Paths, PIL images, arrays (H, W), (H, W, C), or (C, H, W), or tensors (C, H, W): uint8, or floats in
                [0, 1].

        Raises:
            ValueError: An image cannot be decoded, or has another shape or other values.
        """
        return self.normalize(torch.stack([self.read(_decodable(image)) for image in images]))

    def difference(self, other: "ImageProcessor") -> str | None:
        """The first of channels, mean, and std that differs; images of other sizes suit the same network."""
        for name in ("channels", "mean", "std"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                return f"{name} is {theirs} in the data and {ours} in the task"
        return None


def as_images(images: RawImage | Sequence[RawImage]) -> list[RawImage]:
    """An image, or a sequence of images, as a list. An array or a tensor of four axes is a sequence."""
    if isinstance(images, np.ndarray | Tensor):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | Path | Image.Image) else list(images)


def _decodable(image: RawImage) -> Any:
    if isinstance(image, Path):
        return str(image)
    if not isinstance(image, np.ndarray | Tensor):
        return image
    if isinstance(image, np.ndarray):
        refused = image.dtype.kind not in "iuf"
    else:
        refused = image.is_complex() or image.dtype == torch.bool
    if refused:
        raise ValueError(
            f"images must be whole numbers in [0, 255] or floating-point numbers in [0, 1], got {image.dtype}; convert "
            "them to uint8"
        )
    if isinstance(image, np.ndarray):
        # torch takes no array that is reversed, read-only, or in another byte order.
        array = torch.from_numpy(np.require(image, image.dtype.newbyteorder("="), ["C", "W"]))
        array = array.permute(2, 0, 1) if array.ndim == 3 and array.shape[-1] in (1, 3, 4) else array
    else:
        array = image.detach()
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] not in (1, 3, 4) or not array.numel():
        raise ValueError(
            "images must be arrays (H, W), (H, W, C) or (C, H, W), or tensors (C, H, W), of 1, 3, or 4 channels, "
            f"got shape {tuple(image.shape)}"
        )
    floating = array.is_floating_point()
    array = array.float() if floating else array.long()  # uint16 has no minimum, and bfloat16 is no type of numpy
    least, most = (0, 1) if floating else (0, 255)
    if not (array.min() >= least and array.max() <= most):  # NaN is outside, too
        raise ValueError(
            f"images of type {image.dtype} must have values in [{least}, {most}], got {array.min().item():g} to "
            f"{array.max().item():g}; divide values in [0, 255] by 255, or convert them to uint8"
        )
    return to_pil_image(array if floating else array.to(torch.uint8))
