"""Folders of sounds: classes, splits and tables."""

import re
import shlex
from pathlib import Path
from typing import Any

import datasets
import pytest
from sounds import noise, sound_bytes

from tasks.audio.data import AudioDataModule
from tasks.audio.reading.folders import AudioSource
from tasks.audio.reading.headers import read_headers
from tasks.audio.reading.waveforms import AUDIO_SUFFIXES, read_waveform
from tasks.data.files import list_files

pytestmark = pytest.mark.usefixtures("own_cache")

_SHORT = noise(211)


def _write(folder: Path, *names: str) -> None:
    for name in names:
        if Path(name).suffix in (".wav", ".flac", ".ogg"):
            content = sound_bytes(_SHORT, kind=Path(name).suffix[1:].upper())
        else:
            content = b"x"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _source(path: str | Path, **arguments: Any) -> AudioSource:
    given = {"name": None, "data_dir": None, "data_files": None, "streaming": False, "built_in": {}, **arguments}
    return AudioSource(str(path), **given)


def read_folder(folder: Path) -> datasets.DatasetDict:
    return _source("audiofolder", data_dir=str(folder)).load()


def _rows(rows: datasets.Dataset, folder: Path) -> list[tuple[str, str]]:
    names = rows.features["label"].names
    return [(Path(row["audio"]).relative_to(folder).as_posix(), names[row["label"]]) for row in rows]


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    _write(
        tmp_path, "owl/b.wav", "owl/a.FLAC", "cat/more/c.ogg", "cat/._c.wav", ".trash/d.wav", "cat/notes.txt", "R.md"
    )
    (tmp_path / "owl/a.FLAC").write_bytes(b"read later")
    splits = read_folder(tmp_path)
    assert list(splits) == ["train"]
    assert splits["train"].features == datasets.Features(
        {"audio": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "owl"])}
    )
    assert _rows(splits["train"], tmp_path) == [
        ("cat/more/c.ogg", "cat"),
        ("owl/a.FLAC", "owl"),
        ("owl/b.wav", "owl"),
    ]


def test_splits_of_folders_for_each_class(tmp_path: Path) -> None:
    _write(tmp_path, "train/b/0.wav", "train/a/1.wav", "test/c/2.wav", "dev/a/3.wav", "holdout/b/4.wav")
    splits = read_folder(tmp_path)
    assert set(splits) == {"train", "test", "dev", "holdout"}
    assert all(rows.features["label"].names == ["a", "b", "c"] for rows in splits.values())
    assert _rows(splits["train"], tmp_path) == [("train/a/1.wav", "a"), ("train/b/0.wav", "b")]
    assert _rows(splits["test"], tmp_path) == [("test/c/2.wav", "c")]


def test_a_class_may_bear_the_name_of_a_split(tmp_path: Path) -> None:
    _write(tmp_path, "train/0.wav", "car/1.wav")
    assert _rows(read_folder(tmp_path)["train"], tmp_path) == [("car/1.wav", "car"), ("train/0.wav", "train")]


def test_a_table_of_sounds(tmp_path: Path) -> None:
    _write(tmp_path, "wavs/0.wav", "1.wav", "unlisted.wav")
    (tmp_path / "metadata.csv").write_bytes(
        b"\xef\xbb\xbffile_name,text,speaker\r\n"
        b'wavs/0.wav,"Well, ""yes"".",007\r\n'
        b"\r\n"
        b"1.wav,nan\r\n"
        b",null,\r\n"
        b"gone.wav,\xc3\x9cber,3\r\n"
    )
    rows = read_folder(tmp_path)["train"]
    assert rows[:] == {
        "audio": [str(tmp_path / "wavs/0.wav"), str(tmp_path / "1.wav"), None, str(tmp_path / "gone.wav")],
        "text": ['Well, "yes".', "nan", "null", "Über"],
        "speaker": ["007", None, None, "3"],
    }
    assert {feature.dtype for feature in rows.features.values()} == {"string"}


