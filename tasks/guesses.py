"""Predictions of a classifier: pictures in, best classes and their probabilities out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from tasks.image.decoding import read_picture
from tasks.image.transforms import eval_transform

Picture = str | Path | Image.Image | Tensor

BEST = 5


class Guess(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


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


def best_guesses(probabilities: Tensor, names: Sequence[str], top_k: int) -> list[list[Guess]]:
    """The likeliest classes of each row, best first.

    Args:
        probabilities: (B, K).
        names: Of the K classes.
        top_k: How many; at most K.
    """
    values, classes = probabilities.topk(min(top_k, probabilities.shape[1]))
    return [
        [Guess(names[number], value) for number, value in zip(numbers, row)]
        for numbers, row in zip(classes.tolist(), values.tolist())
    ]


def columns(guesses: Sequence[Guess]) -> dict[str, str]:
    """Guesses as columns of a table: class_1, probability_1, class_2 and so on."""
    row: dict[str, str] = {}
    for place, (label, probability) in enumerate(guesses, start=1):
        row |= {f"class_{place}": label, f"probability_{place}": f"{probability:.6f}"}
    return row
