"""The data module of images with classes."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import datasets
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from tasks.data.examples import Examples, OnBad, ReadError, Split
from tasks.data.files import list_files
from tasks.data.labelled import LabelledDataModule
from tasks.data.module import Role
from tasks.image.augment import Augment, BatchAugment
from tasks.image.built_in.digits import digits
from tasks.image.decoding import Channels
from tasks.image.examples import CachedImages, ImageCollator, ImageReader
from tasks.image.folders import IMAGE_SUFFIXES, ImageSource
from tasks.image.processor import ImageProcessor
from tasks.image.transforms import Preprocess, channel_statistics, measured_statistics

_PREPROCESS = Preprocess()
_AUGMENT = Augment()
_IMAGE_SIZE = (224, 224)
_MOST_CACHED = 2**30  # bytes
_MEASURED = 1024  # images whose mean and std are measured
_MANY = 10_000  # reading more images into memory is logged
_LARGE = 64  # threads do not speed up the decoding of smaller images


class ImageDataModule(LabelledDataModule):
    """Images with labels from anything that `datasets.load_dataset` reads, and files of images to predict.

    A batch contains image (B, C, H, W) float32; label (B,) int64, or (B, K) float32 of zeros and ones where a row has a
    list of labels; and index (B,), the row numbers. A batch of files contains image, file, and index.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, imagefolder, ...), or
            "sklearn/digits".
        image_column: column of the images: files, their bytes, or the names of files.
        image_size: height and width of the network's input in pixels, or one number for both. None: that of the
            processor, or 224.
        channels: 1 for grayscale, 3 for RGB. None: those of the processor, or 3.
        preprocess: resizing, cropping, and normalization. None: cropping of the processor, or the defaults.
        augment: augmentation of training images.
        images: images to predict: a folder, a file, a pattern, or a list of these.
        on_bad_image: at an image that cannot be decoded, "error" stops and names it; "skip" leaves it out and counts it
            (`skipped`). In training another image takes its place; evaluation looks for such images beforehand.
        cache: cache decoded images in memory. "auto" caches a split of up to 1 GiB, unless images are cropped before
            they are resized.
        batch_size: rows in a batch on one device.
        processor: the processor of a trained task: its channels, mean, std, and classes are used, and its size and
            cropping where image_size and preprocess do not say otherwise. By default the data makes its own.
        kwargs: as in `LabelledDataModule` and `TaskDataModule`.
    """

    built_in: ClassVar = {"sklearn/digits": digits}
    source_class: ClassVar = ImageSource
    on_bad_argument: ClassVar[str] = "on_bad_image"

    def __init__(
        self,
        path: str,
        *,
        image_column: str = "image",
        image_size: int | tuple[int, int] | None = None,
        channels: Channels | None = None,
        preprocess: Preprocess | None = None,
        augment: Augment = _AUGMENT,
        images: str | list[str] | None = None,
        on_bad_image: OnBad = "error",
        cache: bool | Literal["auto"] = "auto",
        batch_size: int = 64,
        processor: ImageProcessor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(path, on_bad=on_bad_image, batch_size=batch_size, processor=processor, **kwargs)
        sides = (image_size, image_size) if isinstance(image_size, int) else image_size
        if sides is not None and (len(sides) != 2 or min(sides) < 1):
            raise ValueError(f"image_size must be one side, or height and width, in pixels, got {image_size}")
        if channels not in (1, 3, None):
            raise ValueError(f"channels must be 1 (grayscale) or 3 (RGB), got {channels}")
        if processor is not None and channels not in (processor.channels, None):
            raise ValueError(
                f"channels must be {processor.channels}, with which the task was trained, got {channels}; leave "
                f"channels out, or set --data.channels {processor.channels}"
            )
        if cache is True and (augment.crop == "resized" or self.source.streaming):
            raise ValueError(
                "cache must be auto or false where images are cropped at random before they are resized, or streamed, "
                "got true; set cache to auto, or augment.crop to pad or none"
            )
        if self.label_column is None:
            raise ValueError("label_column must be a column of the data, got None")
        self.image_column = image_column
        self.image_size = sides
        self.channels: Channels = channels or (3 if processor is None else processor.channels)
        self.preprocess = preprocess
        self.augment = augment
        self.images = images
        self.cache = cache

    @cached_property
    def processor(self) -> ImageProcessor:
        """The processor of the images; a given one with the image_size and the cropping of this module."""
        if self.given_processor is not None:
            return self.prediction_processor
        return self.prediction_processor.replace(class_names=self.class_names, multi_label=self.multi_label)

    @cached_property
    def prediction_processor(self) -> ImageProcessor:
        """The processor of images to predict: without classes if the data makes it, as these would have to be read."""
        if self.given_processor is not None:
            return self.given_processor.replace(**self._geometry)
        given = self.preprocess or _PREPROCESS
        mean = channel_statistics("mean", given.mean, self.channels, lambda: self._measured)
        std = channel_statistics("std", given.std, self.channels, lambda: self._measured)
        return ImageProcessor(channels=self.channels, mean=mean, std=std, **self._geometry)

    @cached_property
    def _geometry(self) -> dict[str, Any]:
        """Size and cropping: those that were given, else those of the processor, else the defaults."""
        size, cropping = self.image_size, self.preprocess
        if self.given_processor is None:
            size, cropping = size or _IMAGE_SIZE, cropping or _PREPROCESS
        names = () if cropping is None else ("interpolation", "crop_pct", "crop_mode")
        return {name: getattr(cropping, name) for name in names} | ({} if size is None else {"image_size": size})

    @cached_property
    def _measured(self) -> tuple[list[float], list[float]]:
        if self.source.streaming:
            raise ValueError(
                "preprocess.mean and preprocess.std must be numbers where the data is streamed, got 'auto'; give one "
                "number for each channel"
            )
        split = self.split_for("train")
        gray, unit = [0.5] * self.channels, [1.0] * self.channels
        processor = ImageProcessor(channels=self.channels, mean=gray, std=unit, **self._geometry)
        read = ImageReader(self.image_column, None, processor, folder=self._folder("train"))
        chosen = np.random.default_rng(self.seed % 2**32).permutation(len(split))[:_MEASURED]
        part = Split(split.name, split.rows.select(chosen), split.numbers[chosen])
        examples = Examples(part, read, lambda *_: {}, on_bad=self.on_bad, remedy=self.remedy)
        images = [example[0] for example in examples.read_each(self._num_threads) if example is not None]
        if not images:
            raise ReadError(f"{split.name}: none of {len(part)} rows can be read")
        return measured_statistics(torch.stack(images))

    # Methods of the base that a domain defines.

    def columns(self) -> dict[str, str]:
        return {"image_column": self.image_column, "label_column": str(self.label_column)}

    def prepare_rows(self, rows: Any) -> Any:
        """A split whose images are decoded by our reader, which names those that it cannot decode."""
        if isinstance(self.features[self.image_column], datasets.Image):
            return rows.cast_column(self.image_column, datasets.Image(decode=False))
        return rows

    def reader(self, role: Role) -> ImageReader:
        """Decodes images, and resizes them unless the collator crops them at random first."""
        resize = role != "train" or self.augment.crop != "resized"
        return ImageReader(self.image_column, self.labels, self.processor, folder=self._folder(role), resize=resize)

    def collator(self, role: Role) -> ImageCollator:
        """Normalizes, and augments in training."""
        augment = BatchAugment(self.augment, self.processor, self.seed) if role == "train" else None
        return ImageCollator(self.processor, self.labels, augment)

    def map_examples(self, role: Role, split: Split) -> Examples:
        """The examples of a split, cached in memory as `cache` says."""
        height, width = self.processor.image_size
        small = len(split) * self.channels * height * width <= _MOST_CACHED
        resized = role != "train" or self.augment.crop != "resized"
        if not (small and resized if self.cache == "auto" else self.cache):
            return super().map_examples(role, split)
        if len(split) >= _MANY:
            rank_zero_info(f"Reading the {len(split):,} images of {split.name} into memory")
        return CachedImages(
            split,
            self.reader(role),
            self.collator(role),
            on_bad=self.on_bad,
            remedy=self.remedy,
            num_threads=self._num_threads,
        )

    @property
    def _num_threads(self) -> int:
        given = {} if self.given_processor is None else self.given_processor.init_args
        return max(1, self.num_workers) if min({**given, **self._geometry}["image_size"]) > _LARGE else 1

    def _folder(self, role: Role) -> Path:
        if isinstance(self.features[self.image_column], datasets.Image):
            return Path()  # `datasets` stores absolute paths
        return self.source.folder_of(self._choice(role)[1] or self.train_split)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the images to predict."""
        if self.images is None:
            raise ValueError(
                "images must be files of images to predict, got None; give them by --data.images FOLDER (or a file, or "
                "a list of files)"
            )
        processor, files = self.prediction_processor, list_files("images", self.images, IMAGE_SUFFIXES, "image")
        split = Split("images", datasets.Dataset.from_dict({"file": files}), np.arange(len(files)))
        read, collate = ImageReader("file", None, processor), ImageCollator(processor, files=files)
        examples = Examples(split, read, collate, on_bad=self.on_bad, remedy=self.remedy)
        self._examples["predict"] = self.readable("predict", examples)
        return self._eval_loader("predict")
