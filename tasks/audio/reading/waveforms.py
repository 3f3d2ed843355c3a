"""Audio files or their bytes as waveforms of one channel, and the lengths in their headers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets.utils.file_utils import xopen
from torch import Tensor

from tasks.audio.extra import soundfile
from tasks.audio.reading.containers import readable_copy
from tasks.audio.reading.resampling import resample
from tasks.data.examples import ReadError
from tasks.data.files import located, shown

# From the rates of seismometers to the highest rates of audio (Hz).
LEAST_RATE, MOST_RATE = 1_000, 768_000
# Endings of the formats that libsndfile reads.
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64"),
    *(".rf64", ".sph", ".nist", ".voc", ".wave", ".bwf", ".mp1", ".mp2", ".mpga", ".avr", ".htk", ".iff", ".svx"),
    *(".8svx", ".paf", ".pvf", ".sds", ".sf", ".wve", ".xi"),
)

# Samples of each channel that are read at a time.
_BLOCK = 1 << 23
# The number of samples from libsndfile is at least this if the header does not give it.
_UNKNOWN = 1 << 62
# The estimated length of MPEG audio may exceed the true length by three frames (samples).
_MPEG_TOLERANCE = 3 * 1152
# Twenty decibels above full scale; larger floating-point samples have another scale.
_LARGEST = 10.0


class Header(NamedTuple):
    """Length of a recording in seconds, and its sample rate in Hz."""

    seconds: float
    rate: int


def read_header(value: Any, folder: Path = Path(), *, shortest: float = 0.0) -> Header:
    """Length and sample rate of a recording; its samples are read only if the header does not give their number.

    Arguments as in `read_waveform`.

    Raises:
        ReadError: The file is missing, empty, cut short, or not audio, the recording is shorter than `shortest`, or its
            sample rate is out of range. Not every container shows that a file was cut.
    """
    with _open(value, folder) as file:
        count = file.frames if file.frames < _UNKNOWN else len(_read_mono(file))
        rate = file.samplerate
    _check_length(_name_of(value, folder), count, rate, shortest)
    return Header(count / rate, rate)


def read_waveform(value: Any, sample_rate: int, folder: Path = Path(), *, shortest: float = 0.0) -> Tensor:
    """The mean of the channels of a recording, resampled and clipped to full scale.

    Args:
        value: A file name or URL, the bytes of a file, or ``{"bytes", "path"}`` as `datasets` stores audio.
        sample_rate: Sample rate of the result (Hz).
        folder: Folder that relative file names start from.
        shortest: Minimum length of a recording (s).

    Returns:
        (T,) float32, in [-1, 1].

    Raises:
        ReadError: As in `read_header`; or the recording is silent (all samples are equal), or `check_waveform` rejects
            it.
    """
    name = _name_of(value, folder)
    with _open(value, folder) as file:
        rate, expected, waveform = file.samplerate, file.frames, _read_mono(file)
        tolerance = _MPEG_TOLERANCE if file.subtype.startswith("MPEG") else 0
    if len(waveform) < expected - tolerance and expected < _UNKNOWN:
        raise ReadError(
            f"the recording{name} is cut short: by its header it lasts {expected / rate:.2f} s, but it ends after "
            f"{len(waveform) / rate:.2f} s"
        )
    _check_length(name, len(waveform), rate, shortest)
    check_waveform(name, waveform, rate)
    if waveform.min() == waveform.max():
        raise ReadError(
            f"the recording{name} is silent: all of its samples are equal. If silence is a class, add faint noise to "
            "its recordings"
        )
    return resample(torch.from_numpy(waveform), rate, sample_rate).clamp_(-1, 1)


def file_of(value: Any, folder: Path = Path()) -> str:
    """The file of a recording, or the name that is stored with its bytes; empty without a name."""
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str | Path):
        return ""
    if "://" in str(path) or (isinstance(value, dict) and value.get("bytes") is not None):
        return str(path)
    return str(folder / os.path.expanduser(path))


def _name_of(value: Any, folder: Path) -> str:
    """A space and the file of a recording, if that is known, for messages."""
    file, name = file_of(value, folder), value.get("path") if isinstance(value, dict) else value
    return f" {shown(str(name), file)}" if file else ""


class _ForwardFile(soundfile.SoundFile):
    """An audio file that is read from its beginning to its end.

    soundfile would seek to the current position after each block. libsndfile then decodes some formats again, and may
    not return at the end of a FLAC file that was cut short.
    """

    def seekable(self) -> bool:
        return False


@contextmanager
def _open(value: Any, folder: Path) -> Iterator[_ForwardFile]:
    """Open a recording after a check of its container; errors of libsndfile become `ReadError`."""
    name = _name_of(value, folder)
    try:
        source = _source(value, folder)
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as content:
            copy = readable_copy(content, name)
            content.seek(0)
        if isinstance(source, Path) and source.suffix.lower() == ".raw":
            raise ReadError(f"the recording{name} has no header with its sample rate; save it as WAV or FLAC")
        with _ForwardFile(copy or (os.fsencode(source) if isinstance(source, Path) else source)) as file:
            if not LEAST_RATE <= file.samplerate <= MOST_RATE:
                raise ReadError(
                    f"the recording{name} must have a sample rate of {LEAST_RATE:,} to {MOST_RATE:,} Hz, got "
                    f"{file.samplerate:,} Hz; resample it"
                )
            try:
                yield file
            except soundfile.LibsndfileError as error:  # raised by the samples, after the header
                raise ReadError(f"the recording{name} is cut short or damaged: {_reason(error)}") from error
    except (OSError, soundfile.SoundFileError) as error:
        raise ReadError(f"the recording{name} cannot be read: {_reason(error)}") from error


def _source(value: Any, folder: Path) -> Path | BytesIO:
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if isinstance(value, bytes):
        return BytesIO(value)
    if value is None:
        raise ReadError("the row has no recording")
    if not isinstance(value, str | Path):
        raise ReadError(f"a recording must be a file name or the bytes of a file, got {type(value).__name__}")
    if "://" in str(value):
        try:
            with xopen(str(value), "rb") as remote:
                return BytesIO(remote.read())
        except ValueError as error:  # unknown protocol
            raise OSError(str(error)) from error
    return located(folder, os.path.expanduser(value))


def _reason(error: Exception) -> str:
    if not isinstance(error, soundfile.LibsndfileError):
        return getattr(error, "strerror", None) or str(error)
    if error.code in (1, 7):  # unknown format; code 7 (no such file) is also raised for existing files without one
        return "it holds no audio in a format that libsndfile reads, or only tags; save it as WAV or FLAC"
    return error.error_string.removeprefix("Error : ").rstrip(".")


def _read_mono(file: _ForwardFile) -> np.ndarray:
    """(T,) float32, the mean of the channels."""
    parts = [np.zeros(0, dtype=np.float32)]
    left = file.frames
    while left > 0:
        block = file.read(min(left, _BLOCK), dtype="float32", always_2d=True)
        if not len(block):
            break
        parts.append(block[:, 0] if file.channels == 1 else block.mean(axis=1))
        left -= len(block)
    return parts[1] if len(parts) == 2 else np.concatenate(parts)


def _check_length(name: str, count: int, rate: int, shortest: float) -> None:
    if count == 0:
        raise ReadError(f"the recording{name} has no samples by its header")
    if count / rate < shortest:
        raise ReadError(
            f"the recording{name} must last at least {1000 * shortest:.1f} ms (shortest, or a window of the features), "
            f"got {1000 * count / rate:.1f} ms"
        )


def check_waveform(name: str, waveform: np.ndarray, rate: int) -> None:
    """Raise `ReadError` unless the samples (T,), T > 0, are finite and of full scale 1.

    The message names the recording by `name`, which begins with a space.
    """
    low, high = float(waveform.min()), float(waveform.max())
    if not np.isfinite([low, high]).all():
        first = int((~np.isfinite(waveform)).argmax())
        raise ReadError(
            f"the recording{name} must have finite samples, got NaN or infinity, first at {first / rate:.3f} s; export "
            "it again"
        )
    if max(high, -low) > _LARGEST:
        raise ReadError(
            f"the recording{name} must have floating-point samples in [-1, 1], got {max(high, -low):,.0f} times full "
            "scale; divide the samples by their scale, or save them as integers"
        )
