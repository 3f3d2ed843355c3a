"""Rows of recordings with transcripts as batches, the transcripts as units of writing.

Letters: B batch, T samples, U units of the longest transcript.
"""

from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tasks.audio.examples import RecordingReader
from tasks.audio.processor import pad_waveforms
from tasks.audio.speech.normalization import Writing
from tasks.audio.speech.units import BLANK, Units
from tasks.data.examples import Batch, ReadError


class TranscriptReader:
    """A transcript, normalized and as units.

    Args:
        writing: How it is normalized.
        units: The units of writing.
    """

    def __init__(self, writing: Writing, units: Units) -> None:
        self.writing = writing
        self.units = units

    def __call__(self, transcript: str | None) -> tuple[str, list[int]]:
        """Read one transcript.

        Raises:
            ReadError: It is missing or empty, or has characters that the units lack.
        """
        text = self.normalized(transcript)
        if lacking := self.units.lacking(text):
            raise ReadError(_lacks(text, lacking))
        return text, self.units.encode(text)

    def normalized(self, transcript: str | None) -> str:
        """A transcript as it is learned and counted.

        Raises:
            ReadError: It is missing or empty.
        """
        if transcript is None:
            raise ReadError("the transcript is missing")
        if not transcript.strip():
            raise ReadError("the transcript is empty")
        text = self.writing(transcript)
        if not text:
            raise ReadError(f"nothing is left of the transcript {transcript!r} once it is normalized (writing)")
        return text


class SpeechReader:
    """A row as its sound (T,), its transcript, normalized, the units of that, and its file.

    Args:
        sound: Reads the sound.
        column: The column of the transcripts.
        transcript: Reads them.
    """

    def __init__(self, sound: RecordingReader, column: str, transcript: TranscriptReader) -> None:
        self.sound = sound
        self.column = column
        self.transcript = transcript

    def __call__(self, row: dict[str, Any]) -> tuple[Tensor, str, list[int], str]:
        """Read a row; the transcript first, as that takes no time.

        Raises:
            ReadError: Sound or transcript cannot be read.
        """
        try:
            text, units = self.transcript(row[self.column])
        except ReadError as error:
            raise ReadError(f"{error}{of_sound(self.sound.file(row))}") from error
        return self.sound(row), text, units, self.sound.file(row)


def of_sound(file: str) -> str:
    """What is added to a message on a transcript: the file of its sound, where a row tells it."""
    return f" (of the sound {file!r})" if file else ""


class SpeechCollator:
    """Recordings as a batch.

    It holds wave (B, T) float32 and length (B,) int64; units (B, U) int64, padded with 0, and num_units (B,) int64;
    transcript, the list of them, normalized; file, the list of the files, empty where nothing tells; and index (B,)
    int64.
    """

    def __call__(self, examples: list[tuple[Tensor, str, list[int], str]], rows: np.ndarray, epoch: int) -> Batch:
        """Examples of `SpeechReader` and their row numbers to a batch."""
        sounds, texts, units, files = zip(*examples)
        return {
            **pad_waveforms(sounds),
            "units": pad_sequence([torch.tensor(numbers) for numbers in units], batch_first=True, padding_value=BLANK),
            "num_units": torch.tensor([len(numbers) for numbers in units]),
            "transcript": list(texts),
            "file": list(files),
            "index": torch.from_numpy(rows),
        }


def transcript_faults(
    rows: datasets.Dataset, column: str, read: TranscriptReader
) -> tuple[dict[int, str], dict[int, list[str]]]:
    """What is wrong with transcripts, and the characters of theirs that the units lack, both by place.

    Args:
        rows: Rows with a column of transcripts.
        column: The column.
        read: Reads a transcript.
    """
    faults: dict[int, str] = {}
    lacking: dict[int, list[str]] = {}
    for place, transcript in enumerate(rows.select_columns([column])[:][column]):
        try:
            text = read.normalized(transcript)
        except ReadError as error:
            faults[place] = str(error)
            continue
        if characters := read.units.lacking(text):
            faults[place], lacking[place] = _lacks(text, characters), characters
    return faults, lacking


def _lacks(text: str, characters: list[str]) -> str:
    return f"the transcript {text!r} has characters that the units lack: {', '.join(map(repr, characters))}"
