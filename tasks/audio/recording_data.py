"""The base of the data modules of recordings: lengths, batches limited in seconds, and files to predict."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from tasks.audio.examples import RecordingExamples, RecordingReader, file_batch
from tasks.audio.processor import AudioProcessor
from tasks.audio.reading.folders import AudioSource
from tasks.audio.reading.headers import ReadHeaders, by_position, read_headers
from tasks.audio.reading.waveforms import AUDIO_SUFFIXES, LEAST_RATE, MOST_RATE
from tasks.data.examples import Examples, OnBad, Split
from tasks.data.files import list_files
from tasks.data.length_batches import RowCosts
from tasks.data.module import Role, TaskDataModule
from tasks.data.streams import StreamExamples

# Column types of file names and of bytes; null is the type of a column without values.
_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
# Default maximum seconds of a batch of files to predict; a file may last hours.
_MAX_PREDICTED = 600.0


class RecordingDataModule(TaskDataModule):
    """Base of the data modules of recordings.

    libsndfile reads recordings of any sample rate and number of channels (WAV, FLAC, Ogg, MP3, and more); batches hold
    the mean of the channels at one sample rate.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, ...), or built-in name.
        audio_column: column of the recordings: files, their bytes, or the names of files.
        sample_rate: sample rate of the batches (Hz). A given processor decides instead.
        shortest: minimum length of a recording in seconds; a shorter recording is bad. The default is one window of the
            default features.
        longest: maximum length of a recording to train on in seconds; longer recordings are dropped from training, and
            the log counts them.
        max_seconds: maximum seconds of a batch, padding included, in addition to batch_size. In evaluation, a longer
            recording is a batch by itself.
        group_by_length: whether a batch has recordings of similar length, in training and in evaluation.
        sounds: recordings to predict: a folder, a file, a pattern, or a list of these.
        on_bad_sound: at a recording that cannot be read, is cut short, silent, too short, or has samples that are not
            finite, or whose transcript cannot be used, "error" raises and names it; "skip" leaves it out and counts it
            (`skipped`). Training replaces it by another recording; evaluation reads all recordings beforehand.
        num_proc: number of processes that read the lengths of recordings before training.
        batch_size: rows in a batch on one device.
        processor: the processor of a trained task, whose sample rate, units, and classes are used. By default the data
            makes its own.
        kwargs: as in `TaskDataModule`.
    """

    source_class: ClassVar = AudioSource
    csv_as_text: ClassVar[bool] = True
    on_bad_argument: ClassVar[str] = "on_bad_sound"

    def __init__(
        self,
        path: str,
        *,
        audio_column: str = "audio",
        sample_rate: int = 16_000,
        shortest: float = 0.025,
        longest: float | None = None,
        max_seconds: float | None = None,
        group_by_length: bool = True,
        sounds: str | list[str] | None = None,
        on_bad_sound: OnBad = "error",
        num_proc: int = 1,
        batch_size: int = 32,
        processor: AudioProcessor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(path, on_bad=on_bad_sound, batch_size=batch_size, processor=processor, **kwargs)
        if not LEAST_RATE <= sample_rate <= MOST_RATE:
            raise ValueError(f"sample_rate must be {LEAST_RATE:,} to {MOST_RATE:,} Hz, got {sample_rate}")
        if shortest < 0:
            raise ValueError(f"shortest must be at least 0 seconds, got {shortest}")
        if longest is not None and longest <= shortest:
            raise ValueError(f"longest must be more seconds than shortest, {shortest:g}, got {longest:g}")
        if max_seconds is not None and max_seconds <= 0:
            raise ValueError(f"max_seconds must be a positive number of seconds, got {max_seconds}")
        if num_proc < 1:
            raise ValueError(f"num_proc must be a whole number of at least 1, got {num_proc}")
        for argument, value in {"longest": longest, "max_seconds": max_seconds}.items():
            if self.source.streaming and value is not None:
                raise ValueError(
                    f"{argument} must be left out with streaming, because the lengths of streamed recordings are "
                    f"unknown, got {value}; choose a batch_size with which the longest recordings fit into memory"
                )
        self.audio_column = audio_column
        self.sample_rate = sample_rate if processor is None else processor.sample_rate
        self.shortest = shortest
        self._required_seconds = 0.0
        self.longest = longest
        self.max_seconds = max_seconds
        self.group_by_length = group_by_length
        self.sounds = sounds
        self.num_proc = num_proc

    def row_faults(self, split: Split) -> dict[int, str]:
        """Faults of rows apart from their recordings, by their position in the split; none in the base."""
        return {}

    @property
    def min_seconds(self) -> float:
        """Minimum length of a recording in seconds: `shortest`, or more if the task of the run requires it."""
        return max(self.shortest, self._required_seconds)

    def require_seconds(self, seconds: float) -> None:
        """Set the minimum length that the task of a run requires, and check splits again if that changes it."""
        before, self._required_seconds = self.min_seconds, seconds
        if self.min_seconds != before:
            roles = [role for role in self._examples if role != "predict"]
            self._examples.clear()
            for role in roles:
                self.examples_for(role)

    def prepare_rows(self, rows: Any) -> Any:
        """Leave recordings undecoded, because errors of our reader name their files."""
        feature = (rows.features or self.features)[self.audio_column]
        if isinstance(feature, datasets.Audio):
            # A stream of the type Audio would decode and encode each recording.
            plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
            streamed = isinstance(rows, datasets.IterableDataset)
            return rows.cast_column(self.audio_column, plain if streamed else datasets.Audio(decode=False))
        stored = isinstance(feature, dict) and ("bytes" in feature or "path" in feature)
        if not stored and getattr(feature, "dtype", None) not in _TYPES:
            raise ValueError(
                "audio_column must be a column of recordings (files, their bytes, or file names), got "
                f"{self.audio_column!r} of type {feature}; choose another column"
            )
        return rows

    def recording_reader(self, role: Role) -> RecordingReader:
        """Reader of the recordings of a role."""
        return RecordingReader(self.audio_column, self.processor, folder=self._folder(role), shortest=self.min_seconds)

    def _folder(self, role: Role) -> Path:
        if isinstance(self.features[self.audio_column], datasets.Audio):
            return Path()  # `datasets` makes file names absolute
        return self.source.folder_of(self._choice(role)[1] or self.train_split)

    def map_examples(self, role: Role, split: Split) -> Examples:
        """Read the headers of a split, and make its examples."""
        options: dict[str, Any] = {"shortest": self.min_seconds, "name": split.name, "num_proc": self.num_proc}
        seconds, faults = read_headers(split.rows, self.audio_column, folder=self._folder(role), **options)
        faults = {**self.row_faults(split), **faults}
        if role == "train" and self.longest is not None:
            positions = _not_longer(self.longest, split, seconds)
            split = Split(split.name, split.rows.select(positions), split.numbers[positions])
            faults = {now: faults[before] for now, before in enumerate(positions.tolist()) if before in faults}
            seconds = seconds[positions]
        return self._recordings(role, split, seconds, faults, self.reader(role), self.collator(role))

    def _recordings(
        self, role: Role, split: Split, seconds: np.ndarray, faults: dict[int, str], read: Any, collate: Any
    ) -> RecordingExamples:
        options: dict[str, Any] = {"on_bad": self.on_bad, "remedy": self.remedy}
        return self.readable(role, RecordingExamples(split, read, collate, seconds, faults, **options))

    def row_costs(self, examples: Examples | StreamExamples) -> RowCosts | None:
        """Lengths of recordings in seconds; a recording longer than max_seconds is an error in training only."""
        if not isinstance(examples, RecordingExamples):
            return None
        trains = examples is self._examples.get("train")
        limit = self.max_seconds or (_MAX_PREDICTED if examples is self._examples.get("predict") else None)
        return RowCosts(examples.seconds, limit, self.group_by_length, argument="max_seconds", longer_alone=not trains)

    def prepare_data(self) -> None:
        """Download and read headers on one process; the other processes find them in the cache."""
        super().prepare_data()
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.setup("fit")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the files to predict: wave (B, T) float32, length (B,), file, a list of names, and index (B,)."""
        if self.sounds is None:
            raise ValueError(
                "sounds must be given to predict, got None; set --data.sounds to a folder, a file, or a list of files"
            )
        # Files have no labels and no transcripts, so the data set need not be read for its classes or units.
        processor = self.given_processor or AudioProcessor(self.sample_rate)
        files = list_files("sounds", self.sounds, AUDIO_SUFFIXES, "audio")
        split = Split("sounds", datasets.Dataset.from_dict({"file": files}), np.arange(len(files)))
        headers = ReadHeaders("file", shortest=self.min_seconds)({"file": files})
        seconds, faults = np.array(headers["_seconds"]), by_position(headers["_fault"])
        read, collate = RecordingReader("file", processor, shortest=self.min_seconds), partial(file_batch, files=files)
        self._examples["predict"] = self._recordings("predict", split, seconds, faults, read, collate)
        return self._eval_loader("predict")


def _not_longer(longest: float, split: Split, seconds: np.ndarray) -> np.ndarray:
    """Positions of the recordings that are short enough to train on."""
    positions = np.flatnonzero(seconds <= longest)
    if not len(positions):
        raise ValueError(
            f"longest must be at least {seconds.min():g}, the length of the shortest recording of {split.name}, got "
            f"{longest:g}; raise it, or leave it out"
        )
    if len(positions) < len(split):
        rank_zero_info(
            f"{split.name}: {len(split) - len(positions):,} of {len(split):,} recordings last more than {longest:g} s "
            "(longest); they are left out"
        )
    return positions
