"""Image files to be classified: a folder or a list of files, with their names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from tasks.data.examples import Batch, Examples, OnBad, Split
from tasks.data.files import list_files
from tasks.image.examples import PictureReader
from tasks.image.folders import IMAGE_SUFFIXES
from tasks.image.transforms import normalized


def list_images(images: str | Sequence[str]) -> list[str]:
    """Image files in a stable order.

    Args:
        images: a folder (with the folders in it), a file, a pattern such as "photos/*.jpg", or a list of these.

    Raises:
        FileNotFoundError: one of them does not exist.
        ValueError: no image files among them.
    """
    return list_files("images", images, IMAGE_SUFFIXES, "image")


class FileCollator:
    """Pictures of files as a batch: image (B, C, H, W) float32, file (list of names), index (B,)."""

    def __init__(self, files: list[str], settings: dict[str, Any]) -> None:
        self.files = files
        self.mean = settings["mean"]
        self.std = settings["std"]

    def __call__(self, examples: list[tuple[Tensor, None]], rows: np.ndarray, epoch: int) -> Batch:
        """Examples of `PictureReader` and their row numbers to a batch."""
        return {
            "image": normalized(torch.stack([picture for picture, _ in examples]), self.mean, self.std),
            "file": [self.files[row] for row in rows.tolist()],
            "index": torch.from_numpy(rows),
        }


def image_files(
    images: str | Sequence[str],
    settings: dict[str, Any],
    *,
    on_bad: OnBad = "error",
    remedy: str = "Repair or remove it",
    num_threads: int = 1,
) -> Examples:
    """Files as examples, prepared as validation prepares pictures.

    Args:
        images: as in `list_images`.
        settings: as in `tasks.image.transforms.eval_transform`.
        on_bad: at a file that cannot be decoded, "error" raises, "skip" leaves it out.
        remedy: what the error advises.
        num_threads: files decoded at a time while those to be left out are looked for.
    """
    files = list_images(images)
    split = Split("images", datasets.Dataset.from_dict({"file": files}), np.arange(len(files)))
    read = PictureReader("file", None, settings, folder=Path(), resize=True)
    examples = Examples(split, read, FileCollator(files, settings), on_bad=on_bad, remedy=remedy)
    if on_bad == "skip":
        examples.remove_unreadable(num_threads)
    return examples
