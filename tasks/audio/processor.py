"""The processor of recordings: it reads waveforms, encodes transcripts as units, and names the classes.

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
from tasks.audio.speech.agreement import REMEDY, unit_difference
from tasks.audio.speech.normalization import Writing
from tasks.audio.speech.units import Units, units_from
from tasks.data.examples import Batch
from tasks.processor import Processor

Recording = str | Path | np.ndarray | Tensor

# Frames and hidden states of a minute take some tens of MB.
MAX_SECONDS = 60.0


class AudioProcessor(Processor):
    """Reads recordings of any sample rate and number of channels: the mean of their channels at one sample rate.

    Args:
        sample_rate: Sample rate of the waveforms (Hz).
        units: Units of the transcripts as plain values (`Units.settings`); None for recordings without transcripts.
        writing: Normalization of the transcripts as plain values (`Writing.settings`); None for none.
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
        """The units of the transcripts; a ValueError without transcripts."""
        if self.unit_settings is None:
            raise ValueError(
                "the processor must have units to read and write transcripts, got None; use the processor of a "
                "SpeechDataModule or SpeechRecognizer, or use a classifier with an AudioDataModule"
            )
        return units_from(self.unit_settings)

    @property
    def writing(self) -> Writing:
        """The normalization of transcripts."""
        settings: Any = self.writing_settings or {}
        return Writing(**settings)

    def read(self, value: Any, folder: Path = Path(), *, shortest: float = 0.0) -> Tensor:
        """The waveform (T,) of a recording, float32; arguments and errors as in `read_waveform`."""
        return read_waveform(value, self.sample_rate, folder, shortest=shortest)

    def batches(self, sounds: Recording | Sequence[Recording], max_seconds: float = MAX_SECONDS) -> Iterator[Batch]:
        """Batches of recordings in their order: wave (B, T) float32, length (B,), index (B,), and file.

        A file is read when its batch is made.

        Args:
            sounds: One recording or a list: files of any sample rate, or arrays or tensors (T,) at `sample_rate`, in
                [-1, 1].
            max_seconds: Maximum seconds of a batch, padding included; a longer recording is a batch by itself.

        Raises:
            ValueError: max_seconds is not positive, or a recording cannot be read.
        """
        if not max_seconds > 0:
            raise ValueError(f"max_seconds must be a positive number of seconds, got {max_seconds}")
        batch: list[tuple[str, Tensor]] = []
        first = 0
        for place, recording in enumerate(as_recordings(sounds)):
            name, wave = self._named_waveform(recording, place)
            longest = max(len(wave) for _, wave in [*batch, (name, wave)])
            if batch and longest * (len(batch) + 1) > max_seconds * self.sample_rate:
                yield _batch(batch, first)
                batch, first = [], place
            batch.append((name, wave))
        if batch:
            yield _batch(batch, first)

    def _named_waveform(self, recording: Any, place: int) -> tuple[str, Tensor]:
        if isinstance(recording, str | Path):
            return str(recording), self.read(str(recording))
        name = f"at place {place}"
        if not isinstance(recording, np.ndarray | Tensor):
            raise ValueError(f"sounds must be files, arrays, or tensors, got {type(recording).__name__} {name}")
        floats = recording.dtype.kind == "f" if isinstance(recording, np.ndarray) else recording.is_floating_point()
        if not floats:
            raise ValueError(
                f"sounds must be floating-point samples in [-1, 1], got {recording.dtype} {name}; divide integers by "
                "their full scale, 32768 for 16 bits"
            )
        if recording.ndim != 1:
            raise ValueError(
                f"sounds must be arrays of one axis, the samples of one channel, got shape {tuple(recording.shape)} "
                f"{name}; take the mean of the channels, and give more than one recording as a list"
            )
        if isinstance(recording, np.ndarray):
            recording = torch.from_numpy(np.require(recording, np.float32, ["C", "W"]))  # torch takes no other arrays
        wave = recording.detach().cpu().float()
        if len(wave):
            check_waveform(f" {name}", wave.numpy(), self.sample_rate)
        return name, wave

    def check_weights(self, report: WeightReport) -> None:
        """Accept pretrained weights whose units have the same numbers, or that were trained without units."""
        trained = ((report.processor or {}).get("init_args") or {}).get("units")
        if trained is None or self.unit_settings is None:
            return
        if difference := unit_difference(trained, self.unit_settings, "the weights"):
            raise ValueError(
                f"weights must have the units of the data, got others in {report.path}: {difference}; {REMEDY}"
            )

    def difference(self, other: "AudioProcessor") -> str | None:
        """The difference of the sample rates or, where both processors have units, the first unit that differs."""
        if self.sample_rate != other.sample_rate:
            return f"sample_rate is {other.sample_rate} Hz in the data and {self.sample_rate} Hz in the task"
        if self.unit_settings is None or other.unit_settings is None:
            return None
        return unit_difference(self.unit_settings, other.unit_settings, "the task")


def known_sample_rate(sample_rate: int | None, processor: AudioProcessor | None) -> int | None:
    """The sample rate (Hz) of a network: of the processor, which must equal `sample_rate`, or else `sample_rate`."""
    if processor is None:
        return sample_rate
    if sample_rate is not None:
        check_sample_rate(sample_rate, processor.sample_rate)
    return processor.sample_rate


def check_sample_rate(network: int, data: int) -> None:
    """Raise ValueError unless a network and its data have the same sample rate (Hz)."""
    if network != data:
        raise ValueError(
            f"sample_rate must be the same for network and data, got {network} Hz and {data} Hz; build the data with "
            f"processor=task.processor or --data.sample_rate {network}, or leave out --model.sample_rate"
        )


def known_num_units(num_units: int | None, processor: AudioProcessor | None) -> int:
    """The number of units of a network: of the processor, which must equal `num_units`, or else `num_units`."""
    if processor is None:
        if num_units is None or num_units < 2:
            raise ValueError(
                f"num_units must be given and at least 2, the blank included, got {num_units}; pass the processor of a "
                "SpeechDataModule, which knows the number"
            )
        return num_units
    if processor.unit_settings is None:
        raise ValueError("the data must have transcripts, got none; train a SpeechRecognizer on a SpeechDataModule")
    size = processor.units.size
    if num_units not in (None, size):
        raise ValueError(
            f"num_units must be the same for network and data, got {num_units} and {size}; leave num_units out, or "
            f"{REMEDY}"
        )
    return size


def as_recordings(sounds: Recording | Sequence[Recording]) -> list[Recording]:
    """A list of recordings from one recording or a list."""
    if isinstance(sounds, str | Path | np.ndarray | Tensor):
        return [sounds]
    if isinstance(sounds, bytes | Mapping) or not isinstance(sounds, Iterable):
        raise ValueError(f"sounds must be files, arrays, or tensors, or a list of these, got {type(sounds).__name__}")
    return list(sounds)


def pad_waveforms(waves: Sequence[Tensor]) -> dict[str, Tensor]:
    """Waveforms (T,) as wave (B, T) float32, padded with zeros, and length (B,) int64."""
    length = torch.tensor([len(wave) for wave in waves])
    # A single recording may last hours, so it is not copied.
    wave = waves[0][None] if len(waves) == 1 else pad_sequence(list(waves), batch_first=True)
    return {"wave": wave, "length": length}


def _batch(recordings: list[tuple[str, Tensor]], first: int) -> Batch:
    names, waves = zip(*recordings)
    return {**pad_waveforms(waves), "index": torch.arange(first, first + len(waves)), "file": list(names)}
