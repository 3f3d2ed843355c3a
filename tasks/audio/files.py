"""Sound files to be predicted: a folder, a file, a pattern, or a list of these, with their names."""

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
    """Sounds of files as a batch: wave (B, T) float32, length (B,), file (list of names), index (B,)."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __call__(self, examples: list[Tensor], rows: np.ndarray, epoch: int) -> Batch:
        """Sounds and their row numbers to a batch."""
        files = [self.files[row] for row in rows.tolist()]
        return {**pad_waveforms(examples), "file": files, "index": torch.from_numpy(rows)}


def sound_files(
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
        shortest: Fewest seconds of a sound.
        on_bad: At a file that cannot be read, "error" raises, "skip" leaves it out.
        remedy: What the error advises.
        num_threads: Files decoded at a time while those to be left out are looked for.

    Raises:
        FileNotFoundError: There is no such file.
        ReadError: A file cannot be read and `on_bad` is "error", or none can.
        ValueError: No file is a sound.
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
