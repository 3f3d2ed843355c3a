"""Rows of recordings with transcripts as batches, the transcripts as units.

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
    """Maps a transcript to the normalized transcript and its units.

    Args:
        writing: Normalizes transcripts.
        units: The units.
    """

    def __init__(self, writing: Writing, units: Units) -> None:
        self.writing = writing
        self.units = units

    def __call__(self, transcript: str | None) -> tuple[str, list[int]]:
        """Read one transcript.

        Raises:
            ReadError: The transcript is missing or empty, or has characters that the units lack.
        """
        text = self.normalized(transcript)
        if lacking := self.units.lacking(text):
            raise ReadError(_lacks(text, lacking))
        return text, self.units.encode(text)

    def normalized(self, transcript: str | None) -> str:
        """The normalized transcript.

        Raises:
            ReadError: The transcript is missing or empty.
        """
        if transcript is None:
            raise ReadError("the transcript is missing")
        if not transcript.strip():
            raise ReadError("the transcript is empty")
        text = self.writing(transcript)
        if not text:
            raise ReadError(f"the transcript {transcript!r} is empty after normalization (writing)")
        return text


class SpeechReader:
    """Maps a row to its waveform (T,), its normalized transcript, its units, and its file.

    Args:
        recording: Reads the recording.
        column: Column of the transcripts.
        transcript: Reads the transcript.
    """

    def __init__(self, recording: RecordingReader, column: str, transcript: TranscriptReader) -> None:
        self.recording = recording
        self.column = column
        self.transcript = transcript

    def __call__(self, row: dict[str, Any]) -> tuple[Tensor, str, list[int], str]:
        """Read a row; the transcript comes first, because it takes no time.

        Raises:
            ReadError: The recording or the transcript cannot be read.
        """
        try:
            text, units = self.transcript(row[self.column])
        except ReadError as error:
            raise ReadError(f"{error}{of_recording(self.recording.file(row))}") from error
        return self.recording(row), text, units, self.recording.file(row)


def of_recording(file: str) -> str:
    """The end of a message on a transcript: the file of its recording, if the row has one."""
    return f" (of the recording {file!r})" if file else ""


class SpeechCollator:
    """Collates recordings with transcripts.

    A batch has wave (B, T) float32 and length (B,) int64; units (B, U) int64, padded with 0, and num_units (B,) int64;
    transcript, a list of normalized transcripts; file, a list of files, empty for rows without a file; and index (B,)
    int64.
    """

    def __call__(self, examples: list[tuple[Tensor, str, list[int], str]], rows: np.ndarray, epoch: int) -> Batch:
        """Collate examples of `SpeechReader` with their row numbers."""
        waveforms, texts, units, files = zip(*examples)
        return {
            **pad_waveforms(waveforms),
            "units": pad_sequence([torch.tensor(numbers) for numbers in units], batch_first=True, padding_value=BLANK),
            "num_units": torch.tensor([len(numbers) for numbers in units]),
            "transcript": list(texts),
            "file": list(files),
            "index": torch.from_numpy(rows),
        }


def transcript_faults(
    rows: datasets.Dataset, column: str, read: TranscriptReader
) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Messages of the transcripts that cannot be read, and the characters that the units lack, both by position.

    Args:
        rows: Rows with a column of transcripts.
        column: The column.
        read: Reads a transcript.
    """
    faults: dict[int, str] = {}
    lacking: dict[int, list[str]] = {}
    for position, transcript in enumerate(rows.select_columns([column])[:][column]):
        try:
            text = read.normalized(transcript)
        except ReadError as error:
            faults[position] = str(error)
            continue
        if characters := read.units.lacking(text):
            faults[position], lacking[position] = _lacks(text, characters), characters
    return faults, lacking


def _lacks(text: str, characters: list[str]) -> str:
    return f"the transcript {text!r} has characters that the units lack: {', '.join(map(repr, characters))}"
