"""Recordings of every format as waveforms of one sample rate, and broken recordings."""

import base64
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import soundfile
import torch
from sounds import RATE, as_decoded, noise, sound_bytes, tone, write_sound

from tasks.audio.reading.containers import missing_bytes
from tasks.audio.reading.resampling import resample
from tasks.audio.reading.waveforms import AUDIO_SUFFIXES, Header, read_header, read_waveform
from tasks.data.examples import ReadError
from tasks.data.files import escaped

_WAVE = noise(4_999)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "AU", "W64", "CAF"])
def test_every_form_of_a_recording_is_read_alike(tmp_path: Path, kind: str) -> None:
    content = sound_bytes(_WAVE, kind=kind, subtype="PCM_16")
    file = tmp_path / f"a.{kind.lower()}"
    file.write_bytes(content)
    forms: list[Any] = [
        content,
        {"bytes": content, "path": "elsewhere.wav"},
        {"bytes": content},
        {"bytes": None, "path": str(file)},
        {"bytes": None, "path": file.name},
        {"path": file.name},
        file.name,
        str(file),
        file,
    ]
    for form in forms:
        wave = read_waveform(form, RATE, tmp_path)
        assert torch.equal(wave, as_decoded(_WAVE))
        assert read_header(form, tmp_path) == Header(4_999 / RATE, RATE)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_lossy_formats(tmp_path: Path, kind: str) -> None:
    file = write_sound(tmp_path / f"a.{kind.lower()}", tone(440, 1.1, 16_000), 16_000)
    for form in (file, Path(file).read_bytes()):
        wave = read_waveform(form, 16_000)
        assert abs(len(wave) - 17_600) <= (0 if kind == "OGG" else 2_304)
        spectrum = torch.fft.rfft(wave[1_000:17_000]).abs()
        assert int(spectrum.argmax()) == 440  # bands of one Hz
        assert wave.abs().max() == pytest.approx(0.5, abs=0.1)
        assert read_header(form).rate == 16_000
        assert read_header(form).seconds == pytest.approx(1.1, abs=0.15)


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_become_their_mean(channels: int) -> None:
    wave = noise(997, channels=channels)
    read = read_waveform(sound_bytes(wave, kind="WAV"), RATE)
    torch.testing.assert_close(read, as_decoded(wave), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_recordings_are_decoded_in_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = sound_bytes(noise(4_999, channels=2), kind=kind)
    whole = read_waveform(content, RATE)
    monkeypatch.setattr("tasks.audio.reading.waveforms._BLOCK", 331)
    assert torch.equal(read_waveform(content, RATE), whole)


@pytest.mark.parametrize(("rate", "wanted"), [(44_100, 16_000), (8_000, 16_000), (48_000, 8_000), (11_025, 16_000)])
def test_recordings_are_resampled(rate: int, wanted: int) -> None:
    content = sound_bytes(tone(440, 0.7, rate), rate, "WAV", subtype="FLOAT")
    wave = read_waveform(content, wanted)
    assert len(wave) == -(-round(0.7 * rate) * wanted // rate)
    middle = slice(wanted // 20, -wanted // 20)
    expected = torch.from_numpy(tone(440, 0.7, wanted))
    torch.testing.assert_close(wave[: len(expected)][middle], expected[: len(wave)][middle], rtol=0, atol=0.01)


def test_frequencies_above_the_new_rate_are_removed() -> None:
    wave = read_waveform(sound_bytes(tone(7_000, 0.7, 16_000), 16_000, "WAV", subtype="FLOAT"), 8_000)
    assert wave[400:-400].abs().max() < 0.01


@pytest.mark.parametrize(("rate", "wanted"), [(44_101, 16_000), (7_919, 16_000), (16_001, 16_000)])
def test_rates_without_a_common_factor(rate: int, wanted: int) -> None:
    wave = torch.from_numpy(tone(440, 1.0, rate))
    found = resample(wave, rate, wanted)
    assert len(found) == pytest.approx(wanted, rel=2e-3)
    assert int(torch.fft.rfft(found[: wanted - 50]).abs().argmax()) in (438, 439, 440)


@pytest.mark.parametrize("samples", [4_001, 20_011])
@pytest.mark.parametrize(
    ("rate", "wanted"), [(44_100, 16_000), (8_000, 16_000), (48_000, 8_000), (11_025, 16_000), (16_000, 44_100)]
)
def test_long_recordings_are_resampled_in_chunks(
    rate: int, wanted: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = torch.from_numpy(noise(samples).astype(np.float32) / 2**15)
    whole = resample(wave, rate, wanted)
    assert len(whole) == -(-samples * wanted // rate)
    monkeypatch.setattr("tasks.audio.reading.resampling._CHUNK", 3_000)
    torch.testing.assert_close(resample(wave, rate, wanted), whole, rtol=0, atol=1e-6)


def test_samples_beyond_full_scale_are_clipped() -> None:
    wave = np.array([0.5, 3.0, -9.0, -0.25, 0.0], dtype=np.float32)
    read = read_waveform(sound_bytes(wave, kind="WAV", subtype="FLOAT"), RATE)
    assert read.tolist() == [0.5, 1.0, -1.0, -0.25, 0.0]


def test_headers_are_read_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.audio.reading.waveforms._read_mono", None)
    for kind in ("WAV", "FLAC", "OGG", "MP3"):
        assert read_header(sound_bytes(_WAVE, kind=kind)).rate == RATE


def test_a_flac_file_without_a_length_in_its_header() -> None:
    content = bytearray(sound_bytes(_WAVE))
    # The 36 bits before the checksum at byte 26 are the number of samples; programs that write into pipes leave it 0.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    assert read_header(bytes(content)) == Header(4_999 / RATE, RATE)
    assert torch.equal(read_waveform(bytes(content), RATE), as_decoded(_WAVE))


def _unfinished(kind: str, **options: Any) -> bytes:
    """A file with a length of zero in its header, as programs write it into a pipe."""
    waveform = as_decoded(_WAVE).numpy() if options.get("subtype") == "FLOAT" else _WAVE
    content = bytearray(sound_bytes(waveform, kind=kind, **options))
    start = 8 if kind == "AU" else content.find(b"data") + 4
    content[start : start + 4] = bytes(4)
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("WAV", {}), ("WAVEX", {}), ("WAV", {"endian": "BIG"}), ("WAV", {"subtype": "FLOAT"}), ("AU", {})],
)
def test_a_file_with_a_length_of_zero_in_its_header_is_read_to_its_end(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    content = _unfinished(kind, **options)
    (tmp_path / "a.wav").write_bytes(content)
    for form in (content, tmp_path / "a.wav"):
        assert read_header(form) == Header(4_999 / RATE, RATE)
        torch.testing.assert_close(read_waveform(form, RATE), as_decoded(_WAVE), rtol=0, atol=1e-4)


def test_chunks_after_no_samples_are_no_samples() -> None:
    content = sound_bytes(_WAVE[:0], kind="WAV")
    for rest in (b"", b"LIST" + struct.pack("<I", 997) + bytes(998)):
        with pytest.raises(ReadError, match="the recording has no samples by its header"):
            read_header(content + rest)


_ID3 = b"ID3\x04\0\0\0\0\1\0" + bytes(128)


@pytest.mark.parametrize("content", [_ID3, _ID3 + b"TAG" + bytes(125), b"TAG" + bytes(125), _ID3[:60], b"\xff\xfb\x90"])
@pytest.mark.parametrize("name", ["a.mp3", "a.wav"])
def test_files_without_audio_name_the_formats(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    for form in (content, {"bytes": content, "path": name}, tmp_path / name):
        with pytest.raises(
            ReadError, match=r"cannot be read: it holds no audio in a format that .* or only tags; save"
        ):
            read_header(form)


def test_the_remedy_for_a_class_of_silence_helps() -> None:
    silence = np.zeros(997, dtype=np.int16)
    with pytest.raises(ReadError, match=r"is silent: .* If silence is a class, add faint noise to its recordings"):
        read_waveform(sound_bytes(silence), RATE)
    assert len(read_waveform(sound_bytes(silence + np.arange(997, dtype=np.int16) % 2), RATE)) == 997


@pytest.mark.parametrize("name", ["run [1]/a*.wav", "caf\udce9 [2]/\udcff.wav", "back\\slash.wav", "~.wav"])
def test_names_are_taken_literally(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(sound_bytes(_WAVE, kind="WAV"))
    for form in (str(file), file, escaped(str(file)), {"path": escaped(str(file)), "bytes": None}):
        assert torch.equal(read_waveform(form, RATE), as_decoded(_WAVE))
    assert torch.equal(read_waveform(escaped(name) if name != "~.wav" else name, RATE, tmp_path), as_decoded(_WAVE))


_FORMATS = {
    **{".wave": "WAV", ".bwf": "WAV", ".oga": "OGG", ".opus": "OGG", ".aif": "AIFF", ".aifc": "AIFF", ".snd": "AU"},
    **{".sph": "NIST", ".iff": "SVX", ".8svx": "SVX", ".sf": "IRCAM", ".mp1": "MP3", ".mp2": "MP3", ".mpga": "MP3"},
}


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_files_of_every_ending_are_read(tmp_path: Path, suffix: str) -> None:
    kind = _FORMATS.get(suffix, suffix[1:].upper())
    file = tmp_path / f"a{suffix}"
    rate = 44_100 if kind in ("XI", "MP3") else RATE
    subtype = {"XI": "DPCM_16", "WVE": "ALAW", "OGG": "OPUS" if suffix == ".opus" else "VORBIS"}.get(kind)
    file.write_bytes(sound_bytes(_WAVE, rate, kind, subtype=subtype or soundfile.default_subtype(kind)))
    assert len(read_waveform(file, rate)) == pytest.approx(4_999, abs=2_000)


def test_files_elsewhere() -> None:
    name = "memory://recordings/a.flac"
    with fsspec.open(name, "wb") as file:
        file.write(sound_bytes(_WAVE))
    assert torch.equal(read_waveform(name, RATE), as_decoded(_WAVE))
    with pytest.raises(ReadError, match=r"the recording 'memory://recordings/b.flac' cannot be read: "):
        read_header("memory://recordings/b.flac")
    with pytest.raises(
        ReadError, match=r"the recording 'nowhere://b.flac' cannot be read: Protocol not known: nowhere"
    ):
        read_header("nowhere://b.flac")


def _written(folder: Path, name: str) -> Path:
    """A file with the fault that its name states."""
    file = folder / name
    broken: dict[str, Any] = {
        "note.wav": b"not audio",
        "empty.wav": b"",
        "raw.raw": bytes(_WAVE),
        "cut.wav": sound_bytes(_WAVE, kind="WAV")[:6_000],
        "cut.aiff": sound_bytes(_WAVE, kind="AIFF")[:6_000],
        "cut.flac": sound_bytes(noise(40_009))[:30_000],
        "cut.ogg": sound_bytes(noise(40_009), kind="OGG")[:-1_500],
        "nothing.wav": sound_bytes(_WAVE[:0], kind="WAV"),
        "silence.wav": sound_bytes(np.zeros(997, dtype=np.int16), kind="WAV"),
        "constant.flac": sound_bytes(np.full((997, 2), 301, dtype=np.int16)),
        "opposite.flac": sound_bytes(np.stack([_WAVE, -_WAVE], 1)),
        "slow.wav": sound_bytes(_WAVE, 999, "WAV"),
        "fast.wav": sound_bytes(_WAVE, 768_001, "WAV"),
        "short.wav": sound_bytes(_WAVE[:101], kind="WAV"),
    }
    if name in broken:
        file.write_bytes(broken[name])
    elif name != "missing.wav":
        samples = as_decoded(_WAVE).numpy().copy()
        samples[88] = {"nan.wav": np.nan, "inf.wav": -np.inf, "loud.wav": 30_000.0}[name]
        write_sound(file, samples, subtype="FLOAT")
    return file


# Faults of headers, and faults that only show when the samples are read.
_BROKEN_HEADERS = {
    "missing.wav": "cannot be read: No such file or directory",
    "note.wav": "cannot be read: ",
    "empty.wav": "is an empty file",
    "raw.raw": "has no header with its sample rate; save it as WAV or FLAC",
    "cut.wav": r"is cut short: 4,\d\d\d bytes at its end are missing",
    "cut.aiff": r"is cut short: 4,\d\d\d bytes at its end are missing",
    "cut.ogg": r"is cut short: [\d,]+ bytes at its end are missing",
    "nothing.wav": "has no samples by its header",
    "slow.wav": "must have a sample rate of 1,000 to 768,000 Hz, got 999 Hz",
    "fast.wav": "must have a sample rate of 1,000 to 768,000 Hz, got 768,001 Hz",
    "short.wav": r"must last at least 25.0 ms \(shortest, or a window of the features\), got 12.6 ms",
}
_BROKEN_SAMPLES = {
    "cut.flac": r"is cut short(: by its header it lasts 5.00 s, but it ends after [0-4]\.\d\d s| or damaged: flac)",
    "silence.wav": "is silent: all of its samples are equal",
    "constant.flac": "is silent",
    "opposite.flac": "is silent",
    "nan.wav": r"must have finite samples, got NaN or infinity, first at 0.011 s",
    "inf.wav": "must have finite samples",
    "loud.wav": r"must have floating-point samples in \[-1, 1\], got 30,000 times full scale",
}


@pytest.mark.parametrize("name", [*_BROKEN_HEADERS, *_BROKEN_SAMPLES])
def test_broken_recordings_are_errors_that_name_the_file(tmp_path: Path, name: str) -> None:
    file = _written(tmp_path, name)
    message = f"the recording '{file}' {({**_BROKEN_HEADERS, **_BROKEN_SAMPLES})[name]}"
    with pytest.raises(ReadError, match=message):
        read_waveform(name, RATE, tmp_path, shortest=0.025)
    if name in _BROKEN_HEADERS:
        with pytest.raises(ReadError, match=message):
            read_header(name, tmp_path, shortest=0.025)
    else:
        assert read_header(name, tmp_path).rate == RATE


def test_a_short_recording_is_read_without_a_minimum_length(tmp_path: Path) -> None:
    assert len(read_waveform(_written(tmp_path, "short.wav"), RATE)) == 101


@pytest.mark.parametrize("form", [str, lambda text: {"path": text}])
def test_base64_text_in_place_of_a_name_is_not_printed_whole(form: Any) -> None:
    text = base64.b64encode(sound_bytes(_WAVE)).decode()
    for read in (lambda: read_waveform(form(text), RATE), lambda: read_header(form(text))):
        message = (
            rf"the recording '.*\.\.\.' \(expected a file name or the bytes of a file, got {len(text):,} characters\)"
        )
        with pytest.raises(ReadError, match=message) as caught:
            read()
        assert len(str(caught.value)) < 300


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=f"the recording '{tmp_path}' cannot be read: Is a directory"):
        read_waveform(str(tmp_path), RATE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the row has no recording"),
        ({"bytes": None, "path": None}, "the row has no recording"),
        (3.5, "a recording must be a file name or the bytes of a file, got float"),
        (b"", "the recording is an empty file"),
        (b"rubbish", "the recording cannot be read: "),
        ({"bytes": b"rubbish", "path": "x.wav"}, "the recording 'x.wav' cannot be read: "),
    ],
)
def test_values_that_are_no_recordings(value: Any, message: str) -> None:
    for read in (lambda: read_waveform(value, RATE), lambda: read_header(value)):
        with pytest.raises(ReadError, match=message):
            read()


def _riff(*chunks: tuple[bytes, int, bytes], kind: bytes = b"RIFF") -> bytes:
    """A file of chunks of a name, a stated length, and content."""
    order = "<" if kind == b"RIFF" else ">"
    parts = [name + struct.pack(f"{order}I", length) + content for name, length, content in chunks]
    return kind + struct.pack(f"{order}I", 0) + b"WAVE" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (_riff((b"fmt ", 16, bytes(16)), (b"data", 997, bytes(997))), 0),
        (_riff((b"fmt ", 16, bytes(16)), (b"data", 997, bytes(211))), 786),
        (_riff((b"LIST", 7, bytes(8)), (b"data", 997, bytes(211))), 786),  # chunks have an even length
        (_riff((b"data", 997, bytes(211)), kind=b"RIFX"), 786),
        (_riff((b"data", 997, bytes(950))), 0),  # a header was counted as samples
        (_riff((b"data", 0xFFFFFFFF, bytes(211))), 0),  # written into a pipe
        (_riff((b"data", 0x7FFFF000, bytes(211))), 0),
        (_riff((b"fmt ", 16, bytes(16)), (b"LIST", 997, bytes(211))), 0),
        (b"RIFF", 0),
        (b"", 0),
        (b"OggS\0" + bytes(21) + b"\2\7\5" + bytes(12), 0),
        (b"OggS\0" + bytes(21) + b"\2\7\5" + bytes(9), 3),
        (b"OggS\0" + bytes(21) + b"\2\7\5" + bytes(12) + b"OggS\0" + bytes(21) + b"\2\7", 8),
        (b"OggS\0" + bytes(21) + b"\0" + b"OggS\0" + bytes(9), 13),
        (b"ID3" + bytes(300), 0),
    ],
)
def test_bytes_that_were_cut_off(content: bytes, missing: int) -> None:
    assert missing_bytes(BytesIO(content)) == missing


@pytest.mark.parametrize("name", ["fsdd", "vctk_p239"])
def test_headers_of_real_sounds_tell_their_lengths(shared: Path, name: str) -> None:
    import pyarrow.parquet

    file = shared / "data" / name / "test.parquet"
    if not file.is_file():
        pytest.skip(f"no file {file}")
    for recording in pyarrow.parquet.read_table(file, columns=["audio"])["audio"].to_pylist():
        header = read_header(recording)
        assert len(read_waveform(recording, header.rate)) == round(header.seconds * header.rate)
