"""MP3 files whose length a decoder would take for another: cut ones, joined ones, and those without a tag."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sounds import sound_bytes

from tasks.audio.reading.mp3 import Mp3, read_mp3, with_honest_length
from tasks.audio.reading.sound import read_header, read_sound
from tasks.data.examples import ReadError

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000]
MODES = ["CONSTANT", "VARIABLE"]


def _wave(rate: int, channels: int, seconds: float = 3.1) -> np.ndarray:
    """Half of it a tone, then noise, so that rates of bits differ, and the end is loud."""
    time = np.arange(round(seconds * rate)) / rate
    noise = 0.1 * np.random.default_rng(0).standard_normal((len(time), channels))
    tone = 0.3 * np.sin(2 * np.pi * 440 * time)[:, None]
    return np.where(time[:, None] < seconds / 2, tone, noise).astype(np.float32)


def _content(rate: int, channels: int = 1, mode: str = "VARIABLE") -> bytes:
    return sound_bytes(_wave(rate, channels), rate, "MP3", bitrate_mode=mode, compression_level=0.5)


def _read(content: bytes) -> Mp3:
    mp3 = read_mp3(content)
    assert mp3 is not None
    return mp3


def _frame(rate: int) -> int:
    return 1152 if rate >= 32_000 else 576


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", RATES)
def test_frames_are_counted(rate: int, channels: int, mode: str) -> None:
    content = _content(rate, channels, mode)
    mp3 = _read(content)
    assert mp3.frames == mp3.told
    assert mp3.rate == rate / _frame(rate)
    # The encoder puts frames around the sound.
    assert 0 <= mp3.frames / mp3.rate - 3.1 <= 4 / mp3.rate
    assert mp3.honest
    assert mp3.missing == 0
    assert read_header(content).seconds == pytest.approx(3.1, abs=1e-4)
    assert len(read_sound(content, rate)) == round(3.1 * rate)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_file_without_a_tag_is_heard_to_its_end(rate: int, mode: str) -> None:
    content = _content(rate, mode=mode)
    whole, mp3 = read_sound(content, rate), _read(content)
    bare = content[mp3.first :]
    assert _read(bare).told is None
    assert _read(bare).frames == mp3.frames
    heard = read_sound(bare, rate)
    assert len(whole) <= len(heard) <= mp3.frames * _frame(rate)
    assert read_header(bare).seconds == len(heard) / rate
    # The encoder's delay is before it; the sound is the same.
    delay = int(torch.fft.irfft(torch.fft.rfft(heard, 1 << 19) * torch.fft.rfft(whole, 1 << 19).conj()).argmax())
    assert (heard[delay : delay + len(whole)] - whole).abs().max() < 0.02
    assert heard[-rate // 10 :].std() > 0.03


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_joined_files_are_heard_to_their_end(rate: int, tmp_path: Path) -> None:
    content = _content(rate)
    file = tmp_path / "joined.mp3"
    # As programs write them: names in front, and again in the middle.
    names = b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\xff\xfb\x90\x00" + bytes(124)
    file.write_bytes(names + content + names + content + b"TAG" + bytes(125))
    assert _read(file.read_bytes()).frames in (2 * _read(content).frames, 2 * _read(content).frames + 1)
    for form in (file, file.read_bytes()):
        assert len(read_sound(form, rate)) == pytest.approx(2 * 3.1 * rate, rel=0.05)
        assert read_header(form).seconds == pytest.approx(2 * 3.1, rel=0.05)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("mode", MODES)
def test_a_cut_file_is_an_error_that_names_it(tmp_path: Path, mode: str, share: float) -> None:
    content = _content(16_000, mode=mode)
    file = tmp_path / "cut.mp3"
    file.write_bytes(content[: int(share * len(content))])
    for read in (read_header, lambda name: read_sound(name, 16_000)):
        with pytest.raises(
            ReadError, match=r"the sound '.*cut\.mp3' is cut short: [0-2]\.\d\d s at its end are missin"
        ):
            read(file)


def test_chance_bytes_are_no_frames() -> None:
    random = np.random.default_rng(1)
    for size in (0, 3, 4, 4_999):
        assert read_mp3(bytes(size)) is None
        found = read_mp3(random.bytes(size))
        assert found is None or found.frames <= 3
    assert read_mp3(b"ID3") is None
    assert read_mp3(sound_bytes(np.arange(997, dtype=np.int16), kind="FLAC")) is None


def test_an_honest_file_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.audio.reading.sound.with_honest_length", None)
    read_sound(_content(16_000), 16_000)


def test_the_tag_in_front_counts_the_frames() -> None:
    content = _content(22_050, 2)
    mp3 = _read(content)
    for frames in (mp3.frames, 7):
        told = _read(with_honest_length(content, mp3._replace(frames=frames)))
        assert (told.told, told.frames) == (frames, mp3.frames)


def test_a_file_of_random_bytes_is_named(tmp_path: Path) -> None:
    file: Any = tmp_path / "random.mp3"
    file.write_bytes(b"\xff\xfb" + os.urandom(997))
    with pytest.raises(ReadError, match=r"random\.mp3"):
        read_sound(file, 16_000)
