"""Small sounds of three classes: low, middle and high tones."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 8_000
HZ = {"low": 300.0, "mid": 1_100.0, "high": 3_000.0}
NAMES = sorted(HZ)


def tone(name: str, seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """A tone of a class, with a little noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * HZ[name] * time) + 0.01 * random.standard_normal(len(time))


def write_tones(folder: Path, rows: int, seed: int) -> str:
    """A folder for each class, of sounds of other lengths each."""
    for number in range(rows):
        name = NAMES[number % 3]
        (folder / name).mkdir(parents=True, exist_ok=True)
        wave = tone(name, 0.11 + 0.013 * (number % 11), seed + number)
        soundfile.write(folder / name / f"{number}.wav", wave, RATE)
    return str(folder)
