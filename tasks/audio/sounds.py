"""What data modules of sounds share: reading, lengths, batches limited in seconds, and files to be predicted."""

from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from tasks.audio.examples import RecordingExamples, RecordingReader
from tasks.audio.files import sound_files
from tasks.audio.processor import AudioProcessor
from tasks.audio.reading.folders import AudioSource
from tasks.audio.reading.headers import read_headers
from tasks.audio.reading.waveforms import LEAST_RATE, MOST_RATE
from tasks.data.examples import Examples, OnBad, Split
from tasks.data.length_batches import RowCosts
from tasks.data.loaders import eval_loader
from tasks.data.module import Role, TaskDataModule
from tasks.data.streams import StreamExamples

# What file names and bytes are in a table; null is a column without any value.
_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
# Seconds of a batch of files to predict where nothing limits them: files may last hours.
_MOST_PREDICTED = 600.0


class SoundDataModule(TaskDataModule):
    """Base of the data modules of recordings.

    Recordings of any sample rate and number of channels are read by libsndfile (WAV, FLAC, Ogg, MP3, and more); batches
    hold the mean of the channels at one sample rate.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, ...), or built-in name.
        audio_column: column of the recordings: files, their bytes, or the names of files.
        sample_rate: sample rate of the batches (Hz). A given processor decides instead.
        shortest: minimum length of a recording in seconds; a shorter recording is bad. The default is a window of the
            usual features.
        longest: maximum length of a recording to train on in seconds; the log counts the longer ones, which are
            dropped. Evaluation drops none.
        max_seconds: maximum seconds of a batch, padding included; batch_size is then its maximum of rows. In evaluation
            a longer recording is a batch by itself.
        group_by_length: put recordings of similar length in a batch, in training and in evaluation.
        sounds: recordings to predict: a folder, a file, a pattern, or a list of these.
        on_bad_sound: at a recording that cannot be read, is cut short, silent, too short, or has samples that are not
            numbers, or whose transcript cannot be used, "error" stops and names it; "skip" goes on without it and
            counts it (`skipped`). In training another recording takes its place; evaluation looks for such recordings
            beforehand.
        num_proc: processes that read the lengths of recordings before training.
        batch_size: rows in a batch on one device.
        processor: the processor of a trained task: its sample rate, units, and classes are used. By default the data
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
            raise ValueError(f"sample_rate: expected {LEAST_RATE:,} to {MOST_RATE:,} Hz, got {sample_rate}")
        if shortest < 0:
            raise ValueError(f"shortest: expected zero or more seconds, got {shortest}")
        if longest is not None and longest <= shortest:
            raise ValueError(f"longest: expected more seconds than shortest ({shortest:g}), got {longest:g}")
        if max_seconds is not None and max_seconds <= 0:
            raise ValueError(f"max_seconds: expected a positive number of seconds, got {max_seconds}")
        if num_proc < 1:
            raise ValueError(f"num_proc: expected a whole number of at least 1, got {num_proc}")
        for argument, value in (("longest", longest), ("max_seconds", max_seconds)):
            if self.source.streaming and value is not None:
                raise ValueError(
                    f"{argument}: the lengths of streamed sounds are not known beforehand; leave it out, and choose "
                    "batch_size so that as many of the longest sounds fit"
                )
        self.audio_column = audio_column
        self.sample_rate = sample_rate if processor is None else processor.sample_rate
        self.shortest = shortest
        self.longest = longest
        self.max_seconds = max_seconds
        self.group_by_length = group_by_length
        self.sounds = sounds
        self.num_proc = num_proc

    # What a domain provides.

    def row_faults(self, split: Split) -> dict[int, str]:
        """What is wrong with rows besides their sounds, by their place in the split; nothing here."""
        return {}

    def require_seconds(self, seconds: float) -> None:
        """Raise the minimum length of a recording; splits that were checked with a lower one are checked again."""
        if seconds > self.shortest:
            self.shortest = seconds
            self._examples.clear()

    # What the base asks of a domain.

    def prepare_rows(self, rows: Any) -> Any:
        """Leave decoding to our readers, which name what they cannot decode.

        Raises:
            ValueError: The column holds no sounds.
        """
        feature = (rows.features or self.features)[self.audio_column]
        if isinstance(feature, datasets.Audio):
            # A stream would encode what it read if it knew that these are sounds.
            plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
            streamed = isinstance(rows, datasets.IterableDataset)
            return rows.cast_column(self.audio_column, plain if streamed else datasets.Audio(decode=False))
        kept = isinstance(feature, dict) and ("bytes" in feature or "path" in feature)
        if not kept and getattr(feature, "dtype", None) not in _TYPES:
            raise ValueError(
                f"audio_column={self.audio_column!r}: expected a column of sounds: files, their bytes, or names of "
                f"files, got one of type {feature}"
            )
        return rows

    def recording_reader(self, role: Role) -> RecordingReader:
        """Reads the recordings of a role."""
        return RecordingReader(self.audio_column, self.processor, folder=self._folder(role), shortest=self.shortest)

    def _folder(self, role: Role) -> Path:
        if isinstance(self.features[self.audio_column], datasets.Audio):
            return Path()  # `datasets` knows where these lie
        return self.source.folder_of(self._choice(role)[1] or self.train_split)

    def map_examples(self, role: Role, split: Split) -> Examples:
        """The examples of a split, whose headers are read first."""
        seconds, faults = read_headers(
            split.rows,
            self.audio_column,
            folder=self._folder(role),
            shortest=self.shortest,
            name=split.name,
            num_proc=self.num_proc,
        )
        faults = {**self.row_faults(split), **faults}
        if role == "train" and self.longest is not None:
            kept = _not_longer(self.longest, split, seconds)
            split = Split(split.name, split.rows.select(kept), split.numbers[kept])
            faults = {now: faults[before] for now, before in enumerate(kept.tolist()) if before in faults}
            seconds = seconds[kept]
        examples = RecordingExamples(
            split, self.reader(role), self.collator(role), seconds, faults, on_bad=self.on_bad, remedy=self.remedy
        )
        if role != "train" and self.on_bad == "skip":
            examples.remove_unreadable(max(1, self.num_workers))
        return examples

    def row_costs(self, examples: Examples | StreamExamples) -> RowCosts | None:
        """The lengths of sounds in seconds. What is longer than a batch may be is an error in training alone."""
        if not isinstance(examples, RecordingExamples):
            return None
        trains = examples is self._examples.get("train")
        return RowCosts(
            examples.seconds, self.max_seconds, self.group_by_length, argument="max_seconds", longer_alone=not trains
        )

    def prepare_data(self) -> None:
        """Download and read headers on one process, for the others to find."""
        super().prepare_data()
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.setup("fit")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the files to predict: wave (B, T) float32, length (B,), file, the list of their names, index (B,).

        Raises:
            ValueError: No files are given, or they hold no sounds.
            FileNotFoundError: A file does not exist.
        """
        if self.sounds is None:
            raise ValueError("sounds: expected sounds to predict: --data.sounds FOLDER (or a file, or a list of files)")
        examples = sound_files(
            self.sounds,
            # Files have no labels, so the data set need not be read for its classes.
            self.given_processor or AudioProcessor(self.sample_rate),
            shortest=self.shortest,
            on_bad=self.on_bad,
            remedy=self.remedy,
            num_threads=max(1, self.num_workers),
        )
        self._examples["predict"] = examples
        costs = RowCosts(
            examples.seconds,
            self.max_seconds or _MOST_PREDICTED,
            self.group_by_length,
            argument="max_seconds",
            longer_alone=True,
        )
        return eval_loader(examples, self.trainer, batch_size=self.batch_size, costs=costs, **self._loader_options())


def _not_longer(longest: float, split: Split, seconds: np.ndarray) -> np.ndarray:
    """Places of the sounds that are short enough to train on.

    Raises:
        ValueError: There is none.
    """
    kept = np.flatnonzero(seconds <= longest)
    if not len(kept):
        raise ValueError(
            f"longest: expected at least {seconds.min():g}, the length of the shortest sound of {split.name}, got "
            f"{longest:g}"
        )
    if len(kept) < len(split):
        rank_zero_info(
            f"{split.name}: {len(split) - len(kept):,} of {len(split):,} sounds last more than {longest:g} s "
            "(longest); they are left out"
        )
    return kept
