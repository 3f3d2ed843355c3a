"""Pictures and their classes for the image tasks."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import datasets
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from tasks.data.examples import Examples, OnBad, ReadError, Split
from tasks.data.labelled import LabelledDataModule
from tasks.data.labels import Labels
from tasks.data.loaders import DEFAULT_LOADING, Loading, eval_loader
from tasks.data.module import Role
from tasks.data.sources import DataFiles
from tasks.image.augment import Augment, BatchAugment
from tasks.image.built_in.digits import digits
from tasks.image.decoding import Channels
from tasks.image.examples import KeptPictures, PictureCollator, PictureReader
from tasks.image.files import image_files
from tasks.image.folders import ImageSource
from tasks.image.trained import normalized_as_trained
from tasks.image.transforms import Preprocess, channel_statistics, measured_statistics

Cache = bool | Literal["auto"]

_PREPROCESS = Preprocess()
_AUGMENT = Augment()
_MOST_KEPT = 2**30
_MEASURED = 1024
# Reading fewer pictures takes no time worth a message.
_MANY = 10_000
# Decoding smaller pictures is too short for threads to gain anything.
_LARGE = 64


class ImageDataModule(LabelledDataModule):
    """Labelled pictures from anything that `datasets.load_dataset` reads, and files to be classified.

    A task that was trained before is evaluated as it was trained: it gives mean and std, and a row has the class of the
    task that bears the name of its label.

    A batch holds image (B, C, H, W) float32, label (B,) int64 or, where a row has several, (B, K) float32 of zeros and
    ones, and index (B,), the row number; a batch of files holds image, file and index.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, imagefolder, ...), or
            "sklearn/digits".
        name: configuration of the data set.
        data_dir: folder of the files.
        data_files: files, or files by split: --data.data_files.train train.parquet.
        streaming: read while training, without a prepared copy; needs --trainer.max_steps.
        train_split: split to train on; slices such as "train[:90%]" are possible.
        val_split: split to validate on. None: the one called validation (valid, val, dev), or else a part of train.
        test_split: split to test on.
        val_fraction: share of the training split that validates where there is no validation split; 0 for none.
        image_column: column of the pictures: files, their bytes, or the names of files.
        label_column: column of the labels: class labels, whole numbers or strings, or lists of these.
        class_names: names of the classes where the data has none; without them they are found in the training split.
        image_size: height and width of the network's input in pixels, or one number for both.
        channels: 1 makes pictures grey, 3 makes them RGB.
        preprocess: resizing, cropping and normalization.
        augment: what chance does to training pictures.
        images: files to classify with predict: a folder, a file, a pattern, or a list of these.
        on_bad_image: at a picture that cannot be decoded, "error" stops and names it; "skip" goes on without it and
            counts it (`skipped`). In training another picture takes its place; evaluation looks for such pictures
            beforehand.
        cache: keep decoded pictures in memory. "auto": those of a split that take no more than 1 GiB, unless they are
            cropped before they are resized.
        batch_size: pictures in a batch on one device.
        num_workers: processes that read pictures; 0 reads in the main process.
        seed: decides the order, the augmentation and the validation part.
        loading: workers and shuffling in detail.
    """

    built_in: ClassVar = {"sklearn/digits": digits}
    on_bad_argument: ClassVar[str] = "on_bad_image"
    label_column: str

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        data_dir: str | None = None,
        data_files: DataFiles | None = None,
        streaming: bool = False,
        train_split: str = "train",
        val_split: str | None = None,
        test_split: str = "test",
        val_fraction: float = 0.1,
        image_column: str = "image",
        label_column: str = "label",
        class_names: list[str] | None = None,
        image_size: int | tuple[int, int] = 224,
        channels: Channels = 3,
        preprocess: Preprocess = _PREPROCESS,
        augment: Augment = _AUGMENT,
        images: str | list[str] | None = None,
        on_bad_image: OnBad = "error",
        cache: Cache = "auto",
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        loading: Loading = DEFAULT_LOADING,
    ) -> None:
        super().__init__(
            path,
            name=name,
            data_dir=data_dir,
            data_files=data_files,
            streaming=streaming,
            train_split=train_split,
            val_split=val_split,
            test_split=test_split,
            val_fraction=val_fraction,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            on_bad=on_bad_image,
            loading=loading,
        )
        self.source = ImageSource(path, name, data_dir, data_files, streaming, self.built_in)
        sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"image_size: expected one side or height and width, in pixels, got {image_size}")
        if channels not in (1, 3):
            raise ValueError(f"channels: expected 1 (grey) or 3 (RGB), got {channels}")
        if cache is True and (augment.crop == "resized" or streaming):
            raise ValueError(
                "cache=True: pictures can be kept only where they are resized before chance cuts them, from a data set "
                "that is not streamed; set cache to auto, or augment.crop to pad or none"
            )
        self.image_column = image_column
        self.label_column = label_column
        self.given_names = class_names
        self.image_size: tuple[int, int] = (sides[0], sides[1])
        self.channels: Channels = channels
        self.preprocess = preprocess
        self.augment = augment
        self.images = images
        self.cache = cache

    # What the data says of itself.

    @property
    def labels(self) -> Labels:
        """The classes of the label column, in an evaluation those of the task, found by their names."""
        return cast(Labels, super().labels)  # there is a label column, so there are labels

    def input_settings(self) -> dict[str, Any]:
        """How pictures are prepared, and the class names, as plain values: what a checkpoint has to keep.

        `tasks.image.transforms.eval_transform` makes the transform from it.
        """
        return {**self._settings, "class_names": self.class_names, "multi_label": self.multi_label}

    @cached_property
    def _geometry(self) -> dict[str, Any]:
        return {
            "image_size": list(self.image_size),
            "channels": self.channels,
            "interpolation": self.preprocess.interpolation,
            "crop_pct": self.preprocess.crop_pct,
            "crop_mode": self.preprocess.crop_mode,
        }

    @property
    def _settings(self) -> dict[str, Any]:
        if trained := self.trained_settings:
            return normalized_as_trained(self._geometry, trained)
        statistics = {
            name: channel_statistics(name, getattr(self.preprocess, name), self.channels, lambda: self._measured)
            for name in ("mean", "std")
        }
        return {**self._geometry, **statistics}

    @cached_property
    def _measured(self) -> tuple[list[float], list[float]]:
        if self.source.streaming:
            raise ValueError("preprocess.mean or std='auto': a streamed data set is not measured; give the numbers")
        split = self.split_for("train")
        settings = {**self._geometry, "mean": [0.5] * self.channels}
        read = PictureReader(self.image_column, None, settings, folder=self._folder("train"), resize=True)
        chosen = np.random.default_rng(self.seed % 2**32).permutation(len(split))[:_MEASURED]
        part = Split(split.name, split.rows.select(chosen), split.numbers[chosen])
        examples = Examples(part, read, lambda *_: {}, on_bad=self.on_bad, remedy=self.remedy)
        pictures = [example[0] for example in examples.read_each(self._num_threads) if example is not None]
        if not pictures:
            raise ReadError(f"{split.name}: none of {len(part)} rows can be read")
        return measured_statistics(torch.stack(pictures))

    # What the base asks of a domain.

    def columns(self) -> dict[str, str]:
        """Picture and label."""
        return {"image_column": self.image_column, "label_column": self.label_column}

    def prepare_rows(self, rows: Any) -> Any:
        """Leave decoding to our readers, which name what they cannot decode."""
        if isinstance(self.features[self.image_column], datasets.Image):
            return rows.cast_column(self.image_column, datasets.Image(decode=False))
        return rows

    def reader(self, role: Role) -> PictureReader:
        """Decodes, and resizes unless that waits for a random crop."""
        resize = role != "train" or self.augment.crop != "resized"
        return PictureReader(self.image_column, self.labels, self._settings, folder=self._folder(role), resize=resize)

    def collator(self, role: Role) -> PictureCollator:
        """Normalizes and, for training, augments."""
        augment = BatchAugment(self.augment, self._settings, self.seed) if role == "train" else None
        return PictureCollator(self.labels, self._settings, augment)

    def preparation(self) -> Any:
        """What an evaluation takes from its task: normalization and classes."""
        return self._settings, self.labels

    def map_examples(self, role: Role, split: Split) -> Examples:
        """The examples of a split, in memory if they are to be kept."""
        if not self._keeps(role, split):
            return super().map_examples(role, split)
        if len(split) >= _MANY:
            rank_zero_info(f"Reading the {len(split):,} pictures of {split.name} into memory")
        return KeptPictures(
            split,
            self.reader(role),
            self.collator(role),
            on_bad=self.on_bad,
            remedy=self.remedy,
            shape=(self.channels, *self.image_size),
            num_threads=self._num_threads,
        )

    def _keeps(self, role: Role, split: Split) -> bool:
        if self.cache != "auto":
            return self.cache
        size = len(split) * self.channels * self.image_size[0] * self.image_size[1]
        return size <= _MOST_KEPT and (role != "train" or self.augment.crop != "resized")

    @property
    def _num_threads(self) -> int:
        return max(1, self.num_workers) if min(self.image_size) > _LARGE else 1

    def _folder(self, role: Role) -> Path:
        if isinstance(self.features[self.image_column], datasets.Image):
            return Path()  # `datasets` knows where these lie
        return self.source.folder_of(self._choice(role)[1] or self.train_split)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the files to classify, prepared as the checkpoint says, or else as this module does.

        Raises:
            ValueError: no files are given.
            FileNotFoundError: a file does not exist.
        """
        if self.images is None:
            raise ValueError("images: expected files to classify: --data.images FOLDER (or a file, or a list of files)")
        settings = self.trained_settings or self._settings
        files = image_files(
            self.images, settings, on_bad=self.on_bad, remedy=self.remedy, num_threads=max(1, self.num_workers)
        )
        self._examples["predict"] = files
        return eval_loader(files, self.trainer, batch_size=self.batch_size, **self._loader_options())
