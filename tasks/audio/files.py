"""Examples of recordings to predict: the files of a folder or a pattern, single files, or a list of these."""

from collections.abc import Sequence

import datasets
import numpy as np
import torch
from torch import Tensor

from tasks.audio.examples import RecordingExamples, RecordingReader
from tasks.audio.processor import AudioProcessor, pad_waveforms
from tasks.audio.reading.headers import ReadHeaders
from tasks.audio.reading.waveforms import AUDIO_SUFFIXES
from tasks.data.examples import Batch, OnBad, Split
from tasks.data.files import list_files

_COLUMN = "file"


class FileCollator:
    """Collates recordings of files: wave (B, T) float32, length (B,), file (list of names), and index (B,).

    Args:
        files: Names of all files.
    """

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __call__(self, examples: list[Tensor], rows: np.ndarray, epoch: int) -> Batch:
        """A batch of waveforms (T,), whose row numbers are the places of their files."""
        files = [self.files[row] for row in rows.tolist()]
        return {**pad_waveforms(examples), "file": files, "index": torch.from_numpy(rows)}


def recording_files(
    sounds: str | Sequence[str],
    processor: AudioProcessor,
    *,
    shortest: float = 0.0,
    on_bad: OnBad = "error",
    remedy: str = "Repair or remove it",
    num_threads: int = 1,
) -> RecordingExamples:
    """Files as examples.

    Args:
        sounds: As in `tasks.data.files.list_files`.
        processor: Reads the recordings.
        shortest: Minimum length of a recording in seconds.
        on_bad: At a file that cannot be read, "error" raises; "skip" leaves it out.
        remedy: Remedy that errors suggest.
        num_threads: Number of files that are read at a time to find bad ones with "skip".

    Raises:
        FileNotFoundError: A file does not exist.
        ReadError: A file cannot be read and `on_bad` is "error", or no file can be read.
        ValueError: A folder holds no recordings.
    """
    files = list_files("sounds", sounds, AUDIO_SUFFIXES, "audio")
    facts = ReadHeaders(_COLUMN, shortest=shortest)({_COLUMN: files})
    split = Split("sounds", datasets.Dataset.from_dict({_COLUMN: files}), np.arange(len(files)))
    examples = RecordingExamples(
        split,
        RecordingReader(_COLUMN, processor, shortest=shortest),
        FileCollator(files),
        np.array(facts["_seconds"]),
        {place: fault for place, fault in enumerate(facts["_fault"]) if fault is not None},
        on_bad=on_bad,
        remedy=remedy,
    )
    if on_bad == "skip":
        examples.remove_unreadable(num_threads)
    return examples
