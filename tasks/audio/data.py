"""Recordings with class labels for audio classification."""

from functools import cached_property, partial
from typing import Any

import numpy as np

from tasks.audio.examples import LabelledRecordingReader, labelled_batch
from tasks.audio.processor import AudioProcessor
from tasks.audio.recording_data import RecordingDataModule
from tasks.data.examples import Batch, Split
from tasks.data.labelled import LabelledDataModule
from tasks.data.labels import shortened
from tasks.data.module import Role


class AudioDataModule(RecordingDataModule, LabelledDataModule):
    """Labelled recordings from anything that `datasets.load_dataset` reads or from a folder, and files to classify.

    A batch holds wave (B, T) float32 in [-1, 1], padded with zeros; length (B,) int64, the number of real samples;
    label, class numbers (B,) int64 or, for lists of labels, zeros and ones (B, K) float32; and index (B,), the row
    numbers. A batch of files holds wave, length, file, and index.

    Args:
        path: hub name, local folder, or a format of local files (parquet, csv, json, ...). A folder of recordings,
            given directly or as audiofolder with data_dir, has a folder for each class, which may lie in folders train,
            validation, and test; or a table metadata.csv with the columns file_name and label.
        kwargs: as in `RecordingDataModule`, `LabelledDataModule`, and `TaskDataModule`.
    """

    def __init__(self, path: str, **kwargs: Any) -> None:
        super().__init__(path, **kwargs)
        if self.label_column is None:
            raise ValueError(
                "label_column must be a column of the data, got None; use SpeechDataModule for transcripts"
            )

    @cached_property
    def processor(self) -> AudioProcessor:
        """The processor of the recordings."""
        return self.given_processor or AudioProcessor(
            self.sample_rate, class_names=self.class_names, multi_label=self.multi_label
        )

    def columns(self) -> dict[str, str]:
        """The columns of recordings and labels."""
        return {"audio_column": self.audio_column, "label_column": str(self.label_column)}

    def reader(self, role: Role) -> LabelledRecordingReader:
        """Reader of recordings and labels."""
        return LabelledRecordingReader(self.recording_reader(role), self.some_labels)

    def collator(self, role: Role) -> partial[Batch]:
        """Collator of recordings and labels."""
        return partial(labelled_batch, labels=self.some_labels)

    def split_for(self, role: Role) -> Split:
        """As in `TaskDataModule`; a class needs two recordings to be divided between training and validation."""
        split = super().split_for(role)
        if role != "test" and self.validation_split() is None and self.val_fraction and not self.multi_label:
            parts = (self._divided[part].rows for part in ("train", "validation"))
            counts = np.sum([self.some_labels.counts(rows) for rows in parts], axis=0)
            if single := [self.some_labels.names[number] for number in np.flatnonzero(counts == 1)]:
                raise ValueError(
                    f"train_split must have two recordings of each class, because a part of it validates (val_fraction "
                    f"{self.val_fraction}), got one of the classes {shortened(single)} in {self.train_split!r}; add "
                    "recordings, leave out these classes, name a validation split by val_split, or set val_fraction 0"
                )
        return split
