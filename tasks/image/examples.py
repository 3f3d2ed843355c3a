"""Rows of images as batches, and as a cache of decoded images in memory."""

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
from tasks.image.processor import ImageProcessor

ImageOrTensor = Tensor | Image.Image


class ImageReader:
    """A row as (image, class number or numbers).

    Args:
        image_column: Column of the images.
        labels: How the label column is read; None for images without labels.
        processor: Decodes and resizes.
        folder: What relative file names are relative to.
        resize: Whether to resize and crop to uint8 (C, H, W); otherwise the image keeps its size.
    """

    def __init__(
        self,
        image_column: str,
        labels: Labels | None,
        processor: ImageProcessor,
        *,
        folder: Path = Path(),
        resize: bool = True,
    ) -> None:
        self.image_column = image_column
        self.labels = labels
        self.read = processor.read if resize else processor.decode
        self.folder = folder

    def __call__(self, row: dict[str, Any]) -> tuple[ImageOrTensor, Any]:
        """Decode one row."""
        image = self.read(row[self.image_column], self.folder)
        return image, None if self.labels is None else self.labels.encode_row(row[self.labels.column])


class ImageCollator:
    """Images and class numbers as a batch: image (B, C, H, W) float32, label, file, and index (B,).

    Args:
        processor: Normalizes.
        labels: Gives the targets; None for images without labels.
        augment: Augments the images; None for evaluation.
        files: Names of the images by row number, which the batch then holds.
    """

    def __init__(
        self,
        processor: ImageProcessor,
        labels: Labels | None = None,
        augment: BatchAugment | None = None,
        files: Sequence[str] | None = None,
    ) -> None:
        self.processor = processor
        self.labels = labels
        self.augment = augment
        self.files = files

    def __call__(self, examples: list[tuple[ImageOrTensor, Any]], rows: np.ndarray, epoch: int) -> Batch:
        """Examples of `ImageReader`, their row numbers, and the epoch to a batch."""
        images, labels = zip(*examples)
        if isinstance(images[0], Tensor):
            return self.finish(torch.stack(images), labels, rows, epoch)
        assert self.augment is not None
        return self.finish(self.augment.crop(list(images), rows, epoch), labels, rows, epoch)

    def finish(self, images: Tensor, labels: Sequence[Any], rows: np.ndarray, epoch: int) -> Batch:
        """A batch from uint8 images (B, C, H, W)."""
        if self.augment is not None:
            images = self.augment.distort(images, rows, epoch)
        image = self.processor.normalize(images)
        if self.augment is not None:
            image = self.augment.erase(image, rows, epoch)
        batch: Batch = {"image": image}
        if self.labels is not None:
            batch["label"] = self.labels.targets(labels)
        if self.files is not None:
            batch["file"] = [self.files[row] for row in rows.tolist()]
        return {**batch, "index": torch.from_numpy(rows)}


class CachedImages(Examples):
    """Examples whose images are decoded and resized once and cached in memory, as uint8.

    Unreadable rows are found when the cache is filled, so none has to be replaced later.

    Args:
        split: The rows.
        read: Gives images of one size.
        collate: As in `Examples`.
        on_bad: As in `Examples`.
        remedy: As in `Examples`.
        shape: (C, H, W) of an image.
        num_threads: Images decoded at a time.
    """

    collate: ImageCollator

    def __init__(
        self,
        split: Split,
        read: ImageReader,
        collate: ImageCollator,
        *,
        on_bad: OnBad,
        remedy: str,
        shape: tuple[int, int, int],
        num_threads: int,
    ) -> None:
        super().__init__(split, read, collate, on_bad=on_bad, remedy=remedy)
        self.images = torch.empty((len(split), *shape), dtype=torch.uint8)
        self.labels: list[Any] = []
        good = np.ones(len(split), dtype=bool)
        for position, example in enumerate(self.read_each(num_threads)):
            good[position] = example is not None
            self.labels.append(None)
            if example is not None:
                self.images[position], self.labels[position] = example
        self.keep(good)

    def batch(self, positions: np.ndarray, epoch: int) -> Batch:
        """The collated batch of some places of the split."""
        labels = [self.labels[position] for position in positions.tolist()]
        images = self.images[torch.from_numpy(positions)]
        return self.collate.finish(images, labels, self.split.numbers[positions], epoch)
