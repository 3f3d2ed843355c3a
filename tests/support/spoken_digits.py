"""Small single digits as the Free Spoken Digit Dataset has them, whose clips can be told apart when they are joined."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import soundfile

from tasks.audio.built_in.connected_digits import WORDS

SPEAKERS = ["ann", "bob"]
RATE = 8_000


def code(speaker: int, digit: int, take: int) -> int:
    """The first sample of a clip: far above the noise between clips, and that of no other clip."""
    return 3_000 * (digit + 1) + 1_300 * speaker + 40 * take


def clip(speaker: int, digit: int, take: int, samples: int = 211) -> np.ndarray:
    """int16 samples that are the code and one less in turns, as what does not change is silence."""
    wave = np.full(samples, code(speaker, digit, take), dtype=np.int16)
    wave[1::2] -= 1
    return wave


def encoded(wave: np.ndarray, rate: int = RATE, *, kind: str = "FLAC", subtype: str = "PCM_16") -> bytes:
    """A sound file."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


def decoded(content: bytes) -> tuple[np.ndarray, int]:
    """int16 samples of a sound file, and its rate."""
    return soundfile.read(io.BytesIO(content), dtype="int16")


def single_digits(takes: Sequence[int], samples: int = 211) -> list[dict[str, Any]]:
    """A row for each take of each digit of each speaker."""
    return [
        {
            "audio": {"bytes": encoded(clip(number, digit, take, samples)), "path": f"{digit}_{speaker}_{take}.flac"},
            "label": digit,
            "text": WORDS[digit],
            "speaker": speaker,
            "take": take,
        }
        for take in takes
        for digit in range(10)
        for number, speaker in enumerate(SPEAKERS)
    ]


def write_digits(folder: Path, samples: int = 211, **splits: Any) -> str:
    """A folder with a parquet file for each split, given as rows; by default takes 2 to 6 train, and 0 and 1 test."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        splits or {"train": single_digits(range(2, 7), samples), "test": single_digits([0, 1], samples)}
    ).items():
        datasets.Dataset.from_list(rows).to_parquet(str(folder / f"{name}.parquet"))
    return str(folder)
