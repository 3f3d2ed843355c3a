"""Files to predict, without a data set."""

from pathlib import Path
from typing import Any

import pytest
import torch
from keeping import Keeping
from sounds import RATE, as_decoded, noise, tone, write_sound
from toy_rows import quiet_trainer

from tasks.audio.data import AudioDataModule
from tasks.audio.processor import AudioProcessor
from tasks.data.examples import ReadError

_PROCESSOR = AudioProcessor(RATE, class_names=["ant", "bee"])
_NAMES = ["a.WAV", "b.flac", "c.aiff", "d.au", "more/e.wav"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(_NAMES):
        write_sound(tmp_path / "recordings" / name, noise(211 + 101 * number, number), subtype="PCM_16")
    (tmp_path / "recordings" / "notes.txt").write_text("not audio")
    return tmp_path / "recordings"


def _predict(sounds: Any, **options: Any) -> list[dict[str, Any]]:
    given = {"batch_size": 2, "processor": _PROCESSOR, **options}
    data = AudioDataModule("nobody/nothing", sounds=sounds, **given)
    task = Keeping()
    quiet_trainer().predict(task, data)
    return task.batches


def _found(batches: list[dict[str, Any]]) -> dict[int, str]:
    """Files by row number; each batch is checked."""
    found: dict[int, str] = {}
    for batch in batches:
        assert set(batch) == {"wave", "length", "file", "index"}
        assert batch["wave"].shape == (len(batch["file"]), int(batch["length"].max()))
        for wave, length, file, row in zip(batch["wave"], batch["length"], batch["file"], batch["index"].tolist()):
            expected = as_decoded(noise(211 + 101 * _number(file), _number(file)))
            assert torch.equal(wave[:length], expected)
            assert not wave[length:].any()
            assert row not in found
            found[row] = file
    return dict(sorted(found.items()))


def _number(file: str) -> int:
    return "abcde".index(Path(file).stem)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_is_read_at_the_sample_rate_of_the_processor(folder: Path, workers: int) -> None:
    batches = _predict(str(folder), num_workers=workers)
    assert list(_found(batches).values()) == [str(folder / name) for name in _NAMES]
    assert sorted(len(batch["file"]) for batch in batches) == [1, 2, 2]
    capped = _predict(str(folder), group_by_length=False, num_workers=workers)
    assert capped[0]["index"].tolist() == [4, 3]  # seconds are limited, so the longest come first


@pytest.mark.parametrize("processor", [None, AudioProcessor(4_000), _PROCESSOR.replace(sample_rate=4_000)])
def test_the_sample_rate_is_of_the_processor_or_else_of_the_module(folder: Path, processor: Any) -> None:
    (batch,) = _predict(str(folder / "b.flac"), processor=processor, sample_rate=RATE if processor else 4_000)
    assert batch["length"].tolist() == [156]


def test_lists_and_patterns(folder: Path, tmp_path: Path) -> None:
    given = [str(folder / "more"), str(folder / "b.flac")]
    assert list(_found(_predict(given)).values()) == [str(folder / "more/e.wav"), str(folder / "b.flac")]
    assert list(_found(_predict(str(folder / "*.au"))).values()) == [str(folder / "d.au")]
    named = [str(folder / "a.WAV"), str(folder / "more/e.wav")]
    assert list(_found(_predict(str(tmp_path / "**/*.[wW][aA][vV]"))).values()) == named


def test_files_of_any_length(folder: Path) -> None:
    """Limits of batches and of training do not limit a file."""
    batches = _predict(str(folder), max_seconds=0.06, batch_size=5, longest=0.05)
    assert len(_found(batches)) == 5
    assert [len(batch["file"]) for batch in batches] == [1] * 5
    long = write_sound(folder / "long.wav", tone(440, 1_201.0))
    lengths = [batch["length"].tolist() for batch in _predict([long, *[str(folder / "b.flac")] * 3], batch_size=4)]
    assert sorted(map(len, lengths)) == [1, 3]
    assert [1_201 * RATE] in lengths


def test_files_that_do_not_exist(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"sounds must be a folder, .*, got '/no/such', which does not exist"):
        _predict("/no/such")
    with pytest.raises(FileNotFoundError, match=r"got '.*\*\.gsm', which does not exist"):
        _predict([str(folder / "b.flac"), str(folder / "*.gsm")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"sounds must hold audio files, ending in .wav, .flac.*, got none in '.*empty'"
    ):
        _predict(str(tmp_path / "empty"))


def test_prediction_without_files() -> None:
    with pytest.raises(ValueError, match=r"sounds must be given to predict, got None; set --data.sounds to"):
        _predict(None)


def test_broken_files(folder: Path) -> None:
    (folder / "c.aiff").write_bytes(b"broken")
    write_sound(folder / "d.au", noise(997) * 0)
    with pytest.raises(ReadError, match=f"sounds, row 2: the recording '{folder / 'c.aiff'}' cannot be read: .*Repair"):
        _predict(str(folder))
    batches = _predict(str(folder), on_bad_sound="skip")
    assert [Path(file).name for file in _found(batches).values()] == ["a.WAV", "b.flac", "e.wav"]
    assert list(_found(batches)) == [0, 1, 4]
    (folder / "c.aiff").unlink()
    with pytest.raises(ReadError, match=f"row 2: the recording '{folder / 'd.au'}' is silent"):
        _predict(str(folder))


def test_names_that_are_not_utf_8_are_escaped(folder: Path) -> None:
    (folder / "a.WAV").rename(folder / "\udce9a [1].WAV")
    (folder / "b.flac").rename(folder / "\udcfc.flac")
    (folder / "\udcfc.flac").write_bytes(b"broken")
    with pytest.raises(ReadError, match=r"the recording '.*xfc.flac' cannot be read: .*Repair"):
        _predict(str(folder))
    batches = _predict(str(folder), on_bad_sound="skip")
    files = sorted(Path(file).name for batch in batches for file in batch["file"])
    assert files == [r"\xe9a [1].WAV", "c.aiff", "d.au", "e.wav"]
    assert sorted(length for batch in batches for length in batch["length"].tolist()) == [211, 413, 514, 615]


def test_short_files(folder: Path) -> None:
    with pytest.raises(ReadError, match=r"row 0: the recording '.*a.WAV' must last at least 30.0 ms .*, got 26.4 ms"):
        _predict(str(folder), shortest=0.03)
    assert len(_found(_predict(str(folder), shortest=0.03, on_bad_sound="skip"))) == 4
