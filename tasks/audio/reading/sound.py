"""Sounds from files or bytes: what their headers tell, or their samples, of one channel and the sample rate wanted."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from datasets.utils.file_utils import xopen
from torch import Tensor

from tasks.audio.extra import soundfile, torchaudio
from tasks.audio.reading.mp3 import read_mp3, with_honest_length
from tasks.audio.reading.truncation import missing_bytes
from tasks.data.examples import ReadError

# Hz: seismometers sample more slowly, and nothing that is heard faster.
LEAST_RATE, MOST_RATE = 1_000, 768_000
# How names of sound files end that libsndfile reads.
SOUND_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc"),
)

# Samples of each channel that are decoded at a time.
_BLOCK = 1 << 23
# More samples than any file has: libsndfile's way to say that the header does not tell.
_UNKNOWN = 1 << 62
# Twenty decibels above full scale. Beyond it, floating-point samples are of another scale.
_LOUDEST = 10.0
# Largest term of the ratio of sample rates, but for what all common rates need.
_FINEST = 1_000
# Samples that go into or come out of resampling at a time; torchaudio counts them in float32, right up to twice these.
_RESAMPLED = 1 << 23
# Samples of the lower rate that its filters reach on either side, at least.
_REACH = 6.1


class Header(NamedTuple):
    """Length of a sound in seconds, and its sample rate in Hz."""

    seconds: float
    rate: int


def read_header(value: Any, folder: Path = Path(), *, shortest: float = 0.0) -> Header:
    """Length and sample rate of a sound, without decoding it where its header tells.

    Args:
        value: As in `read_sound`.
        folder: As in `read_sound`.
        shortest: Fewest seconds of a sound.

    Raises:
        ReadError: There is no such file, it is empty, no sound, cut short where its container tells, without samples or
            too short, or its sample rate is absurd; the message names the file.
    """
    with _opened(value, folder) as file:
        count = file.frames if file.frames < _UNKNOWN else len(_mono(file))
        rate = file.samplerate
    _check_length(name_of(value, folder), count, rate, shortest)
    return Header(count / rate, rate)


def read_sound(value: Any, sample_rate: int, folder: Path = Path(), *, shortest: float = 0.0) -> Tensor:
    """Decode one sound: the mean of its channels, resampled, cut off at full scale.

    Args:
        value: A file name, the bytes of a file, or ``{"bytes", "path"}`` as `datasets` keeps sounds. A name may be a
            URL that fsspec reads.
        sample_rate: Sample rate of the result (Hz).
        folder: What a relative file name is relative to.
        shortest: Fewest seconds of a sound.

    Returns:
        (T,) float32, in [-1, 1].

    Raises:
        ReadError: As `read_header`; or it is cut short, silent (all samples are equal), or holds samples that are no
            numbers or of another scale.
    """
    name = name_of(value, folder)
    with _opened(value, folder) as file:
        rate, told, wave = file.samplerate, file.frames, _mono(file)
        told = len(wave) if told >= _UNKNOWN else told
    if len(wave) < told:
        raise ReadError(
            f"the sound{name} is cut short: its header tells of {told / rate:.2f} s, but it ends after "
            f"{len(wave) / rate:.2f} s"
        )
    _check_length(name, len(wave), rate, shortest)
    check_samples(name, wave, rate)
    if wave.min() == wave.max():
        raise ReadError(f"the sound{name} is silent: all of its samples are equal")
    return resampled(torch.from_numpy(wave), rate, sample_rate).clamp_(-1, 1)


def resampled(wave: Tensor, rate: int, sample_rate: int) -> Tensor:
    """Samples (T,) at another rate, (ceil(T sample_rate / rate),), band-limited.

    The filters are as many as the rates have in the lowest terms: those of rates without a common factor would fill the
    memory. Then the nearest ratio of smaller terms is taken, which is off by less than one in a thousand. Long sounds
    are resampled a part at a time, each with the samples around it that its filters reach.

    Args:
        wave: Samples at `rate` (Hz).
        rate: Their sample rate.
        sample_rate: That of the result (Hz).

    Source: J. Smith, "Digital audio resampling", by `torchaudio.functional.resample`.
    """
    ratio = Fraction(rate, sample_rate).limit_denominator(_FINEST)
    if ratio == 1:
        return wave
    old, new = ratio.numerator, ratio.denominator
    # Parts begin where the filters do, at multiples of `old`; so does what lies before them.
    size = old * max(1, _RESAMPLED // max(old, new))
    around = old * math.ceil(_REACH * max(1.0, old / new) / old)
    if len(wave) <= size:
        return torchaudio.functional.resample(wave, old, new)
    found = wave.new_empty(-(-len(wave) * new // old))
    for start in range(0, len(wave), size):
        before = min(start, around)
        part = torchaudio.functional.resample(wave[start - before : start + size + around], old, new)
        place = start // old * new
        kept = found[place : place + size // old * new]
        kept.copy_(part[before // old * new :][: len(kept)])
    return found


def file_of(value: Any, folder: Path = Path()) -> str:
    """The file of a sound, or the name that is kept beside its bytes; empty where nothing tells."""
    path = value
    if isinstance(value, dict):
        path = value.get("path")
    if isinstance(path, Path):
        path = str(path)
    if not isinstance(path, str):
        return ""
    if "://" in path or (isinstance(value, dict) and value.get("bytes") is not None):
        return path
    return str(folder / os.path.expanduser(path))


def name_of(value: Any, folder: Path = Path()) -> str:
    """How messages name a sound: a space and its file, if that is known."""
    file = file_of(value, folder)
    return f" {file!r}" if file else ""


class _Forward(soundfile.SoundFile):
    """A sound file that is read from its beginning to its end.

    Told that it cannot seek, soundfile does not seek to where it already is after each block, for which libsndfile
    would decode some formats anew, and may not return at the end of a FLAC file that is cut short.
    """

    def seekable(self) -> bool:
        """No."""
        return False


@contextmanager
def _opened(value: Any, folder: Path) -> Iterator[_Forward]:
    """A sound that is there, not cut short as far as its container tells, and of a rate that can be."""
    name = name_of(value, folder)
    try:
        source = _source(value, folder)
        if isinstance(source, Path):
            with source.open("rb") as content:
                _check_whole(name, content)
            if source.suffix.lower() == ".raw":
                raise ReadError(f"the sound{name} has no header that tells its sample rate; save it as WAV or FLAC")
        else:
            _check_whole(name, source)
        with _Forward(_honest(name, source)) as file:
            if not LEAST_RATE <= file.samplerate <= MOST_RATE:
                raise ReadError(
                    f"the sound{name} has a sample rate of {file.samplerate:,} Hz; expected {LEAST_RATE:,} to "
                    f"{MOST_RATE:,} Hz"
                )
            try:
                yield file
            except soundfile.LibsndfileError as error:  # the header was read, and the samples cannot be
                raise ReadError(f"the sound{name} is cut short or damaged: {_reason(error)}") from error
    except (OSError, soundfile.SoundFileError) as error:
        raise ReadError(f"the sound{name} cannot be read: {_reason(error)}") from error


def _source(value: Any, folder: Path) -> Path | BytesIO:
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if isinstance(value, bytes):
        return BytesIO(value)
    if not isinstance(value, str | Path):
        raise ReadError("the row holds no sound" if value is None else f"a {type(value).__name__} is no sound")
    if "://" in str(value):
        try:
            with xopen(str(value), "rb") as remote:
                return BytesIO(remote.read())
        except ValueError as error:  # no such protocol
            raise OSError(str(error)) from error
    return folder / os.path.expanduser(value)


def _honest(name: str, source: Path | BytesIO) -> Path | BytesIO:
    """A file that tells its length; of an MP3 file that does not, a copy that does.

    Raises:
        ReadError: It is an MP3 file that is cut short.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            start = file.read(3)
    else:
        start = source.getvalue()[:3]
    if start != b"ID3" and not (start[:1] == b"\xff" and start[1:2] >= b"\xe0"):
        return source
    content = source.read_bytes() if isinstance(source, Path) else source.getvalue()
    mp3 = read_mp3(content)
    if mp3 is None or mp3.honest:
        return source
    if mp3.missing:
        raise ReadError(f"the sound{name} is cut short: {mp3.missing:.2f} s at its end are missing")
    return BytesIO(with_honest_length(content, mp3))


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return error.error_string.removeprefix("Error : ").rstrip(".")
    return getattr(error, "strerror", None) or str(error)


