"""Connected digits: the recordings in strings and in splits, identified by their samples, and errors."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from spoken_digits import RATE, SPEAKERS, clip, code, decoded, encoded, single_digits, write_digits

from tasks.audio.built_in import connected_digits as module
from tasks.audio.built_in.connected_digits import WORDS, connected_digits, recordings_of, strings
from tasks.data.sources import Source

pytestmark = pytest.mark.usefixtures("own_cache")

SIZES = {"num_train": 67, "num_val": 41, "num_test": 43}
CODES = {
    code(speaker, digit, take): (SPEAKERS[speaker], digit, take)
    for speaker in range(len(SPEAKERS))
    for digit in range(10)
    for take in range(7)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Takes 2 to 6 train, of which the last only validates; takes 0 and 1 test."""
    return write_digits(tmp_path_factory.mktemp("digits"))


def parts_of(wave: np.ndarray) -> tuple[list[tuple[str, int, int]], list[int]]:
    """Speaker, digit, and take of each recording in a string, and the lengths of pauses in samples."""
    loud = np.concatenate(([False], np.abs(wave) > 1_500, [False]))
    edges = np.flatnonzero(loud[1:] != loud[:-1])
    starts, ends = edges[::2], edges[1::2]
    assert set(ends - starts) == {211}
    pauses = np.concatenate((starts, [len(wave)])) - np.concatenate(([0], ends))
    return [CODES[int(wave[start])] for start in starts], pauses.tolist()


def test_the_codes_of_recordings_differ() -> None:
    assert len(CODES) == 2 * 10 * 7
    assert min(CODES) > 2_000
    assert max(CODES) < 1 << 15


@pytest.mark.parametrize(("split", "takes"), [("train", {2, 3, 4, 5}), ("validation", {6}), ("test", {0, 1})])
def test_strings_are_joined_from_recordings_of_one_speaker(folder: str, split: str, takes: set[int]) -> None:
    rows = connected_digits(folder, **SIZES)[split]
    lengths, speakers, found, pauses = [], set(), set(), []
    for row in rows:
        wave, rate = decoded(row["audio"]["bytes"])
        assert rate == RATE
        recordings, quiet = parts_of(wave)
        assert row["text"] == " ".join(WORDS[digit] for _, digit, _ in recordings)
        assert {speaker for speaker, _, _ in recordings} == {row["speaker"]}
        lengths.append(len(recordings))
        speakers.add(row["speaker"])
        found |= {take for _, _, take in recordings}
        pauses += quiet
    assert set(lengths) == set(range(3, 8))
    assert speakers == set(SPEAKERS)
    assert found == takes
    assert 0.1 * RATE <= min(pauses) < 0.12 * RATE
    assert 0.48 * RATE < max(pauses) <= 0.5 * RATE
    assert [row["audio"]["path"] for row in rows][:2] == [f"{split}_0.flac", f"{split}_1.flac"]


def test_digits_lengths_and_takes_are_uniform(folder: str) -> None:
    recordings, rate = recordings_of(_splits(folder), "train")
    drawn = [parts_of(wave)[0] for wave, _, _ in strings(recordings, rate, 997, seed=[3, 1])]
    digits = np.bincount([digit for string in drawn for _, digit, _ in string], minlength=10)
    assert digits.max() < 1.3 * digits.min()
    lengths = np.bincount([len(string) for string in drawn])[3:]
    assert lengths.max() < 1.5 * lengths.min()
    takes = np.bincount([take for string in drawn for _, _, take in string])[2:]
    assert takes.max() < 1.2 * takes.min()


def test_pauses_are_faint_noise(folder: str) -> None:
    recordings, rate = recordings_of(_splits(folder), "test")
    quiet = np.concatenate([wave[np.abs(wave) < 1_500] for wave, _, _ in strings(recordings, rate, 19, seed=[0, 0])])
    assert quiet.std() == pytest.approx(32.8, rel=0.03)
    assert abs(quiet.mean()) < 1