def test_a_table_may_have_long_texts_and_other_delimiters(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(f"file;text\n0.wav;{'a' * (1 << 18)}\n")
    assert read_folder(tmp_path)["train"]["text"][:] == ["a" * (1 << 18)]


def test_splits_with_a_table_each(tmp_path: Path) -> None:
    _write(tmp_path, "train/0.wav", "test/deep/1.wav", "raw/2.wav")
    (tmp_path / "train/metadata.csv").write_text("file,label\n0.wav,a\n")
    (tmp_path / "test/metadata.csv").write_text("label,file\nb,deep/1.wav\n")
    splits = read_folder(tmp_path)
    assert splits["train"][:] == {"audio": [str(tmp_path / "train/0.wav")], "label": ["a"]}
    assert splits["test"][:] == {"audio": [str(tmp_path / "test/deep/1.wav")], "label": ["b"]}


_LAID_OUT = r"must hold CLASS/FILE or SPLIT/CLASS/FILE with SPLIT one of train, validation, .*, or a metadata.csv"


@pytest.mark.parametrize(
    ("names", "tables", "message"),
    [
        ([], {}, f"{_LAID_OUT}.*got no audio files; audio files end in .wav, .*.flac"),
        (["notes/a.txt"], {}, "got no audio files"),
        (["0.wav", "a/1.wav"], {}, f"{_LAID_OUT}.*, got 1 recordings outside the folders of classes, such as '0.wav'"),
        (["train/a/0.wav", "test/1.wav"], {}, "outside the folders of classes, such as 'test/1.wav'"),
        (["train/0.wav", "test/1.wav"], {}, "got no folders of classes in test, train"),
        (
            ["0.wav"],
            {"": "sound,label\n0.wav,a\n"},
            r"metadata.csv must have a column file_name or file .*sound, label",
        ),
        (["0.wav"], {"": ""}, "metadata.csv.* cannot be read: No columns to parse from file"),
        (["0.wav"], {"": "file,label\n"}, "metadata.csv.*a split has no rows"),
        (
            ["0.wav"],
            {"": "file,text\n0.wav,yes\n1.wav,well, yes, no\n"},
            "metadata.csv.*Expected 2 fields in line 3, saw 4; put texts that contain the delimiter between quotes",
        ),
        (
            ["0.wav"],
            {"": 'file,text\n0.wav,"yes\n1.wav,no\n'},
            "metadata.csv.* EOF inside string starting at row 1; put texts .* between quotes, with each quote",
        ),
        (
            ["train/0.wav", "test/1.wav"],
            {"train": "file,label\n0.wav,a\n"},
            "got recordings but no metadata.csv in test, unlike train",
        ),
    ],
)
def test_folders_that_cannot_be_understood(
    tmp_path: Path, names: list[str], tables: dict[str, str], message: str
) -> None:
    _write(tmp_path, *names)
    for place, content in tables.items():
        (tmp_path / place / "metadata.csv").write_text(content)
    with pytest.raises(ValueError, match=f"{tmp_path}.*{message}"):
        read_folder(tmp_path)


def test_a_table_that_is_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes(b"file,text\n0.wav,caf\xe9\n")
    with pytest.raises(ValueError, match=r"metadata.csv: line 2 is not UTF-8 text \(.*\); save the file as UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("names", "sounds"),
    [
        (["a/0.wav"], True),
        (["a/0.wav", "README.md", "LICENSE.txt", "dataset_info.json"], True),
        (["metadata.csv"], True),
        (["a/0.wav", "metadata.csv"], True),
        (["a/0.wav", "a/0.json"], True),
        (["a/0.wav", "train.csv"], False),
        (["a/0.wav", "data/train.parquet"], False),
        (["train.parquet"], False),
        (["notes.txt"], False),
        ([], False),
    ],
)
def test_which_folders_are_of_sounds(tmp_path: Path, names: list[str], sounds: bool) -> None:
    _write(tmp_path, *names)
    assert _source(tmp_path).folder == (tmp_path if sounds else None)


def test_a_folder_is_given_by_either_argument_and_sliced(tmp_path: Path) -> None:
    _write(
        tmp_path, *(f"data/{split}/{name}/{i}.wav" for split in ("train", "test") for name in "ab" for i in range(5))
    )
    folder = tmp_path / "data"
    for source in (
        _source(folder),
        _source(tmp_path, data_dir="data"),
        _source("audiofolder", data_dir=str(folder)),
    ):
        assert source.folder == folder
        assert {name: len(rows) for name, rows in source.load().items()} == {"train": 10, "test": 10}
        rows = source.load("train[:30%]+test[8:]")
        assert _rows(rows, folder) == [
            *[(f"train/a/{i}.wav", "a") for i in range(3)],
            *[(f"test/b/{i}.wav", "b") for i in (3, 4)],
        ]
        assert source.folder_of("train") == Path()


def _log(caplog: pytest.LogCaptureFixture, folder: Path) -> dict[str, Any]:
    """Splits of a folder, and what the log says of it."""
    caplog.clear()
    with caplog.at_level("INFO"):
        splits = _source(folder).load()
    return {"splits": splits, "log": caplog.text}


def test_what_is_left_out_of_class_folders_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, "train/cat/0.wav", "train/owl/1.wav", "test/cat/2.wav", "test/ape/3.wav")
    _write(tmp_path, "train/cat/4.m4a", "train/owl/5.M4A", "counts.csv", "train/README", "train/cat/.hidden.m4a")
    (tmp_path / "train/eel").mkdir()
    found = _log(caplog, tmp_path)
    assert {name: len(rows) for name, rows in found["splits"].items()} == {"train": 2, "test": 2}
    for message in (
        r"files left out because .* audio files: 4 \(2 .m4a, 1 .csv, 1 without ending\)",
        r"folders .*audio files.*\('train/eel'\)",
        r"classes .*audio files in train.*\('ape'\)",
    ):
        assert re.search(message, found["log"])
    assert "hidden" not in found["log"]


