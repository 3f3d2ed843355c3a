"""Pictures of any kind as a batch that a network takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from tasks.image.decoding import read_picture
from tasks.image.transforms import eval_transform

Picture = str | Path | Image.Image | Tensor


def as_list(images: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture or several, also as a tensor (B, C, H, W), as a list."""
    if isinstance(images, Tensor):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | Path | Image.Image) else list(images)


def prepared(pictures: Sequence[Picture], settings: dict[str, Any]) -> Tensor:
    """Pictures of any kind as a batch (B, C, H, W) for the network.

    Args:
        pictures: Paths, PIL images, or tensors (C, H, W), uint8 or float in [0, 1].
        settings: As `tasks.image.transforms.eval_transform` takes them.

    Raises:
        ValueError: A picture cannot be decoded.
    """
    transform = eval_transform(settings)
    return torch.stack([transform(read_picture(_readable(picture), settings["channels"])) for picture in pictures])


def _readable(picture: Picture) -> str | Image.Image:
    if isinstance(picture, Tensor):
        return to_pil_image(picture)
    return str(picture) if isinstance(picture, Path) else picture
