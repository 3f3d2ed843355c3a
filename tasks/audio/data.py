"""Sounds and their classes for the audio tasks."""

from typing import Any, cast

import numpy as np

from tasks.audio.examples import LabelledSoundCollator, LabelledSoundReader
from tasks.audio.sounds import SoundDataModule
from tasks.data.examples import OnBad, Split
from tasks.data.labelled import LabelledDataModule
from tasks.data.labels import Labels, shortened
from tasks.data.loaders import DEFAULT_LOADING, Loading
from tasks.data.module import Role
from tasks.data.sources import DataFiles


class AudioDataModule(SoundDataModule, LabelledDataModule):
    """Labelled sounds from anything that `datasets.load_dataset` reads or from a folder, and files to be classified.

    Sounds are decoded by libsndfile (WAV, FLAC, Ogg, MP3 and more), of any sample rate and number of channels; batches
    hold the mean of the channels at one sample rate. A task that was trained before is evaluated at its own, and a row
    has the class of the task that bears the name of its label.

    A batch holds wave (B, T) float32 in [-1, 1], zero behind each sound, length (B,) int64, the samples of each, label
    (B,) int64 or, where a row has several, (B, K) float32 of zeros and ones, and index (B,), the row number; a batch of
    files holds wave, length, file and index.

    Args:
        path: hub name, local folder, or a format of local files (parquet, csv, json, ...). A folder of sounds, given as
            it is or as audiofolder with data_dir, has a folder for each class, in train, validation and test where it
            has such splits, or a table metadata.csv with a row for each sound: its file_name, its label.
        name: configuration of the data set.
        data_dir: folder of the files.
        data_files: files, or files by split: --data.data_files.train train.parquet.
        streaming: read while training, without a prepared copy; needs --trainer.max_steps. Batches are then not grouped
            by length.
        train_split: split to train on; slices such as "train[:90%]" are possible.
        val_split: split to validate on. None: the one called validation (valid, val, dev), or else a part of train.
        test_split: split to test on.
        val_fraction: share of the training split that validates where there is no validation split; 0 for none.
        audio_column: column of the sounds: files, their bytes, or the names of files.
        label_column: column of the labels: class labels, whole numbers or strings, or lists of these.
        class_names: names of the classes where the data has none; without them they are found in the training split.
        sample_rate: sample rate of the batches (Hz).
        shortest: fewest seconds of a sound; a shorter one is bad. The default is a window of the usual features.
        longest: most seconds of a sound to train on; the log counts the longer ones, which are left out. Evaluation
            leaves out none.
        max_seconds: most seconds of a batch, padding included; batch_size is then its most rows. In evaluation a longer
            sound is a batch by itself.
        group_by_length: put sounds of similar length in a batch, in training and in evaluation.
        sounds: files to classify with predict: a folder, a file, a pattern, or a list of these.
        on_bad_sound: at a sound that cannot be decoded, is cut short, silent, too short or has samples that are no
            numbers, "error" stops and names it; "skip" goes on without it and counts it (`skipped`). In training
            another sound takes its place; evaluation looks for such sounds beforehand.
        num_proc: processes that read the lengths of sounds before training.
        batch_size: sounds in a batch on one device.
        num_workers: processes that read sounds; 0 reads in the main process.
        seed: decides the order and the validation part.
        loading: workers and shuffling in detail.
    """

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
        audio_column: str = "audio",
        label_column: str = "label",
        class_names: list[str] | None = None,
        sample_rate: int = 16_000,
        shortest: float = 0.025,
        longest: float | None = None,
        max_seconds: float | None = None,
        group_by_length: bool = True,
        sounds: str | list[str] | None = None,
        on_bad_sound: OnBad = "error",
        num_proc: int = 1,
        batch_size: int = 32,
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
            audio_column=audio_column,
            sample_rate=sample_rate,
            shortest=shortest,
            longest=longest,
            max_seconds=max_seconds,
            group_by_length=group_by_length,
            sounds=sounds,
            on_bad_sound=on_bad_sound,
            num_proc=num_proc,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            loading=loading,
        )
        self.label_column = label_column
        self.given_names = class_names

    @property
    def labels(self) -> Labels:
        """The classes of the label column, in an evaluation those of the task, found by their names."""
        return cast(Labels, super().labels)  # there is a label column, so there are labels

    def input_settings(self) -> dict[str, Any]:
        """The sample rate and the class names, as plain values: what a checkpoint has to keep."""
        return {"sample_rate": self.sample_rate, "class_names": self.class_names, "multi_label": self.multi_label}

    def columns(self) -> dict[str, str]:
        """Sound and label."""
        return {"audio_column": self.audio_column, "label_column": self.label_column}

    def reader(self, role: Role) -> LabelledSoundReader:
        """Decodes."""
        return LabelledSoundReader(self.sound_reader(role), self.labels)

    def collator(self, role: Role) -> LabelledSoundCollator:
        """Pads."""
        return LabelledSoundCollator(self.labels)

    def preparation(self) -> Any:
        """What comes from the task: the shortest sound, and in an evaluation sample rate and classes."""
        return self.least_seconds, self.sample_rate, self.labels

    def split_for(self, role: Role) -> Split:
        """As in `TaskDataModule`; a class that is divided between training and validation has two sounds at least.

        Raises:
            ValueError: One has a single sound; or as in `TaskDataModule`.
        """
        split = super().split_for(role)
        if role != "test" and self.validation_split() is None and self.val_fraction and not self.multi_label:
            parts = (self._divided[part].rows for part in ("train", "validation"))
            counts = np.sum([self.labels.counts(rows) for rows in parts], axis=0)
            single = [self.class_names[number] for number in np.flatnonzero(counts == 1)]
            if single:
                raise ValueError(
                    f"train_split={self.train_split!r}: classes {shortened(single)} have a single sound each, and a "
                    f"share of the sounds is to validate (val_fraction {self.val_fraction}). Add sounds, leave these "
                    "classes out, name a validation split by val_split, or set val_fraction to 0"
                )
        return split
