"""Recordings with transcripts for speech recognition."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import datasets

from tasks.audio.built_in.connected_digits import connected_digits
from tasks.audio.reading.sound import file_of
from tasks.audio.sounds import SoundDataModule
from tasks.audio.speech.examples import SpeechCollator, SpeechReader, TranscriptReader, of_sound, transcript_faults
from tasks.audio.speech.normalization import Writing, writing_from
from tasks.audio.speech.units import UNITS_FILE, CharacterUnits, Units, UnitsSpec, units_from
from tasks.data.cache import kept
from tasks.data.examples import OnBad, ReadError, Split, logger
from tasks.data.labels import shortened
from tasks.data.loaders import DEFAULT_LOADING, Loading
from tasks.data.module import Role
from tasks.data.sources import DataFiles, choose_split

# So many rows of a stream are learned from.
MOST_STREAMED = 10_000
# Raise it when the same transcripts make other units: it is part of what the cache goes by.
_VERSION = 2
_TEXTS = ("string", "large_string", "string_view", "null")


class SpeechDataModule(SoundDataModule):
    """Recordings with transcripts from anything that `datasets.load_dataset` reads or from a folder, and files to be
    written down.

    Sounds are decoded by libsndfile (WAV, FLAC, Ogg, MP3 and more), of any sample rate and number of channels; batches
    hold the mean of the channels at one sample rate. Transcripts are normalized (writing) and become units of writing,
    which are learned from the training split. A task that was trained before is evaluated at its own sample rate, with
    its own units and writing, whatever is given here.

    A batch holds wave (B, T) float32 in [-1, 1], zero behind each recording, length (B,) int64, the samples of each;
    units (B, U) int64, padded with 0, num_units (B,) int64 and transcript, the list of them, normalized; and index
    (B,), the row number. A batch of files holds wave, length, file and index.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, ...), or "connected_digits". A folder
            of sounds, given as it is or as audiofolder with data_dir, has a table metadata.csv with a row for each
            sound: its file_name, its text; or such a folder for each of train, validation and test.
        name: configuration of the data set.
        data_dir: folder of the files.
        data_files: files, or files by split: --data.data_files.train train.parquet.
        streaming: read while training, without a prepared copy; needs --trainer.max_steps. Batches are then not grouped
            by length.
        train_split: split to train on; slices such as "train[:90%]" are possible.
        val_split: split to validate on. None: the one called validation (valid, val, dev), or else a part of train.
        test_split: split to test on.
        val_fraction: share of the training split that validates where there is no validation split; 0 for none.
        audio_column: column of the recordings: files, their bytes, or the names of files.
        transcript_column: column of what is said in them.
        units: CharacterUnits or BpeUnits, which learn from the training split (of a stream, from its first 10,000
            rows); or FileUnits, those of another run.
        writing: how transcripts are normalized: case, punctuation, numerals.
        sample_rate: sample rate of the batches (Hz).
        shortest: fewest seconds of a recording; a shorter one is bad. The default is a window of the usual features.
        longest: most seconds of a recording to train on; the log counts the longer ones, which are left out.
            Evaluation leaves out none.
        max_seconds: most seconds of a batch, padding included; batch_size is then its most rows. In evaluation a longer
            recording is a batch by itself.
        group_by_length: put recordings of similar length in a batch, in training and in evaluation.
        sounds: files to write down with predict: a folder, a file, a pattern, or a list of these.
        on_bad_sound: at a recording that cannot be decoded, is cut short, silent, too short or has samples that are no
            numbers, or whose transcript is missing, empty or has characters that the units lack, "error" stops and
            names it; "skip" goes on without it and counts it (`skipped`). In training another recording takes its
            place where this shows late; evaluation looks for such recordings beforehand.
        num_proc: processes that read the lengths of recordings before training.
        batch_size: recordings in a batch on one device.
        num_workers: processes that read recordings; 0 reads in the main process.
        seed: decides the order and the validation part.
        loading: workers and shuffling in detail.
    """

    built_in: ClassVar = {"connected_digits": connected_digits}

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
        transcript_column: str = "text",
        units: UnitsSpec = CharacterUnits(),  # noqa: B008  (never changes; jsonargparse reads it here)
        writing: Writing = Writing(),  # noqa: B008
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
        self.transcript_column = transcript_column
        self.units_spec = units
        self._writing = writing

    # What the data says of itself.

    @property
    def writing(self) -> Writing:
        """How transcripts are normalized; in an evaluation as those of the task were."""
        trained = (self.trained_settings or {}).get("writing")
        return self._writing if trained is None else writing_from(trained)

    @property
    def units(self) -> Units:
        """The units of writing; in an evaluation those of the task."""
        return units_from((self.trained_settings or {}).get("units") or self._own_units)

    @property
    def num_units(self) -> int:
        """How many there are, the blank included."""
        return self.units.size

    def input_settings(self) -> dict[str, Any]:
        """The sample rate, the units and the writing, as plain values: what a checkpoint has to keep.

        `tasks.audio.speech.units.units_from` and `tasks.audio.speech.normalization.writing_from` make the objects from
        them.
        """
        return {"sample_rate": self.sample_rate, "units": self.units.settings, "writing": self.writing.settings}

    @cached_property
    def _own_units(self) -> dict[str, Any]:
        spec = self.units_spec
        if not spec.learns:
            return spec.build([]).settings
        transcripts = self._training_transcripts()
        digest = hashlib.sha256("\0".join(transcripts).encode(errors="surrogatepass")).hexdigest()
        key = [_VERSION, spec.to_dict(), self._writing.settings, digest]
        return kept("units", key, lambda: spec.build(map(self._writing, transcripts)).settings)

    def _training_transcripts(self) -> list[str]:
        """The transcripts that units are learned from; what is none is left out, and told when the rows are read."""
        column = self.transcript_column
        if self.source.streaming:
            rows = choose_split(self.source, self.splits, "train_split", self.train_split)
            self._check_columns(rows.features if rows.features is not None else self.features, self.train_split)
            found = [row[column] for row in rows.select_columns([column]).take(MOST_STREAMED)]
        else:
            found = self.split_for("train").rows.select_columns([column])[:][column]
        return [transcript for transcript in found if isinstance(transcript, str)]

    def write_run_files(self, folder: Path) -> None:
        """Write the units into the file units.json."""
        text = json.dumps(self.units.settings, ensure_ascii=False, indent=1)
        (folder / UNITS_FILE).write_text(f"{text}\n", encoding="utf-8")

    # What the base asks of a domain.

    def columns(self) -> dict[str, str]:
        """Recording and transcript."""
        return {"audio_column": self.audio_column, "transcript_column": self.transcript_column}

    def prepare_rows(self, rows: Any) -> Any:
        """Check the types of columns; decoding is left to our readers.

        Raises:
            ValueError: A column holds no sounds, or no texts.
        """
        feature = (rows.features or self.features)[self.transcript_column]
        if not isinstance(feature, datasets.Value) or feature.dtype not in _TEXTS:
            raise ValueError(
                f"transcript_column={self.transcript_column!r}: expected a column of texts, got one of type {feature}"
            )
        return super().prepare_rows(rows)

    def row_faults(self, split: Split) -> dict[int, str]:
        """What is wrong with transcripts.

        Raises:
            ReadError: Some have characters that the units lack, and such rows are an error; all of these are listed.
        """
        read = TranscriptReader(self.writing, self.units)
        faults, lacking = transcript_faults(split.rows, self.transcript_column, read)
        for place in faults:
            faults[place] += of_sound(file_of(split.rows[place][self.audio_column]))
        if lacking:
            characters = shortened(sorted({character for several in lacking.values() for character in several}))
            summary = f"{split.name}: {len(lacking)} transcripts with characters that the units lack, {characters}"
            if self.on_bad == "error":
                first = min(lacking)
                raise ReadError(f"{summary}; the first in row {split.numbers[first]}: {faults[first]}. {self.remedy}")
            logger.warning("%s; their rows are left out", summary)
        return faults

    def reader(self, role: Role) -> SpeechReader:
        """Decodes, and makes units of transcripts."""
        transcript = TranscriptReader(self.writing, self.units)
        return SpeechReader(self.sound_reader(role), self.transcript_column, transcript)

    def collator(self, role: Role) -> SpeechCollator:
        """Pads."""
        return SpeechCollator()

    def preparation(self) -> Any:
        """What comes from the task: the shortest sound, and in an evaluation sample rate, units and writing."""
        return self.least_seconds, self.input_settings()