def _mono(file: _Forward) -> np.ndarray:
    """What is left of a file: (T,) float32, the mean of its channels."""
    parts: list[np.ndarray] = []
    left = file.frames
    while left > 0:
        block = file.read(min(left, _BLOCK), dtype="float32", always_2d=True)
        if not len(block):
            break
        parts.append(block[:, 0] if file.channels == 1 else block.mean(axis=1))
        left -= len(block)
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype=np.float32), *parts])


def _check_whole(name: str, content: BinaryIO) -> None:
    if content.seek(0, os.SEEK_END) == 0:
        raise ReadError(f"the sound{name} is an empty file")
    if missing := missing_bytes(content):
        raise ReadError(f"the sound{name} is cut short: {missing:,} bytes at its end are missing")
    content.seek(0)


def _check_length(name: str, count: int, rate: int, shortest: float) -> None:
    if count == 0:
        raise ReadError(f"the sound{name} has no samples")
    if count / rate < shortest:
        raise ReadError(
            f"the sound{name} lasts {1000 * count / rate:.1f} ms; expected at least {1000 * shortest:.1f} ms "
            "(shortest, or a window of the features)"
        )


def check_samples(name: str, wave: np.ndarray, rate: int) -> None:
    """Accept samples that are a sound.

    Args:
        name: How to name it, after a space.
        wave: (T,) its samples, one at least.
        rate: Its sample rate (Hz).

    Raises:
        ReadError: They are no numbers, or of another scale.
    """
    low, high = float(wave.min()), float(wave.max())
    if not np.isfinite([low, high]).all():
        first = int((~np.isfinite(wave)).argmax())
        raise ReadError(
            f"the sound{name} holds samples that are no numbers (NaN or infinite), the first at {first / rate:.3f} s"
        )
    if max(high, -low) > _LOUDEST:
        raise ReadError(
            f"the sound{name} reaches {max(high, -low):,.0f} times full scale: floating-point samples must lie in "
            "[-1, 1]; divide them by their scale, or save them as whole numbers"
        )
