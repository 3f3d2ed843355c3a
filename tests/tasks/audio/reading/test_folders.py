"""Folders of sounds: classes, splits and tables."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from sounds import noise, write_sound

from tasks.audio.data import AudioDataModule
from tasks.audio.reading.folders import holds_sounds, read_folder
from tasks.audio.reading.sources import SoundSource

pytestmark = pytest.mark.usefixtures("own_cache")

_SHORT = noise(211)


def _write(folder: Path, *names: str) -> None:
    for name in names:
        if name.endswith((".wav", ".flac", ".ogg")):
            write_sound(folder / name, _SHORT)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")


def _source(path: str | Path, **arguments: Any) -> SoundSource:
    given = {"name": None, "data_dir": None, "data_files": None, "streaming": False, "built_in": {}, **arguments}
    return SoundSource(str(path), **given)


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


def test_splits_with_a_table_each(tmp_path: Path) -> None:
    _write(tmp_path, "train/0.wav", "test/deep/1.wav", "raw/2.wav")
    (tmp_path / "train/metadata.csv").write_text("file,label\n0.wav,a\n")
    (tmp_path / "test/metadata.csv").write_text("label,file\nb,deep/1.wav\n")
    splits = read_folder(tmp_path)
    assert splits["train"][:] == {"audio": [str(tmp_path / "train/0.wav")], "label": ["a"]}
    assert splits["test"][:] == {"audio": [str(tmp_path / "test/deep/1.wav")], "label": ["b"]}


_LAID_OUT = r"expected CLASS/FILE or SPLIT/CLASS/FILE with SPLIT one of train, validation, .*, or a metadata.csv"


@pytest.mark.parametrize(
    ("names", "tables", "message"),
    [
        ([], {}, f"there are no sound files; {_LAID_OUT}.*end in .wav, .flac"),
        (["notes/a.txt"], {}, "there are no sound files"),
        (["0.wav", "a/1.wav"], {}, f"'0.wav' lies in no folder of a class; {_LAID_OUT}"),
        (["train/a/0.wav", "test/1.wav"], {}, "'test/1.wav' lies in no folder of a class"),
        (["train/0.wav", "test/1.wav"], {}, "the sounds in test, train lie in no folders of classes"),
        (
            ["0.wav"],
            {"": "sound,label\n0.wav,a\n"},
            r"metadata.csv: expected a column file_name or file .*sound, label",
        ),
        (["0.wav"], {"": ""}, "metadata.csv: expected a column file_name or file .*, got the columns none"),
        (["0.wav"], {"": "file,label\n"}, "metadata.csv: the table has no rows"),
        (
            ["0.wav"],
            {"": "file,text\n0.wav,yes\n1.wav,well, yes, no\n"},
            "metadata.csv, row 1: expected 2 cells, as in the header, got 4; put texts with commas between quotes",
        ),
        (
            ["0.wav"],
            {"": 'file,text\n0.wav,"yes\n1.wav,no\n'},
            "metadata.csv: the table cannot be read behind line 1 .*quotes stands between quotes",
        ),
        (
            ["0.wav"],
            {"": f"file,text\n0.wav,{'a' * (1 << 18)}\n"},
            "metadata.csv: the table cannot be read behind line 1",
        ),
        (
            ["train/0.wav", "test/1.wav"],
            {"train": "file,label\n0.wav,a\n"},
            "test holds sounds, but no metadata.csv, as train does",
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
    with pytest.raises(ValueError, match=r"metadata.csv: the table is not UTF-8 text \(.*\); save it as UTF-8"):
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
    assert holds_sounds(tmp_path) is sounds
    assert _source(tmp_path).folder() == (tmp_path if sounds else None)


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
        assert source.folder() == folder
        assert {name: len(rows) for name, rows in source.load().items()} == {"train": 10, "test": 10}
        rows = source.load("train[:30%]+test[8:]")
        assert _rows(rows, folder) == [
            *[(f"train/a/{i}.wav", "a") for i in range(3)],
            *[(f"test/b/{i}.wav", "b") for i in (3, 4)],
        ]
        assert source.folder_of("train") == Path()


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
            "path='audiofolder': expected the folder of the sounds, --data.data_dir FOLDER, and no data_files",
        ),
        (
            {"path": "{folder}", "streaming": True},
            ValueError,
            "a folder of sounds is read as it is and takes no stream",
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
    message = r"it is a folder of sound files.*hf download some/sounds --repo-type dataset .* by --data.path FOLDER"
    with pytest.raises(ValueError, match=message):
        _source("some/sounds").load()