def test_nothing_is_logged_as_left_out_of_a_plain_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, "train/cat/0.wav", "train/owl/1.wav", "test/cat/2.wav", "test/owl/3.wav")
    log = _log(caplog, tmp_path)["log"]
    assert re.search(r"audio files: 2 in \w+, 2 in \w+; 2 classes \('cat', 'owl'\)", log)
    assert not re.search("left out|without|have no", log)


@pytest.mark.parametrize("beside", ["counts.csv", "info.json", "metadata.tsv", "metadata.jsonl", "data/notes.csv"])
def test_class_folders_and_metadata_win_over_other_tables(tmp_path: Path, beside: str) -> None:
    _write(tmp_path, "cat/0.wav", "owl/1.wav", beside)
    assert _rows(_source(tmp_path).load()["train"], tmp_path) == [("cat/0.wav", "cat"), ("owl/1.wav", "owl")]
    (tmp_path / "metadata.csv").write_text("file_name,text\ncat/0.wav,meow\n")
    for more in ((), ("train.csv",)):
        _write(tmp_path, *more)
        assert _source(tmp_path).load()["train"]["text"][:] == ["meow"]


_TABLE = {"csv": "{file},cat\n", "tsv": "{file}\tcat\n", "jsonl": '{{"file": "{file}", "kind": "cat"}}\n'}
_TABLE_HEADER = {"csv": "file,kind\n", "tsv": "file\tkind\n", "jsonl": ""}


@pytest.mark.parametrize("ending", _TABLE)
@pytest.mark.parametrize("place", ["", "wavs/", "train/"])
def test_a_table_beside_recordings_in_no_class_folders_is_named_with_a_remedy(
    tmp_path: Path, place: str, ending: str
) -> None:
    folder = tmp_path / "my sounds [1]"
    _write(folder, *(f"{place}{number}.wav" for number in range(9)))
    table = folder / f"labels.{ending}"
    files = [f"{place}{number}.wav" for number in range(9)]
    table.write_text(_TABLE_HEADER[ending] + "".join(_TABLE[ending].format(file=file) for file in files))
    with pytest.raises(ValueError, match=r"must hold CLASS/FILE .* got .*Read the table by --data.path") as caught:
        _source(folder).load()
    message = shlex.split(str(caught.value).replace(", and name its columns", " "))
    path, file = (message[message.index(option) + 1] for option in ("--data.path", "--data.data_files.train"))
    source = _source(path, data_files={"train": file})
    rows = source.load()["train"]
    assert rows["kind"][:] == ["cat"] * 9
    assert len(read_waveform(rows["file"][0], 8_000, source.folder_of("train"))) == 211


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_tables_of_splits_win_over_folders_of_recordings(tmp_path: Path, ending: str) -> None:
    """`datasets` would take the most frequent ending."""
    for split in ("train", "test"):
        files = [f"{split}/speaker/{number}.wav" for number in range(9)]
        _write(tmp_path, *files)
        lines = "".join(_TABLE[ending].format(file=file) for file in files)
        (tmp_path / f"{split}.{ending}").write_text(_TABLE_HEADER[ending] + lines)
    source = _source(tmp_path)
    splits = source.load()
    assert {name: rows["kind"][:] for name, rows in splits.items()} == {"train": ["cat"] * 9, "test": ["cat"] * 9}
    assert len(source.load("train[:5]")) == 5
    assert len(read_waveform(splits["test"]["file"][3], 8_000, source.folder_of("test"))) == 211
    _write(tmp_path, "dev.parquet")
    with pytest.raises(
        ValueError, match=r"tables must have one format, and those of a split one folder, got .*dev.parquet"
    ):
        _source(tmp_path).load()


