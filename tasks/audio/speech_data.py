"""Recordings with transcripts for speech recognition."""

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np

from tasks.audio.built_in.connected_digits import connected_digits
from tasks.audio.processor import AudioProcessor
from tasks.audio.reading.waveforms import file_of
from tasks.audio.recording_data import RecordingDataModule
from tasks.audio.speech.examples import SpeechReader, TranscriptReader, missing_message, of_recording, speech_batch
from tasks.audio.speech.normalization import Writing
from tasks.audio.speech.units import UNITS_FILE, CharacterUnits, Units, UnitsSpec
from tasks.data.cache import cached
from tasks.data.examples import Batch, ReadError, Split, logger
from tasks.data.labels import shortened
from tasks.data.module import Role
from tasks.data.sources import choose_split

# Units are learned from this number of rows of a stream.
_MAX_STREAMED = 10_000
# Part of the key of cached units. Increase it when the same transcripts give other units.
_VERSION = 2
_TEXTS = ("string", "large_string", "string_view", "null")


class SpeechDataModule(RecordingDataModule):
    """Recordings with transcripts, as `datasets.load_dataset` reads them or in a folder, and files to transcribe.

    A batch holds wave (B, T) float32 in [-1, 1], padded with zeros; length (B,) int64, the number of real samples;
    units (B, U) int64, padded with 0; num_units (B,) int64; transcript, the list of normalized transcripts; file, the
    list of file names; and index (B,), the row numbers. A batch of files holds wave, length, file, and index.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, ...), or "connected_digits". A folder
            of recordings, given directly or as audiofolder with data_dir, has a table metadata.csv with the columns
            file_name and text, or a folder with such a table for each of train, validation, and test.
        transcript_column: column of the transcripts.
        units: output classes of the recognizer: CharacterUnits or BpeUnits, learned from the training split (the first
            10,000 rows of a stream); or FileUnits, the units of another run. A given processor overrides them.
        writing: normalization of the transcripts: case, punctuation, numerals. A given processor overrides it.
        kwargs: as in `RecordingDataModule` and `TaskDataModule`.
    """

    built_in: ClassVar = {"connected_digits": connected_digits}

    def __init__(
        self,
        path: str,
        *,
        transcript_column: str = "text",
        units: UnitsSpec = CharacterUnits(),  # noqa: B008  (never changes; jsonargparse reads it here)
        writing: Writing = Writing(),  # noqa: B008
        **kwargs: Any,
    ) -> None:
        super().__init__(path, **kwargs)
        self.transcript_column = transcript_column
        self.units_spec = units
        self.writing = writing

    @cached_property
    def processor(self) -> AudioProcessor:
        """The processor of recordings and transcripts."""
        return self.given_processor or AudioProcessor(self.sample_rate, self._own_units, self.writing.settings)

    @property
    def units(self) -> Units:
        """The units of the transcripts."""
        return self.processor.units

    @property
    def num_units(self) -> int:
        """Number of units, the blank included."""
        return self.units.size

    @cached_property
    def _own_units(self) -> dict[str, Any]:
        spec = self.units_spec
        if not spec.learns:
            return spec.build([]).settings
        transcripts = self._training_transcripts()
        digest = hashlib.sha256("\0".join(transcripts).encode(errors="surrogatepass")).hexdigest()
        key = [_VERSION, spec.to_dict(), self.writing.settings, digest]
        return cached("units", key, lambda: spec.build(map(self.writing, transcripts)).settings)

    def _training_transcripts(self) -> list[str]:
        """The transcripts to learn units from, without missing ones, which are reported when rows are read."""
        column = self.transcript_column
        if self.source.streaming:
            rows = choose_split(self.source, self.splits, "train_split", self.train_split)
            self._check_columns(rows.features if rows.features is not None else self.features, self.train_split)
            found = [row[column] for row in rows.select_columns([column]).take(_MAX_STREAMED)]
        else:
            found = self.split_for("train").rows.select_columns([column])[:][column]
        return [transcript for transcript in found if isinstance(transcript, str)]

    def write_run_files(self, folder: Path) -> None:
        """Write the units as the file units.json."""
        text = json.dumps(self.processor.unit_settings, ensure_ascii=False, indent=1)
        (folder / UNITS_FILE).write_text(f"{text}\n", encoding="utf-8")

    def columns(self) -> dict[str, str]:
        """The columns of recordings and transcripts."""
        return {"audio_column": self.audio_column, "transcript_column": self.transcript_column}

    def prepare_rows(self, rows: Any) -> Any:
        """Check the types of the columns, and leave recordings undecoded."""
        feature = (rows.features or self.features)[self.transcript_column]
        if not isinstance(feature, datasets.Value) or feature.dtype not in _TEXTS:
            raise ValueError(
                f"transcript_column must be a column of texts, got {self.transcript_column!r} of type {feature}; "
                "choose another column"
            )
        return super().prepare_rows(rows)

    def row_faults(self, split: Split) -> dict[int, str]:
        """Faults of transcripts, by their position in the split.

        Raises:
            ReadError: Transcripts have characters that the units lack, all of which are listed, and `on_bad_sound` is
                "error".
        """
        read, column = self._transcript_reader(), self.transcript_column
        faults: dict[int, str] = {}
        missing: dict[int, list[str]] = {}
        for position, transcript in enumerate(split.rows.select_columns([column])[:][column]):
            try:
                text = read.normalized(transcript)
            except ReadError as error:
                faults[position] = str(error)
            else:
                if characters := read.units.lacking(text):
                    faults[position], missing[position] = missing_message(text, characters), characters
        for position in faults:
            faults[position] += of_recording(file_of(split.rows[position][self.audio_column]))
        if missing:
            listed = shortened(sorted(set[str]().union(*missing.values())))
            summary = f"{split.name}: {len(missing)} transcripts with characters that the units lack, {listed}"
            if self.on_bad == "error":
                first = min(missing)
                raise ReadError(f"{summary}; the first in row {split.numbers[first]}: {faults[first]}. {self.remedy}")
            logger.warning("%s; their rows are left out", summary)
        return faults

    def _transcript_reader(self) -> TranscriptReader:
        return TranscriptReader(self.processor.writing, self.units)

    def reader(self, role: Role) -> SpeechReader:
        """Reader of recordings and transcripts."""
        return SpeechReader(self.recording_reader(role), self.transcript_column, self._transcript_reader())

    def collator(self, role: Role) -> Callable[[list[Any], np.ndarray, int], Batch]:
        """Collator of recordings and transcripts."""
        return speech_batch
