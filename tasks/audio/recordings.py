"""Recordings as batches for a network that is called by itself, without a data module; and whether they are too short.

Letters: B batch, T samples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softformer.models.audio.features import LogMel
from tasks.audio.examples import padded_sounds
from tasks.audio.reading.sound import check_samples, read_sound

Sound = str | Path | np.ndarray | Tensor

# A minute of frames and of hidden states takes some tens of MB.
MOST_SECONDS = 60.0


def as_list(sounds: Sound | Sequence[Sound]) -> list[Sound]:
    """One recording or several as a list.

    Raises:
        ValueError: They are neither.
    """
    if isinstance(sounds, str | Path | np.ndarray | Tensor):
        return [sounds]
    if isinstance(sounds, bytes | Mapping) or not isinstance(sounds, Iterable):
        raise ValueError(f"sounds: expected files, arrays or tensors, or a list of these, got {type(sounds).__name__}")
    return list(sounds)


def as_batches(
    sounds: Sound | Sequence[Sound], sample_rate: int, max_seconds: float = MOST_SECONDS
) -> Iterator[dict[str, Any]]:
    """Batches of recordings in their order: wave (B, T) float32, zero behind each, length (B,), index (B,), file.

    Files are decoded when their batch is wanted, so memory does not grow with their number.

    Args:
        sounds: Files of any sample rate, or arrays or tensors (T,) at `sample_rate`, in [-1, 1].
        sample_rate: That of the batches (Hz).
        max_seconds: Most seconds of a batch, padding included; a longer recording makes a batch by itself.

    Raises:
        ValueError: max_seconds is not positive, or a recording cannot be read or is no sound.
    """
    if not max_seconds > 0:
        raise ValueError(f"max_seconds: expected a positive number of seconds, got {max_seconds}")
    waves: list[Tensor] = []
    names: list[str] = []
    first = 0
    for number, sound in enumerate(as_list(sounds)):
        wave = _wave(sound, sample_rate, number)
        longest = max([len(wave), *map(len, waves)])
        if waves and longest * (len(waves) + 1) > max_seconds * sample_rate:
            yield _batch(waves, names, first)
            waves, names, first = [], [], number
        waves.append(wave)
        names.append(str(sound) if isinstance(sound, str | Path) else f"at place {number}")
    if waves:
        yield _batch(waves, names, first)


def _wave(sound: Any, sample_rate: int, number: int) -> Tensor:
    if isinstance(sound, str | Path):
        return read_sound(str(sound), sample_rate)
    if not isinstance(sound, np.ndarray | Tensor):
        raise ValueError(
            f"sounds: expected files, arrays or tensors, got {type(sound).__name__} at place {number} of the list"
        )
    whole = np.issubdtype(sound.dtype, np.integer) if isinstance(sound, np.ndarray) else not sound.is_floating_point()
    if whole:
        raise ValueError(
            f"sounds: expected floating-point samples in [-1, 1], got {sound.dtype} at place {number}; divide whole "
            "numbers by their full scale, those of 16 bits by 32768"
        )
    wave = torch.as_tensor(sound)
    if wave.ndim != 1:
        raise ValueError(
            f"sounds: expected arrays of one axis, the samples of one channel in [-1, 1], got {wave.dtype} of shape "
            f"{tuple(wave.shape)} at place {number}; give several as a list, and take the mean of the channels"
        )
    wave = wave.detach().cpu().float()
    if len(wave):
        check_samples(f" at place {number}", wave.numpy(), sample_rate)
    return wave


def _batch(waves: list[Tensor], names: list[str], first: int) -> dict[str, Any]:
    return {**padded_sounds(waves), "index": torch.arange(first, first + len(waves)), "file": names}


def check_recordings(batch: dict[str, Any], features: LogMel) -> None:
    """Accept recordings that have a frame, and all bits of their samples.

    Args:
        batch: It holds length (B,), and file or index (B,) to name a recording by.
        features: They tell what a frame takes.

    Raises:
        ValueError: One is shorter than a window, or samples are of half precision.
    """
    if batch["wave"].dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"samples must be float32, got {batch['wave'].dtype}, whose rounding is heard as noise: take "
            "--trainer.precision bf16-mixed or 16-mixed in place of bf16-true or 16-true"
        )
    short = (batch["length"] < features.window).nonzero().flatten().tolist()
    if short:
        place = short[0]
        file = batch["file"][place] if "file" in batch else ""
        name = f"the recording {file!r}" if file else f"row {int(batch['index'][place])}"
        rate = features.sample_rate
        raise ValueError(
            f"{name} lasts {1000 * int(batch['length'][place]) / rate:.1f} ms, less than one window of the features "
            f"({1000 * features.window / rate:.1f} ms), as do {len(short)} of the {len(batch['length'])} of its batch. "
            "Leave such recordings out, or make the window shorter by --model.features.window (ms)"
        )