def test_the_same_files_are_trained_on_and_predicted(tmp_path: Path) -> None:
    names = [f"{number % 2}/{number}{suffix}" for number, suffix in enumerate(AUDIO_SUFFIXES)]
    names += [f"0/upper{suffix.upper()}" for suffix in AUDIO_SUFFIXES]
    _write(tmp_path, *names, "0/x.m4a", "1/x.txt", "0/wav", "1/.x.wav", "__MACOSX/x.wav", ".git/x.wav")
    trained = _source(tmp_path).load()["train"]["audio"][:]
    assert sorted(trained) == sorted(list_files("sounds", str(tmp_path), AUDIO_SUFFIXES, "audio"))
    assert sorted(Path(file).relative_to(tmp_path).as_posix() for file in trained) == sorted(names)


def test_links_are_followed_and_names_need_not_be_utf_8(tmp_path: Path) -> None:
    folder, other = tmp_path / "run [1]", tmp_path / "other"
    _write(folder, "cat/\udce9.wav", "ow\udcfc/1.wav")
    _write(other, "2.wav")
    (folder / "elk").symlink_to(other)
    (folder / "cat/3.wav").symlink_to(other / "2.wav")
    (folder / "cat/round").symlink_to(folder)
    rows = _source(folder).load()["train"]
    names = ["cat/3.wav", r"cat/\xe9.wav", "elk/2.wav", r"ow\xfc/1.wav"]
    assert sorted(_rows(rows, folder)) == [(name, name.partition("/")[0]) for name in names]
    assert all(len(read_waveform(row["audio"], 8_000)) == 211 for row in rows)
    seconds, faults = read_headers(rows, "audio", folder=Path(), shortest=0.0, name="train")
    assert (seconds.tolist(), faults) == ([211 / 8_000] * 4, {})
    _write(folder, "metadata.csv")
    (folder / "metadata.csv").write_text("file_name,text\ncat/3.wav,a\n")
    assert _source(folder).load()["train"]["audio"][:] == [str(folder / "cat/3.wav")]


def test_tables_beside_sounds_are_read_as_tables(tmp_path: Path) -> None:
    _write(tmp_path, "wavs/0.wav")
    (tmp_path / "train.csv").write_text("audio,label\nwavs/0.wav,a\n")
    source = _source(tmp_path)
    assert source.load()["train"][0] == {"audio": "wavs/0.wav", "label": "a"}
    assert source.folder_of("train") == tmp_path


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": "audiofolder"}, ValueError, "path='audiofolder' is a format"),
        ({"path": "audiofolder", "data_dir": "/no/such"}, FileNotFoundError, "data_dir does not exist"),
        (
            {"path": "audiofolder", "data_files": "{folder}/a/*.wav"},
            ValueError,
            "path='audiofolder' must come with the folder of the audio files, --data.data_dir FOLDER, and without",
        ),
        (
            {"path": "{folder}", "streaming": True},
            ValueError,
            "is a folder of audio files, which takes no streaming",
        ),
        ({"path": "audiofolder", "data_dir": "{folder}", "name": "x"}, ValueError, "takes no name"),
        ({"path": "{folder}/empty"}, FileNotFoundError, "doesn't contain any data files"),
        ({"path": "/no/such/folder"}, FileNotFoundError, "'/no/such/folder': there is no such folder"),
        (
            {"path": "{folder}", "train_split": "trian"},
            ValueError,
            "train_split='trian': the data has no such split; it has: train",
        ),
        ({"path": "{folder}", "train_split": "trian[:50%]"}, ValueError, r"train_split='trian\[:50%\]'.*it has: train"),
    ],
)
def test_arguments_that_do_not_go_with_a_folder(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    _write(tmp_path, "a/0.wav", "b/1.wav")
    (tmp_path / "empty").mkdir()
    given = {
        name: value.format(folder=tmp_path) if isinstance(value, str) else value for name, value in arguments.items()
    }
    with pytest.raises(error, match=message):
        AudioDataModule(**given).setup("fit")


def test_what_datasets_cannot_read_is_to_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        try:
            raise ModuleNotFoundError("No module named 'torchcodec'")
        except ModuleNotFoundError as error:
            raise datasets.exceptions.DatasetGenerationError("An error occurred") from error

    monkeypatch.setattr("tasks.data.sources.datasets.load_dataset", refused)
    message = (
        r"audio files must be in a local folder.*hf download some/sounds --repo-type dataset .* by --data.path FOLDER"
    )
    with pytest.raises(ValueError, match=message):
        _source("some/sounds").load()
