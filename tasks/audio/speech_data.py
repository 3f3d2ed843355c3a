"""Recordings with transcripts for speech recognition."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import datasets

from tasks.audio.built_in.connected_digits import connected_digits
from tasks.audio.processor import AudioProcessor
from tasks.audio.reading.waveforms import file_of
from tasks.audio.recording_data import RecordingDataModule
from tasks.audio.speech.examples import SpeechCollator, SpeechReader, TranscriptReader, of_recording, transcript_faults
from tasks.audio.speech.normalization import Writing
from tasks.audio.speech.units import UNITS_FILE, CharacterUnits, Units, UnitsSpec
from tasks.data.cache import cached
from tasks.data.examples import ReadError, Split, logger
from tasks.data.labels import shortened
from tasks.data.module import Role
from tasks.data.sources import choose_split

# Units are learned from this number of rows of a stream.
MAX_STREAMED = 10_000
# Part of the key of cached units; raise it when the same transcripts make other units.
_VERSION = 2
_TEXTS = ("string", "large_string", "string_view", "null")


class SpeechDataModule(RecordingDataModule):
    """Recordings with transcripts from anything that `datasets.load_dataset` reads or from a folder, and files to
    transcribe.

    Transcripts are normalized (writing) and encoded as units, which are learned from the training split.

    A batch holds wave (B, T) float32 in [-1, 1], padded with zeros; length (B,) int64, the number of real samples;
    units (B, U) int64, padded with 0; num_units (B,) int64; transcript, the list of normalized transcripts; file, the
    list of file names; and index (B,), the row numbers. A batch of files holds wave, length, file, and index.

    Args:
        path: hub name, local folder, a format of local files (parquet, csv, json, ...), or "connected_digits". A folder
            of recordings, given as it is or as audiofolder with data_dir, has a table metadata.csv with a row for each
            recording: its file_name, its text; or such a folder for each of train, validation, and test.
        transcript_column: column of the transcripts.
        units: CharacterUnits or BpeUnits, which learn from the training split (of a stream, from its first 10,000
            rows); or FileUnits, the units of another run. A given processor decides instead.
        writing: normalization of the transcripts: case, punctuation, numerals. A given processor decides instead.
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
        """The transcripts that units are learned from; reading the rows reports those that are missing."""
        column = self.transcript_column
        if self.source.streaming:
            rows = choose_split(self.source, self.splits, "train_split", self.train_split)
            self._check_columns(rows.features if rows.features is not None else self.features, self.train_split)
            found = [row[column] for row in rows.select_columns([column]).take(MAX_STREAMED)]
        else:
            found = self.split_for("train").rows.select_columns([column])[:][column]
        return [transcript for transcript in found if isinstance(transcript, str)]

    def write_run_files(self, folder: Path) -> None:
        """Write the units as the file units.json."""
        text = json.dumps(self.processor.unit_settings, ensure_ascii=False, indent=1)
        (folder / UNITS_FILE).write_text(f"{text}\n", encoding="utf-8")

    # Methods of the base.

    def columns(self) -> dict[str, str]:
        """The columns of recordings and transcripts."""
        return {"audio_column": self.audio_column, "transcript_column": self.transcript_column}

    def prepare_rows(self, rows: Any) -> Any:
        """Check the types of the columns, and leave recordings undecoded.

        Raises:
            ValueError: A column holds no recordings, or no texts.
        """
        feature = (rows.features or self.features)[self.transcript_column]
        if not isinstance(feature, datasets.Value) or feature.dtype not in _TEXTS:
            raise ValueError(
                f"transcript_column must be a column of texts, got {self.transcript_column!r} of type {feature}; "
                "choose another column"
            )
        return super().prepare_rows(rows)

    def row_faults(self, split: Split) -> dict[int, str]:
        """Faults of transcripts, by their place in the split.

        Raises:
            ReadError: Transcripts have characters that the units lack, all of which are listed, and `on_bad_sound` is
                "error".
        """
        read = TranscriptReader(self.processor.writing, self.units)
        faults, lacking = transcript_faults(split.rows, self.transcript_column, read)
        for place in faults:
            faults[place] += of_recording(file_of(split.rows[place][self.audio_column]))
        if lacking:
            characters = shortened(sorted({character for found in lacking.values() for character in found}))
            summary = f"{split.name}: {len(lacking)} transcripts with characters that the units lack, {characters}"
            if self.on_bad == "error":
                first = min(lacking)
                raise ReadError(f"{summary}; the first in row {split.numbers[first]}: {faults[first]}. {self.remedy}")
            logger.warning("%s; their rows are left out", summary)
        return faults

    def reader(self, role: Role) -> SpeechReader:
        """The reader of recordings and transcripts."""
        transcript = TranscriptReader(self.processor.writing, self.units)
        return SpeechReader(self.recording_reader(role), self.transcript_column, transcript)

    def collator(self, role: Role) -> SpeechCollator:
        """The collator of recordings and transcripts."""
        return SpeechCollator()
