"""Small real sounds: noise whose samples are known exactly, in files of any format."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import soundfile
import torch
from torch import Tensor

RATE = 8_000
# How a column of files is stored that are part of a table.
STORED = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


def noise(samples: int, seed: int = 0, channels: int | None = None) -> np.ndarray:
    """(T,) or (T, channels) int16, at half of full scale."""
    shape = (samples,) if channels is None else (samples, channels)
    return np.random.default_rng(seed).integers(-(2**14), 2**14, shape).astype(np.int16)


def tone(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    """(T,) float32, at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def as_decoded(wave: np.ndarray) -> Tensor:
    """(T,) float32 that int16 samples stand for, the mean of their channels."""
    return torch.from_numpy(wave.reshape(len(wave), -1).astype(np.float32).mean(1) / 2**15)


def sound_bytes(wave: np.ndarray, rate: int = RATE, kind: str = "FLAC", **options: Any) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, **options)
    return file.getvalue()


def write_sound(file: Path, wave: np.ndarray, rate: int = RATE, **options: Any) -> str:
    """A file whose name tells its format; folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, wave, rate, **options)
    return str(file)


def stored(waves: list[np.ndarray], rate: int = RATE, kind: str = "FLAC") -> list[dict[str, Any]]:
    """Files as values of a column of type `STORED`."""
    return [
        {"bytes": sound_bytes(wave, rate, kind), "path": f"{number}.{kind.lower()}"}
        for number, wave in enumerate(waves)
    ]


def check_waves(batch: dict[str, Any], waves: dict[int, np.ndarray]) -> None:
    """Compare a batch with int16 sounds, by row number."""
    assert batch["wave"].dtype == torch.float32
    assert (batch["length"].dtype, batch["index"].dtype) == (torch.int64, torch.int64)
    assert batch["wave"].shape == (len(batch["index"]), int(batch["length"].max()))
    for wave, length, row in zip(batch["wave"], batch["length"].tolist(), batch["index"].tolist(), strict=True):
        assert torch.equal(wave[:length], as_decoded(waves[row]))
        assert not wave[length:].any()
