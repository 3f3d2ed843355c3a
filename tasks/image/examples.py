"""Batches of rows of images, and a cache of decoded images in memory."""

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
    """Turns a row into an image, and its class number or numbers if there are `labels`.

    The image is uint8 (C, H, W), or in its own size with `resize` False. `folder` is that of relative file names.
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
        """Read one row."""
        image = self.read(row[self.image_column], self.folder)
        return image, None if self.labels is None else self.labels.encode_row(row[self.labels.column])


class ImageCollator:
    """Turns images and class numbers into a batch: image (B, C, H, W) float32, label, file, and index (B,).

    `augment` is None in evaluation; `files` are names of the images, by row number.
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
        """A batch of examples of `ImageReader`, with their row numbers (B,), in an epoch."""
        images, labels = zip(*examples)
        if self.augment is None or isinstance(images[0], Tensor):
            return self.finish(torch.stack(images), labels, rows, epoch)
        return self.finish(self.augment.crop(images, rows, epoch), labels, rows, epoch)

    def finish(self, images: Tensor, labels: Sequence[Any], rows: np.ndarray, epoch: int) -> Batch:
        """A batch of uint8 images (B, C, H, W)."""
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
    """Examples whose images are decoded and resized once, by several threads, and cached in memory as uint8.

    Unreadable rows are found when the cache is filled, so none has to be replaced later.
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
        num_threads: int,
    ) -> None:
        super().__init__(split, read, collate, on_bad=on_bad, remedy=remedy)
        shape = (len(split), collate.processor.channels, *collate.processor.image_size)
        self.images = torch.empty(shape, dtype=torch.uint8)
        self.labels: list[Any] = []
        good = np.ones(len(split), dtype=bool)
        for position, example in enumerate(self.read_each(num_threads)):
            good[position] = example is not None
            self.labels.append(None)
            if example is not None:
                self.images[position], self.labels[position] = example
        self.keep(good)

    def batch(self, positions: np.ndarray, epoch: int) -> Batch:
        labels = [self.labels[position] for position in positions.tolist()]
        images = self.images[torch.from_numpy(positions)]
        return self.collate.finish(images, labels, self.split.numbers[positions], epoch)