def _splits(folder: str) -> Any:
    return {name: datasets.load_dataset("parquet", data_dir=folder)[name] for name in ("train", "test")}


def test_rows_follow_from_recordings_and_arguments_alone(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = connected_digits(folder, **SIZES)
    more = connected_digits(folder, num_train=71, num_val=41, num_test=47)
    for split, rows in first.items():
        assert more[split][: len(rows)] == rows[:]
    other = connected_digits(folder, **SIZES, seed=1)
    assert all(other[split]["text"][:] != rows["text"][:] for split, rows in first.items())

    def fail(*args: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(module, "strings", fail)
    again = connected_digits(folder, **SIZES)
    assert {name: rows._fingerprint for name, rows in again.items()} == {
        name: rows._fingerprint for name, rows in first.items()
    }
    with pytest.raises(Exception, match="An error occurred while generating"):
        connected_digits(folder, **SIZES, seed=2)


def test_other_recordings_are_other_strings(folder: str, tmp_path: Path) -> None:
    rows = {"train": single_digits(range(3, 7)), "test": single_digits([0, 1])}
    other = connected_digits(write_digits(tmp_path / "other", **rows), **SIZES)
    first = connected_digits(folder, **SIZES)
    assert other["train"]["audio"][:] != first["train"]["audio"][:]


def test_splits_and_columns(folder: str) -> None:
    made = connected_digits(folder, **SIZES)
    assert {name: len(rows) for name, rows in made.items()} == {"train": 67, "validation": 41, "test": 43}
    assert list(made) == ["train", "validation", "test"]
    assert made["train"].column_names == ["audio", "text", "speaker"]
    assert not isinstance(made["train"].features["audio"], datasets.Audio)


def test_it_is_a_built_in_data_set_that_takes_files(folder: str) -> None:
    files = {name: f"{folder}/{name}.parquet" for name in ("train", "test")}
    small = {"connected_digits": _small}
    by_folder = Source("connected_digits", None, folder, None, False, small).load()
    by_files = Source("connected_digits", None, None, files, False, small).load()
    assert by_files["test"]["text"][:] == by_folder["test"]["text"][:]
    with pytest.raises(ValueError, match="path='connected_digits' is built in and takes no name, streaming"):
        Source("connected_digits", "all", folder, None, True, small).load()


def _small(data_dir: str | None = None, data_files: Any = None) -> datasets.DatasetDict:
    return connected_digits(data_dir, data_files, **SIZES)


def _without(rows: list[dict[str, Any]], *columns: str, rename: str | None = None) -> list[dict[str, Any]]:
    rest = [{name: value for name, value in row.items() if name not in columns} for row in rows]
    if rename is None:
        return rest
    return [{**row, "audio": {**row["audio"], "path": rename}} for row in rest]


def test_names_of_files_replace_columns(folder: str, tmp_path: Path) -> None:
    columns = ("label", "speaker", "take")
    rows = {"train": _without(single_digits(range(2, 7)), *columns), "test": _without(single_digits([0, 1]), *columns)}
    named = connected_digits(write_digits(tmp_path, **rows), **SIZES)
    assert named["test"]["audio"][:] == connected_digits(folder, **SIZES)["test"]["audio"][:]


def test_columns_of_file_names_or_of_bytes(folder: str, tmp_path: Path) -> None:
    expected = connected_digits(folder, **SIZES)["test"]["audio"][:]
    for kind in ("bytes", "path"):
        splits = {"train": single_digits(range(2, 7)), "test": single_digits([0, 1])}
        for row in (row for rows in splits.values() for row in rows):
            file = tmp_path / row["audio"]["path"]
            file.write_bytes(row["audio"]["bytes"])
            row["audio"] = row["audio"]["bytes"] if kind == "bytes" else str(file)
        assert connected_digits(write_digits(tmp_path / kind, **splits), **SIZES)["test"]["audio"][:] == expected
    numbers = {name: [{**row, "audio": 3} for row in rows] for name, rows in splits.items()}
    with pytest.raises(
        ValueError, match=r"split 'test', row 0: column 'audio' must hold audio files or their names, got int"
    ):
        connected_digits(write_digits(tmp_path / "numbers", **numbers), **SIZES)


def test_channels_are_mixed_and_floating_point_files_are_scaled(tmp_path: Path) -> None:
    rows = {"train": single_digits(range(2, 7)), "test": single_digits([0])}
    for row in rows["test"]:
        wave, _ = decoded(row["audio"]["bytes"])
        stereo = np.stack([wave + 100, wave - 100], axis=1) / (1 << 15)
        content = encoded(stereo.astype(np.float32), kind="WAV", subtype="FLOAT")
        row["audio"] = {"bytes": content, "path": row["audio"]["path"]}
    splits = {name: datasets.Dataset.from_list(members) for name, members in rows.items()}
    recordings, _ = recordings_of(splits, "test")
    for number, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            (found,) = recordings[speaker][digit]
            assert np.abs(found - clip(number, digit, 0)).max() <= 1


BAD: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no such split": (
        lambda: {"train": single_digits([2, 3])},
        "single digits must have the splits train and test, got train",
    ),
    "no recordings": (
        lambda: {name: _without(single_digits([2, 3]), "audio") for name in ("train", "test")},
        "split 'train' must have a column 'audio', got the columns label, text, speaker, take",
    ),
    "no take": (
        lambda: {
            "train": _without(single_digits([2, 3]), "take"),
            "test": _without(single_digits([0]), "take", rename="ann.flac"),
        },
        r"split 'test', row 0 must have the columns label, speaker, and take, or a file name such as 7_jackson_32\.wav"
        r", got no take and the file name 'ann\.flac'",
    ),
    "no digit": (
        lambda: {"train": single_digits([2, 3]), "test": [{**row, "label": 11} for row in single_digits([0])]},
        "split 'test', row 0: label must be a digit from 0 to 9 and take an integer of at least 0, got '11' and '0'",
    ),
    "one take": (
        lambda: {"train": single_digits([2]), "test": single_digits([0])},
        r"split 'train' must have at least two takes, because the last ones are for validation, got \[2\]",
    ),
    "a digit is missing": (
        lambda: {
            "train": single_digits([2, 3]),
            "test": [row for row in single_digits([0]) if row["label"] not in (3, 8)],
        },
        "split 'test' must have all digits of speaker 'ann' for the strings to test, but lacks three, eight",
    ),
    "broken": (
        lambda: {
            "train": single_digits([2, 3]),
            "test": [{**row, "audio": {"bytes": b"broken", "path": "0_ann_0.flac"}} for row in single_digits([0])],
        },
        "the recording '0_ann_0.flac' cannot be read",
    ),
    "two rates": (
        lambda: {
            "train": single_digits([2, 3]),
            "test": [
                {**row, "audio": {"bytes": encoded(clip(0, 1, 0), 11_025), "path": row["audio"]["path"]}}
                if row["label"] == 7
                else row
                for row in single_digits([0])
            ],
        },
        r"split 'test' must have one sample rate, got \[8000, 11025\] Hz; resample the recordings",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_recordings_that_cannot_be_joined(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        connected_digits(write_digits(tmp_path, **make()), **SIZES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 0}, "num_train must be an integer of at least 1, got 0"),
        ({"num_val": 0}, "num_val must be an integer of at least 1, got 0"),
        ({"num_test": -1}, "num_test must be an integer of at least 1, got -1"),
        ({"seed": -1}, r"seed must be an integer from 0 to 2\^32 - 1, got -1"),
    ],
)
def test_errors_name_the_argument(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        connected_digits("nowhere", **options)


def test_without_files_and_without_the_hub(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape("Give its parquet files by --data.data_dir FOLDER")):
        connected_digits()
    with pytest.raises(FileNotFoundError, match="data_dir does not exist"):
        connected_digits(str(tmp_path / "nowhere"))
