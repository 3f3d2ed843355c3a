"""Rows of recordings with transcripts as batches, the transcripts as units.

Letters: B batch, T samples, U units of the longest transcript.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tasks.audio.examples import RecordingReader
from tasks.audio.processor import pad_waveforms
from tasks.audio.speech.normalization import Writing
from tasks.audio.speech.units import BLANK, Units
from tasks.data.examples import Batch, ReadError


@dataclass(frozen=True)
class TranscriptReader:
    """Maps a transcript to its normalized form and its units, or raises `ReadError`."""

    normalize: Writing
    units: Units

    def __call__(self, transcript: str | None) -> tuple[str, list[int]]:
        """Read a transcript."""
        text = self.normalized(transcript)
        if missing := self.units.lacking(text):
            raise ReadError(missing_message(text, missing))
        return text, self.units.encode(text)

    def normalized(self, transcript: str | None) -> str:
        """The normalized transcript, which may have characters that the units lack."""
        if transcript is None:
            raise ReadError("the transcript is missing")
        if not transcript.strip():
            raise ReadError("the transcript is empty")
        if text := self.normalize(transcript):
            return text
        raise ReadError(f"the transcript {transcript!r} is empty after normalization (writing)")


@dataclass(frozen=True)
class SpeechReader:
    """Maps a row to its waveform (T,), normalized transcript, units, and file, or raises `ReadError`."""

    recording: RecordingReader
    transcript_column: str
    transcript: TranscriptReader

    def __call__(self, row: dict[str, Any]) -> tuple[Tensor, str, list[int], str]:
        """Read a row; the transcript comes first, because it takes no time."""
        file = self.recording.file(row)
        try:
            text, units = self.transcript(row[self.transcript_column])
        except ReadError as error:
            raise ReadError(f"{error}{of_recording(file)}") from error
        return self.recording(row), text, units, file


def speech_batch(examples: list[tuple[Tensor, str, list[int], str]], rows: np.ndarray, epoch: int) -> Batch:
    """Collate examples of `SpeechReader`.

    The batch has wave (B, T) float32, length (B,), units (B, U), padded with 0, num_units (B,), index (B,), and the
    lists transcript and file, of which the latter is empty for rows without a file.
    """
    waveforms, texts, units, files = zip(*examples)
    return {
        **pad_waveforms(waveforms),
        "units": pad_sequence([torch.tensor(numbers) for numbers in units], batch_first=True, padding_value=BLANK),
        "num_units": torch.tensor([len(numbers) for numbers in units]),
        "transcript": list(texts),
        "file": list(files),
        "index": torch.from_numpy(rows),
    }


def of_recording(file: str) -> str:
    """The end of a message on a transcript: the file of its recording, if the row has one."""
    return f" (of the recording {file!r})" if file else ""


def missing_message(text: str, missing: list[str]) -> str:
    """The message on a transcript with characters that the units lack."""
    return f"the transcript {text!r} has characters that the units lack: {', '.join(map(repr, missing))}"
