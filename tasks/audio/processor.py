"""How recordings become waveforms, and transcripts units; and the names of the classes.

Letters: B batch, T samples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from softformer.training.checkpoints.weights import WeightReport
from tasks.audio.reading.waveforms import check_waveform, read_waveform
from tasks.audio.speech.agreement import REMEDY, check_same_units, unit_difference
from tasks.audio.speech.normalization import Writing, writing_from
from tasks.audio.speech.units import Units, units_from
from tasks.data.examples import Batch
from tasks.processor import Processor

Recording = str | Path | np.ndarray | Tensor

# A minute of frames and of hidden states takes some tens of MB.
MAX_SECONDS = 60.0


class AudioProcessor(Processor):
    """Reads recordings of any sample rate and number of channels as the mean of their channels at one sample rate.

    Args:
        sample_rate: Sample rate of the waveforms (Hz).
        units: Units of the transcripts as plain values (`Units.settings`); None without transcripts.
        writing: How transcripts are normalized, as plain values (`Writing.settings`); None without transcripts.
        class_names: Names of the classes in the order of their numbers.
        multi_label: Whether a recording has any number of classes.
    """

    def __init__(
        self,
        sample_rate: int,
        units: dict[str, str] | None = None,
        writing: dict[str, str] | None = None,
        class_names: list[str] | None = None,
        multi_label: bool = False,
    ) -> None:
        self.sample_rate = sample_rate
        self.unit_settings = units
        self.writing_settings = writing
        self.class_names = class_names or None
        self.multi_label = multi_label

    @property
    def units(self) -> Units:
        """The units of the transcripts.

        Raises:
            ValueError: The processor was made from data without transcripts.
        """
        if self.unit_settings is None:
            raise ValueError(
                "the processor must have units to read transcripts, got None; build it from a SpeechDataModule, or "
                "load the task with softformer.load(checkpoint)"
            )
        return units_from(self.unit_settings)

    @property
    def writing(self) -> Writing:
        """Normalizes transcripts."""
        return writing_from(self.writing_settings or {})

    def read(self, value: Any, folder: Path = Path(), *, shortest: float = 0.0) -> Tensor:
        """The waveform (T,) of a recording, float32.

        Args:
            value: As `tasks.audio.reading.waveforms.read_waveform` takes it.
            folder: What a relative file name is relative to.
            shortest: Minimum length of a recording in seconds.

        Raises:
            ReadError: The recording cannot be read.
        """
        return read_waveform(value, self.sample_rate, folder, shortest=shortest)

    def batches(self, recordings: Recording | Sequence[Recording], max_seconds: float = MAX_SECONDS) -> Iterator[Batch]:
        """Batches of recordings in their order: wave (B, T) float32, length (B,), index (B,), and file.

        A file is read when its batch is computed, so memory does not grow with the number of files.

        Args:
            recordings: One or several: files of any sample rate, or arrays or tensors (T,) at `sample_rate`, in
                [-1, 1].
            max_seconds: Maximum seconds of a batch, padding included; a longer recording makes a batch by itself.

        Raises:
            ValueError: max_seconds is not positive, or a recording cannot be read.
        """
        if not max_seconds > 0:
            raise ValueError(f"max_seconds must be a positive number of seconds, got {max_seconds}")
        waves: list[Tensor] = []
        names: list[str] = []
        first = 0
        for place, recording in enumerate(as_recordings(recordings)):
            wave = self._waveform(recording, place)
            longest = max([len(wave), *map(len, waves)])
            if waves and longest * (len(waves) + 1) > max_seconds * self.sample_rate:
                yield _batch(waves, names, first)
                waves, names, first = [], [], place
            waves.append(wave)
            names.append(str(recording) if isinstance(recording, str | Path) else f"at place {place}")
        if waves:
            yield _batch(waves, names, first)

    def _waveform(self, recording: Any, place: int) -> Tensor:
        if isinstance(recording, str | Path):
            return self.read(str(recording))
        if not isinstance(recording, np.ndarray | Tensor):
            raise ValueError(
                f"recordings must be files, arrays, or tensors, got {type(recording).__name__} at place {place}"
            )
        wave = torch.as_tensor(recording)
        if not wave.is_floating_point():
            raise ValueError(
                f"recordings must be floating-point samples in [-1, 1], got {recording.dtype} at place {place}; divide "
                "integers by their full scale, those of 16 bits by 32768"
            )
        if wave.ndim != 1:
            raise ValueError(
                f"recordings must be arrays of one axis, the samples of one channel, got shape {tuple(wave.shape)} at "
                f"place {place}; give several as a list, and take the mean of the channels"
            )
        wave = wave.detach().cpu().float()
        if len(wave):
            check_waveform(f" at place {place}", wave.numpy(), self.sample_rate)
        return wave

    def check_weights(self, report: WeightReport) -> None:
        """Accept weights whose units have the same numbers, where those are known.

        Raises:
            ValueError: A number stands for another unit.
        """
        theirs = ((report.processor or {}).get("init_args") or {}).get("units")
        if theirs is not None and self.unit_settings is not None:
            check_same_units(f"weights: {report.path}", theirs, self.unit_settings)

    def difference(self, other: "AudioProcessor") -> str | None:
        """The sample rate, or the first unit that has another number."""
        if self.sample_rate != other.sample_rate:
            return (
                f"sample_rate is {other.sample_rate} Hz in the data and {self.sample_rate} Hz in the task (set "
                f"--data.sample_rate {self.sample_rate})"
            )
        if self.unit_settings is None or other.unit_settings is None:
            return None
        return unit_difference(self.unit_settings, other.unit_settings, "the task")


def known_sample_rate(sample_rate: int | None, processor: AudioProcessor | None) -> int | None:
    """The sample rate (Hz): that of the processor, else the one that is given.

    Raises:
        ValueError: The two differ, so every frequency would be taken for another.
    """
    if processor is None:
        return sample_rate
    if sample_rate not in (None, processor.sample_rate):
        raise ValueError(
            f"the data must have the sample rate of the network, {sample_rate} Hz, got {processor.sample_rate} Hz; set "
            f"--data.sample_rate {sample_rate}, or leave sample_rate out"
        )
    return processor.sample_rate


def known_num_units(num_units: int | None, processor: AudioProcessor | None) -> int:
    """The number of units: that of the processor, else the one that is given.

    Raises:
        ValueError: The number is unknown or below 2, the processor has no units, or the two differ.
    """
    if processor is None:
        if num_units is None or num_units < 2:
            raise ValueError(
                f"num_units must be given and at least 2, the blank included, got {num_units}; pass the processor of a "
                "SpeechDataModule, which knows it"
            )
        return num_units
    if processor.unit_settings is None:
        raise ValueError("the data must have transcripts, got none; train a SpeechRecognizer on a SpeechDataModule")
    size = processor.units.size
    if num_units not in (None, size):
        raise ValueError(
            f"the data must have the {num_units} units of the network, got {size}; leave num_units out, or {REMEDY}"
        )
    return size


def as_recordings(recordings: Recording | Sequence[Recording]) -> list[Recording]:
    """One recording or several as a list.

    Raises:
        ValueError: The argument is neither.
    """
    if isinstance(recordings, str | Path | np.ndarray | Tensor):
        return [recordings]
    if isinstance(recordings, bytes | Mapping) or not isinstance(recordings, Iterable):
        raise ValueError(
            f"recordings must be files, arrays, or tensors, or a list of these, got {type(recordings).__name__}"
        )
    return list(recordings)


def pad_waveforms(waves: Sequence[Tensor]) -> dict[str, Tensor]:
    """Waveforms (T,) as wave (B, T) float32, followed by zeros, and length (B,) int64."""
    length = torch.tensor([len(wave) for wave in waves])
    # A single one, which may last hours, is not copied.
    wave = waves[0][None] if len(waves) == 1 else pad_sequence(list(waves), batch_first=True)
    return {"wave": wave, "length": length}


def _batch(waves: list[Tensor], names: list[str], first: int) -> Batch:
    return {**pad_waveforms(waves), "index": torch.arange(first, first + len(waves)), "file": names}
