"""Rows of labelled pictures as batches, kept decoded in memory where they are small."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tasks.data.examples import Batch, Examples, OnBad, Split
from tasks.data.labels import Labels
from tasks.image.augment import BatchAugment
from tasks.image.decoding import read_picture
from tasks.image.transforms import normalized, resize_transform

Picture = Tensor | Image.Image


class PictureReader:
    """A row as (picture, class number or numbers).

    Args:
        image_column: column of the picture.
        labels: how the label column is read; None for pictures without labels.
        settings: input settings: image_size, channels, interpolation and so on.
        folder: what relative file names are relative to.
        resize: bring the picture to its size, as uint8 (C, H, W), where that needs no random numbers; otherwise it
            stays as it is.
    """

    def __init__(
        self, image_column: str, labels: Labels | None, settings: dict[str, Any], *, folder: Path, resize: bool
    ) -> None:
        self.image_column = image_column
        self.labels = labels
        self.channels = settings["channels"]
        self.folder = folder
        self.resize = resize_transform(settings) if resize else None

    def __call__(self, row: dict[str, Any]) -> tuple[Picture, Any]:
        """Decode one row."""
        picture = read_picture(row[self.image_column], self.channels, self.folder)
        label = None if self.labels is None else self.labels.encode_row(row[self.labels.column])
        return (picture if self.resize is None else self.resize(picture)), label


class PictureCollator:
    """Pictures and class numbers as a batch: image (B, C, H, W) float32, label, index (B,).

    Args:
        labels: gives the targets.
        settings: input settings: mean and std.
        augment: what chance does to the pictures; None for evaluation.
    """

    def __init__(self, labels: Labels, settings: dict[str, Any], augment: BatchAugment | None) -> None:
        self.labels = labels
        self.mean = settings["mean"]
        self.std = settings["std"]
        self.augment = augment

    def __call__(self, examples: list[tuple[Picture, Any]], rows: np.ndarray, epoch: int) -> Batch:
        """Examples of `PictureReader`, their row numbers and the epoch to a batch."""
        pictures, labels = zip(*examples)
        if isinstance(pictures[0], Tensor):
            return self.finish(torch.stack(pictures), labels, rows, epoch)
        assert self.augment is not None
        return self.finish(self.augment.crop(list(pictures), rows, epoch), labels, rows, epoch)

    def finish(self, pictures: Tensor, labels: Sequence[Any], rows: np.ndarray, epoch: int) -> Batch:
        """From uint8 pictures (B, C, H, W) on."""
        if self.augment is not None:
            pictures = self.augment.distort(pictures, rows, epoch)
        image = normalized(pictures, self.mean, self.std)
        if self.augment is not None:
            image = self.augment.erase(image, rows, epoch)
        return {"image": image, "label": self.labels.targets(labels), "index": torch.from_numpy(rows)}


class KeptPictures(Examples):
    """Examples whose pictures are decoded and resized once and kept in memory, as uint8.

    Unreadable rows are found while that is done, so none has to be replaced later.

    Args:
        split: the rows.
        read: gives pictures of one size.
        collate: as in `Examples`.
        on_bad: as in `Examples`.
        remedy: as in `Examples`.
        shape: (C, H, W) of a picture.
        num_threads: pictures decoded at a time.
    """

    collate: PictureCollator

    def __init__(
        self,
        split: Split,
        read: PictureReader,
        collate: PictureCollator,
        *,
        on_bad: OnBad,
        remedy: str,
        shape: tuple[int, int, int],
        num_threads: int,
    ) -> None:
        super().__init__(split, read, collate, on_bad=on_bad, remedy=remedy)
        self.pictures = torch.empty((len(split), *shape), dtype=torch.uint8)
        self.labels: list[Any] = []
        good = np.ones(len(split), dtype=bool)
        for position, example in enumerate(self.read_each(num_threads)):
            good[position] = example is not None
            self.labels.append(None)
            if example is not None:
                self.pictures[position], self.labels[position] = example
        self.keep(good)

    def batch(self, positions: np.ndarray, epoch: int) -> Batch:
        """The collated batch of some places of the split."""
        labels = [self.labels[position] for position in positions.tolist()]
        pictures = self.pictures[torch.from_numpy(positions)]
        return self.collate.finish(pictures, labels, self.split.numbers[positions], epoch)
