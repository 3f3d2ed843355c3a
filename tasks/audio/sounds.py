"""What data modules of sounds share: reading, lengths, batches limited in seconds, and files to be predicted."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from tasks.audio.examples import SoundExamples, SoundReader
from tasks.audio.files import sound_files
from tasks.audio.reading.headers import read_headers
from tasks.audio.reading.sound import LEAST_RATE, MOST_RATE
from tasks.audio.reading.sources import SoundSource
from tasks.data.examples import Examples, OnBad, Split
from tasks.data.length_batches import RowCosts
from tasks.data.loaders import DEFAULT_LOADING, Loading, eval_loader
from tasks.data.module import Role, TaskDataModule
from tasks.data.sources import DataFiles
from tasks.data.streams import StreamExamples

# What file names and bytes are in a table; null is a column without any value.
_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
# Seconds of a batch of files to predict where nothing limits them: files may last hours.
_MOST_PREDICTED = 600.0


class SoundDataModule(TaskDataModule):
    """Base of the data modules of sounds, from anything that `datasets.load_dataset` reads and from folders of files.

    Sounds are decoded by libsndfile (WAV, FLAC, Ogg, MP3 and more), of any sample rate and number of channels; batches
    hold the mean of the channels at one sample rate. A task that was trained before is evaluated at its own.

    Args:
        path: As in `TaskDataModule`, or a folder of sounds.
        name: As in `TaskDataModule`.
        data_dir: As in `TaskDataModule`.
        data_files: As in `TaskDataModule`.
        streaming: As in `TaskDataModule`.
        train_split: As in `TaskDataModule`.
        val_split: As in `TaskDataModule`.
        test_split: As in `TaskDataModule`.
        val_fraction: As in `TaskDataModule`.
        audio_column: Column of the sounds: files, their bytes, or the names of files.
        sample_rate: Sample rate of the batches (Hz).
        shortest: Fewest seconds of a sound; a shorter one is bad.
        longest: Most seconds of a sound to train on.
        max_seconds: Most seconds of a batch, padding included.
        group_by_length: Put sounds of similar length in a batch.
        sounds: Files to predict.
        on_bad_sound: At a sound that cannot be read, "error" stops and names it; "skip" leaves it out.
        num_proc: Processes that read headers.
        batch_size: As in `TaskDataModule`.
        num_workers: As in `TaskDataModule`.
        seed: As in `TaskDataModule`.
        loading: As in `TaskDataModule`.
    """

    on_bad_argument: ClassVar[str] = "on_bad_sound"

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
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            on_bad=on_bad_sound,
            loading=loading,
        )
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
            if streaming and value is not None:
                raise ValueError(
                    f"{argument}: the lengths of streamed sounds are not known beforehand; leave it out, and choose "
                    "batch_size so that as many of the longest sounds fit"
                )
        self.source = SoundSource(path, name, data_dir, data_files, streaming, self.built_in)
        self.audio_column = audio_column
        self._sample_rate = sample_rate
        self.shortest = shortest
        self.longest = longest
        self.max_seconds = max_seconds
        self.group_by_length = group_by_length
        self.sounds = sounds
        self.num_proc = num_proc

    # What a domain provides.

    @abstractmethod
    def input_settings(self) -> dict[str, Any]:
        """How sounds are prepared, and what is said of them, as plain values: what a checkpoint has to keep."""

    def row_faults(self, split: Split) -> dict[int, str]:
        """What is wrong with rows besides their sounds, by their place in the split; nothing here."""
        return {}

    # What the data says of itself.

    @property
    def sample_rate(self) -> int:
        """Sample rate of the batches (Hz); in an evaluation that of the task."""
        return (self.trained_settings or {}).get("sample_rate") or self._sample_rate

    @property
    def least_seconds(self) -> float:
        """Seconds below which a sound is bad: `shortest`, or a window of the features of the task that is run."""
        task = None if self.trainer is None else self.trainer.lightning_module
        return max(self.shortest, getattr(task, "least_seconds", 0.0))

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

    def sound_reader(self, role: Role) -> SoundReader:
        """Decodes the sounds of a role."""
        return SoundReader(self.audio_column, self.sample_rate, folder=self._folder(role), shortest=self.least_seconds)

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
            shortest=self.least_seconds,
            name=split.name,
            num_proc=self.num_proc,
        )
        faults = {**self.row_faults(split), **faults}
        if role == "train" and self.longest is not None:
            kept = _not_longer(self.longest, split, seconds)
            split = Split(split.name, split.rows.select(kept), split.numbers[kept])
            faults = {now: faults[before] for now, before in enumerate(kept.tolist()) if before in faults}
            seconds = seconds[kept]
        examples = SoundExamples(
            split, self.reader(role), self.collator(role), seconds, faults, on_bad=self.on_bad, remedy=self.remedy
        )
        if role != "train" and self.on_bad == "skip":
            examples.remove_unreadable(max(1, self.num_workers))
        return examples

    def row_costs(self, examples: Examples | StreamExamples) -> RowCosts | None:
        """The lengths of sounds in seconds. What is longer than a batch may be is an error in training alone."""
        if not isinstance(examples, SoundExamples):
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
            self.sample_rate,
            shortest=self.least_seconds,
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
