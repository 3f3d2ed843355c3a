"""Files to be classified, without any data set."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from keeping import Keeping
from PIL import Image
from toy_rows import quiet_trainer

from tasks.data.examples import ReadError
from tasks.data.files import list_files
from tasks.image.data import ImageDataModule
from tasks.image.folders import IMAGE_SUFFIXES
from tasks.image.processor import ImageProcessor
from tasks.image.transforms import Preprocess

_PROCESSOR = ImageProcessor((6, 8), 1, mean=[0.2], std=[0.5], interpolation="nearest", crop_mode="squash")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "more").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.JPG", "more/c.png", "d.bmp", "e.webp")):
        Image.new("RGB", (9, 5 + number), (40 * number, 9, 99)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    for name in ("._a.JPG", "__MACOSX/a.JPG", ".cache/a.png"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"hidden")
    return tmp_path / "images"


def _predict(images: Any, processor: ImageProcessor | None = None, **options: Any) -> list[dict[str, Any]]:
    data = ImageDataModule("nobody/nothing", images=images, processor=processor, **{"batch_size": 2, **options})
    task = Keeping()
    quiet_trainer().predict(task, data)
    return task.batches


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_is_preprocessed_by_the_processor_of_the_task(folder: Path, workers: int) -> None:
    batches = _predict(str(folder), _PROCESSOR, num_workers=workers)
    files = [file for batch in batches for file in batch["file"]]
    assert files == [str(folder / name) for name in ("a.JPG", "b.png", "d.bmp", "e.webp", "more/c.png")]
    assert [batch["index"].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    images = torch.cat([batch["image"] for batch in batches])
    for image, file in zip(images, files, strict=True):
        assert torch.equal(image, _PROCESSOR([file])[0])


def test_without_a_given_processor_the_module_preprocesses(folder: Path) -> None:
    preprocess = Preprocess(mean=[0.0] * 3, std=[1.0] * 3, crop_mode="squash")
    (batch,) = _predict(str(folder / "b.png"), image_size=4, preprocess=preprocess)
    assert batch["image"].shape == (1, 3, 4, 4)
    assert batch["image"][0, :, 0, 0].mul(255).round().tolist() == [0, 9, 99]


def _listed(images: Any) -> list[str]:
    return list_files("images", images, IMAGE_SUFFIXES, "image")


def test_lists_and_patterns(folder: Path, tmp_path: Path) -> None:
    assert _listed([str(folder / "more"), str(folder / "b.png")]) == [
        str(folder / "more/c.png"),
        str(folder / "b.png"),
    ]
    assert _listed(str(folder / "*.png")) == [str(folder / "b.png")]
    assert _listed(str(tmp_path / "**/*.png")) == [str(folder / "b.png"), str(folder / "more/c.png")]


def test_missing_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"images must be a folder, .*, got '/no/such', which does not exist"):
        _predict("/no/such", _PROCESSOR)
    with pytest.raises(FileNotFoundError, match=r"got '.*\*\.gif', which does not exist"):
        _predict([str(folder / "b.png"), str(folder / "*.gif")], _PROCESSOR)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"images must hold image files, ending in .jpg.*, got none in '.*empty'"):
        _predict(str(tmp_path / "empty"), _PROCESSOR)


def test_predict_without_files_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"images must be files of images to predict, got None; give them by --data.images FOLDER"
    ):
        _predict(None, _PROCESSOR)


def test_broken_files(folder: Path) -> None:
    (folder / "c.png").write_bytes(b"broken")
    with pytest.raises(ReadError, match=f"images, row 2: the image '{folder / 'c.png'}' cannot be decoded"):
        _predict(str(folder), _PROCESSOR)
    batches = _predict(str(folder), _PROCESSOR, on_bad_image="skip")
    files = [Path(file).name for batch in batches for file in batch["file"]]
    assert files == ["a.JPG", "b.png", "d.bmp", "e.webp", "c.png"]
    assert [len(batch["file"]) for batch in batches] == [2, 2, 1]
    assert [row for batch in batches for row in batch["index"].tolist()] == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("given", ["{folder}", "{folder}/*"])
def test_predict_reads_the_same_files_as_training(folder: Path, given: str, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (9, 5)).save(folder / "f.gif")
    Image.new("RGB", (9, 5)).save(folder / "g.jfif", "JPEG")
    (folder.parent / "elsewhere").mkdir()
    Image.new("RGB", (9, 5)).save(folder.parent / "elsewhere/h.png")
    (folder / "linked").symlink_to(folder.parent / "elsewhere")
    with caplog.at_level("INFO"):
        batches = _predict(given.format(folder=folder), _PROCESSOR)
    files = [str(Path(file).relative_to(folder)) for batch in batches for file in batch["file"]]
    assert files == ["a.JPG", "b.png", "d.bmp", "e.webp", "f.gif", "g.jfif", "linked/h.png", "more/c.png"]
    assert "images: files left out because they are no image files: 1 (1 .txt)" in caplog.text


@pytest.mark.parametrize("broken", [False, True])
def test_a_name_that_is_not_utf_8(folder: Path, broken: bool) -> None:
    name = os.fsencode(folder) + b"/caf\xe9.png"
    try:
        os.rename(folder / "b.png", name)
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    if broken:
        Path(os.fsdecode(name)).write_bytes(b"broken")
        with pytest.raises(ReadError, match=r"images, row 1: the image '.*caf\\.*xe9.png' cannot be decoded"):
            _predict(str(folder), _PROCESSOR)
    batches = _predict(str(folder), _PROCESSOR, on_bad_image="skip")
    names = ["a.JPG", *([] if broken else ["caf\\xe9.png"]), "d.bmp", "e.webp", "c.png"]
    assert [Path(file).name for batch in batches for file in batch["file"]] == names
