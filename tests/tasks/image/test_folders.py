"""Folders of images: classes, splits, tables, and what is left out."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from tasks.data.files import list_files
from tasks.image.data import ImageDataModule
from tasks.image.folders import IMAGE_SUFFIXES, ImageSource

pytestmark = pytest.mark.usefixtures("own_cache")


def _write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.lower().endswith((".png", ".gif", ".jfif")):
            Image.new("RGB", (5, 4), (len(name), 9, 99)).save(folder / name)
        else:
            (folder / name).write_text("image,label\n")


def _source(path: str | Path, **given: Any) -> ImageSource:
    arguments = {"name": None, "data_dir": None, "data_files": None, "streaming": False, "built_in": {}, **given}
    return ImageSource(str(path), **arguments)


def _sources(folder: Path) -> list[ImageSource]:
    return [_source(folder), _source("imagefolder", data_dir=str(folder)), _source(folder.parent, data_dir=folder.name)]


def _rows(splits: Any, folder: Path) -> dict[str, list[tuple[str, str]]]:
    undecoded = splits.cast_column("image", datasets.Image(decode=False))
    names = next(iter(undecoded.values())).features["label"].names
    return {
        split: [(Path(row["image"]["path"]).relative_to(folder).as_posix(), names[row["label"]]) for row in rows]
        for split, rows in undecoded.items()
    }


def _found(files: list[str], place: int = 0) -> list[tuple[str, str]]:
    return [(file, file.split("/")[place]) for file in files]


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ([*(f"a/p{i:02}.png" for i in range(20)), *(f"b/train_{i}.png" for i in range(6))], 0),
        (["bus/1.png", "car/2.png", "train/3.png"], 0),
        (["dev/1.png", "prod/2.png"], 0),
        (["a/2.png", "a/deep/er/1.png", "b/3.png"], 0),
        (["a/test.png", "b/validation-1.png", "c/eval.gif"], 0),
        (["photos/a/1.png", "photos/b/2.jfif"], 1),
    ],
    ids=["file names", "train", "dev", "nested", "every split", "in one folder"],
)
def test_class_folders_lose_no_image(tmp_path: Path, files: list[str], place: int) -> None:
    folder = tmp_path / "set [1]"
    _write(folder, *files)
    for source in _sources(folder):
        assert _rows(source.load(), folder) == {"train": _found(files, place)}
        assert source.folder_of("train") == Path()


def test_splits_of_class_folders(tmp_path: Path) -> None:
    files = ["Training/a/1.png", "Training/b/train.png", "extra/a/2.png", "test/b/3.png", "val/a/4.png"]
    _write(tmp_path / "set", *files)
    found = dict(zip(["train", "train", "extra", "test", "validation"], files))
    for source in _sources(tmp_path / "set"):
        splits = _rows(source.load(), tmp_path / "set")
        assert list(splits) == ["train", "validation", "test", "extra"]
        assert splits.pop("train") == _found(files[:2], 1)
        assert splits == {split: _found([file], 1) for split, file in found.items() if split != "train"}
        sliced = source.load("train[:50%]+test")
        assert [len(sliced), sliced.features["label"].names] == [2, ["a", "b"]]


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/owl/4.png", "test/5.png")
    _write(tmp_path, "6.png", "notes.txt", "train/a/data.json", "test/labels.csv", ".hidden/a/7.png")
    (tmp_path / "train/empty").mkdir()
    with caplog.at_level("INFO"):
        splits = _source(tmp_path).load()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "test": 2}
    for message in (
        "files left out because they are no image files: 3 (1 .txt, 1 .csv, 1 .json)",
        "image files: 2 in train, 2 in test; 3 classes ('a', 'b', 'owl')",
        "image files left out because they lie in no folder of a class: 2 ('6.png', 'test/5.png')",
        "folders left out because they hold no image files: 1 ('train/empty')",
        "classes without image files in train: 1 ('owl')",
    ):
        counted = message if "(1 .txt" not in message else message.partition(" (")[0]
        assert f"{tmp_path}: {counted}" in caplog.text


@pytest.mark.parametrize("names", [["train/1.png", "test/2.png"], ["train/1.png"], ["1.png", "2.png"]])
def test_images_without_class_folders(tmp_path: Path, names: list[str]) -> None:
    _write(tmp_path, *names)
    with pytest.raises(
        ValueError, match=r"image files must lie in folders of classes, CLASS/FILE .*; make a folder for"
    ):
        _source(tmp_path).load()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("places", [[""], ["train/", "validation/"], ["data/train/", "data/val/"]], ids=str)
def test_metadata_tables(tmp_path: Path, kind: str, streaming: bool, places: list[str]) -> None:
    for place in places:
        _write(tmp_path, f"{place}photos/1.png", f"{place}photos/2.png", f"{place}unlisted.png")
        rows = [{"file_name": r"photos\1.png", "label": "NA"}, {"file_name": "photos/2.png", "label": "007"}]
        table = tmp_path / place / f"metadata.{kind}"
        if kind == "csv":
            table.write_text("file_name,label\n" + "".join(f"{row['file_name']},{row['label']}\n" for row in rows))
        elif kind == "jsonl":
            table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            datasets.Dataset.from_list(rows).to_parquet(table)
    for given in ({"path": str(tmp_path)}, {"path": "imagefolder", "data_dir": str(tmp_path)}):
        data = ImageDataModule(
            **given, image_size=4, streaming=streaming, val_fraction=0.0, class_names=["007", "NA"], test_split="train"
        )
        assert data.validation_split() == ("validation" if len(places) > 1 else None)
        (batch,) = data.test_dataloader()
        assert (batch["label"].tolist(), len(batch["image"])) == ([1, 0], 2)


@pytest.mark.parametrize("folder", ["a/", "b/"])
def test_metadata_does_not_hide_splits_of_class_folders(tmp_path: Path, folder: str) -> None:
    _write(tmp_path, "train/a/1.png", "test/b/2.png", "metadata.csv", f"{folder}notes.txt")
    assert set(_source(tmp_path).load()) == {"train", "test"}


def test_a_metadata_table_without_file_names(tmp_path: Path) -> None:
    _write(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "metadata.csv").write_text("name,label\n1.png,a\n")
    with pytest.raises(
        ValueError, match="must have a column file_name with the names of the image files, got name, label"
    ):
        _source(tmp_path).load()


def test_tables_that_name_a_split_are_read_instead_of_images(tmp_path: Path) -> None:
    _write(tmp_path, "photos/1.png", "other/2.png", "counts.csv")
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("image,label\nphotos/1.png,a\n")
    source = _source(tmp_path)
    assert source.load()["test"][:] == {"image": ["photos/1.png"], "label": ["a"]}
    assert source.folder_of("test") == tmp_path


def test_another_table_is_no_hindrance_to_class_folders(tmp_path: Path) -> None:
    _write(tmp_path, "a/1.png", "b/2.png", "counts.csv", "info.json")
    assert _rows(_source(tmp_path).load(), tmp_path) == {"train": _found(["a/1.png", "b/2.png"])}


def test_the_remedy_for_a_table_beside_images_works(tmp_path: Path) -> None:
    _write(tmp_path / "of mine", "photos/1.png", "photos/2.png")
    (tmp_path / "of mine/labels.csv").write_text("image,label\nphotos/1.png,a\nphotos/2.png,b\n")
    with pytest.raises(
        ValueError, match=r"or be named by a metadata.csv .*, got 2 images beside a table. Read"
    ) as caught:
        _source(tmp_path / "of mine").load()
    words = shlex.split(str(caught.value).partition("Read the table by ")[2])
    given = dict(zip(words[:4:2], words[1:4:2]))
    data = ImageDataModule(
        given["--data.path"], data_files={"train": given["--data.data_files.train"]}, val_fraction=0.0, image_size=4
    )
    assert len(next(iter(data.train_dataloader()))["image"]) == 2
    assert data.class_names == ["a", "b"]


def test_a_folder_without_images_is_left_to_datasets(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="doesn't contain any data files"):
        _source(tmp_path / "empty").load()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x"])})
    rows = datasets.Dataset.from_dict({"image": [Image.new("L", (2, 2))], "label": [0]}, features=features)
    rows.to_parquet(tmp_path / "train.parquet")
    (tmp_path / "metadata.csv").write_text("station,label\n1,a\n")
    assert _source(tmp_path).load()["train"].features == features


def test_streams_give_the_same_rows(tmp_path: Path) -> None:
    _write(tmp_path, *(f"{name}/{number}.png" for name in "ab" for number in range(5)))
    batches = [
        list(ImageDataModule(str(tmp_path), image_size=4, streaming=streaming, test_split="train").test_dataloader())
        for streaming in (False, True)
    ]
    assert batches[0][0]["label"].tolist() == batches[1][0]["label"].tolist() == [0] * 5 + [1] * 5
    assert (batches[0][0]["image"] == batches[1][0]["image"]).all()


@pytest.mark.parametrize("suffix", [".gif", ".GIF", ".jfif", ".jpe", ".dib", ".ppm", ".tga", ".avif"])
def test_training_and_prediction_find_the_same_files(tmp_path: Path, suffix: str) -> None:
    assert suffix.lower() in IMAGE_SUFFIXES
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (5, 4)).save(tmp_path / name / f"1{suffix}")
    (tmp_path / "b/link").symlink_to(tmp_path / "a")
    names = [f"a/1{suffix}", f"b/1{suffix}", f"b/link/1{suffix}"]
    assert _rows(_source(tmp_path).load(), tmp_path) == {"train": _found(names)}
    assert list_files("images", str(tmp_path), IMAGE_SUFFIXES, "image") == [str(tmp_path / name) for name in names]
    data = ImageDataModule(str(tmp_path), image_size=4, val_fraction=0.0)
    assert len(next(iter(data.train_dataloader()))["image"]) == 3


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    _write(tmp_path, "a/1.png", "b/2.png")
    try:
        os.rename(tmp_path / "a/1.png", os.fsencode(tmp_path) + b"/a/caf\xe9.png")
        os.rename(tmp_path / "b", os.fsencode(tmp_path) + b"/b\xff")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    data = ImageDataModule(str(tmp_path), image_size=4, val_fraction=0.0)
    assert data.class_names == ["a", "b\\xff"]
    assert len(next(iter(data.train_dataloader()))["image"]) == 2
