"""MPEG audio whose length libsndfile misreads: cut files, joined files, and files without a tag."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sounds import sound_bytes

from tasks.audio.reading.mp3 import Mp3, read_mp3, with_right_tag
from tasks.audio.reading.waveforms import read_header, read_waveform
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
    assert mp3.frames == mp3.tag_frames
    assert mp3.tag_is_read
    assert mp3.frame_rate == rate / _frame(rate)
    # The encoder puts frames around the recording.
    assert 0 <= mp3.frames / mp3.frame_rate - 3.1 <= 4 / mp3.frame_rate
    assert mp3.has_right_tag
    assert mp3.missing_seconds == 0
    assert read_header(content).seconds == pytest.approx(3.1, abs=1e-4)
    assert len(read_waveform(content, rate)) == round(3.1 * rate)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_file_without_a_tag_is_read_to_its_end(rate: int, mode: str) -> None:
    content = _content(rate, mode=mode)
    whole, mp3 = read_waveform(content, rate), _read(content)
    bare = content[mp3.start :]
    assert _read(bare).tag_frames is None
    assert _read(bare).frames == mp3.frames
    waveform = read_waveform(bare, rate)
    assert len(whole) <= len(waveform) <= mp3.frames * _frame(rate)
    assert read_header(bare).seconds == len(waveform) / rate
    # The encoder's delay is before it; the recording is the same.
    delay = int(torch.fft.irfft(torch.fft.rfft(waveform, 1 << 19) * torch.fft.rfft(whole, 1 << 19).conj()).argmax())
    assert (waveform[delay : delay + len(whole)] - whole).abs().max() < 0.02
    assert waveform[-rate // 10 :].std() > 0.03


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_joined_files_are_read_to_their_end(rate: int, tmp_path: Path) -> None:
    content = _content(rate)
    file = tmp_path / "joined.mp3"
    # As programs write them: names in front, and again in the middle.
    names = b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\xff\xfb\x90\x00" + bytes(124)
    file.write_bytes(names + content + names + content + b"TAG" + bytes(125))
    assert _read(file.read_bytes()).frames in (2 * _read(content).frames, 2 * _read(content).frames + 1)
    for form in (file, file.read_bytes()):
        assert len(read_waveform(form, rate)) == pytest.approx(2 * 3.1 * rate, rel=0.05)
        assert read_header(form).seconds == pytest.approx(2 * 3.1, rel=0.05)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("mode", MODES)
def test_a_cut_file_is_an_error_that_names_it(tmp_path: Path, mode: str, share: float) -> None:
    content = _content(16_000, mode=mode)
    file = tmp_path / "cut.mp3"
    file.write_bytes(content[: int(share * len(content))])
    for read in (read_header, lambda name: read_waveform(name, 16_000)):
        with pytest.raises(
            ReadError, match=r"the recording '.*cut\.mp3' is cut short: [0-2]\.\d\d s at its end are missin"
        ):
            read(file)


def _with_checksums(content: bytes, *, counted: bool) -> bytes:
    """A file whose first frame says that two bytes of checksum follow the header, which its tag counts or not."""
    length = _read(content).start
    first = content[:4] + b"\x12\x34" + content[4 : length - 2] if counted else content[:length]
    return bytes([first[0], first[1] & 0xFE]) + first[2:] + content[length:]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_tag_may_count_the_bytes_of_the_checksum(rate: int, counted: bool, channels: int, mode: str) -> None:
    content = _with_checksums(_content(rate, channels, mode), counted=counted)
    mp3 = _read(content)
    assert (mp3.tag_frames, mp3.has_right_tag) == (mp3.frames, not counted)
    assert read_header(content).seconds == pytest.approx(3.1, abs=3 / mp3.frame_rate)
    waveform = read_waveform(content, rate)
    assert len(waveform) == pytest.approx(3.1 * rate, abs=3 * _frame(rate))
    assert waveform[-rate // 10 :].std() > 0.03
    with pytest.raises(ReadError, match=r"is cut short: [12]\.\d\d s at its end are missing"):
        read_waveform(content[: int(0.4 * len(content))], rate)


def _in_wav(mpeg: bytes, rate: int, code: int, channels: int = 1) -> bytes:
    """A WAV file of MPEG audio."""
    about = struct.pack("<HHIIHHHHIHHH", code, channels, rate, 8_000, 1, 0, 12, 1, 2, 417, 1, 1_393)
    chunks = b"fmt " + struct.pack("<I", len(about)) + about + b"data" + struct.pack("<I", len(mpeg)) + mpeg
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_mp3_in_wav_is_read_to_its_end(tmp_path: Path, rate: int, tagged: bool, mode: str) -> None:
    mpeg = _content(rate, mode=mode)
    mpeg = mpeg if tagged else mpeg[_read(mpeg).start :]
    content = _in_wav(mpeg, rate, 0x55)
    file = tmp_path / "a.wav"
    file.write_bytes(content)
    for form in (content, file):
        waveform = read_waveform(form, rate)
        assert torch.equal(waveform, read_waveform(mpeg, rate))
        assert len(waveform) == pytest.approx(3.1 * rate, abs=4 * _frame(rate))
        assert read_header(form) == read_header(mpeg)
    with pytest.raises(ReadError, match=r"is cut short: [\d,]+ bytes at its end are missing"):
        read_header(content[: len(content) // 2])


def _layer_2(frames: int) -> bytes:
    """Noise in two of the bands: frames of 64 kbit/s at 44.1 kHz."""
    random = np.random.default_rng(0)
    start = bytes([0xFF, 0xFD, 0x40, 0xC4, 0x33, *bytes(10), 0xA5, 0x14])
    return b"".join(start + random.bytes(191) for _ in range(frames))


@pytest.mark.parametrize("rest", [b"", _layer_2(1)[:200], bytes(500)])
@pytest.mark.parametrize("in_wav", [False, True])
def test_layer_2_is_read_to_its_end_whatever_its_estimated_length(tmp_path: Path, in_wav: bool, rest: bytes) -> None:
    content = _layer_2(50) + rest
    content = _in_wav(content, 44_100, 0x50) if in_wav else content
    file = tmp_path / "a.mp2"
    file.write_bytes(content)
    for form in (content, file):
        waveform = read_waveform(form, 44_100)
        assert len(waveform) == 50 * 1152
        assert waveform[-1_000:].std() > 0.01
        assert read_header(form).seconds == pytest.approx(50 * 1152 / 44_100, abs=3 * 1152 / 44_100)


def test_random_bytes_are_no_frames() -> None:
    random = np.random.default_rng(1)
    for size in (0, 3, 4, 4_999):
        assert read_mp3(bytes(size)) is None
        found = read_mp3(random.bytes(size))
        assert found is None or found.frames <= 3
    assert read_mp3(b"ID3") is None
    assert read_mp3(sound_bytes(np.arange(997, dtype=np.int16), kind="FLAC")) is None


def test_a_file_with_the_right_tag_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.audio.reading.containers.with_right_tag", None)
    read_waveform(_content(16_000), 16_000)


def test_the_tag_in_front_counts_the_frames() -> None:
    content = _content(22_050, 2)
    mp3 = _read(content)
    for frames in (mp3.frames, 7):
        tagged = _read(with_right_tag(content, mp3._replace(frames=frames)))
        assert (tagged.tag_frames, tagged.frames) == (frames, mp3.frames)


def test_a_file_of_random_bytes_is_named(tmp_path: Path) -> None:
    file: Any = tmp_path / "random.mp3"
    file.write_bytes(b"\xff\xfb" + os.urandom(997))
    with pytest.raises(ReadError, match=r"random\.mp3"):
        read_waveform(file, 16_000)
