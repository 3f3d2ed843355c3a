"""Images with labels from files of every kind to batches."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from tasks.data.batches import Draw
from tasks.data.examples import ReadError
from tasks.image.augment import Augment
from tasks.image.data import ImageDataModule
from tasks.image.examples import CachedImages
from tasks.image.processor import ImageProcessor
from tasks.image.transforms import Preprocess, measured_statistics

pytestmark = pytest.mark.usefixtures("own_cache")

_NAMES = ["ant", "bee", "cat"]


def _image(number: int, size: tuple[int, int] = (11, 7)) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _parquet(file: Path, rows: int, first: int = 0, labels: list[Any] | None = None, feature: Any = None) -> str:
    features = {"image": datasets.Image(), "label": feature or datasets.ClassLabel(names=_NAMES)}
    content = {
        "image": [_image(first + i) for i in range(rows)],
        "label": labels or [i % 3 for i in range(rows)],
    }
    datasets.Dataset.from_dict(content, features=datasets.Features(features)).to_parquet(file)
    return str(file)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {"train": _parquet(tmp_path / "train.parquet", 31), "test": _parquet(tmp_path / "test.parquet", 13, 100)}


def _data(files: Any, path: str = "parquet", **options: Any) -> ImageDataModule:
    settings = {"image_size": 8, "batch_size": 5, "preprocess": Preprocess(mean=[0.0] * 3, std=[1.0] * 3)}
    return ImageDataModule(path, data_files=files, **{**settings, **options})


def _preprocessed(image: Image.Image, data: ImageDataModule) -> torch.Tensor:
    return data.processor([image])[0]


def test_batches_contain_preprocessed_images_labels_and_row_numbers(files: dict[str, str]) -> None:
    data = _data(files)
    batches = list(data.test_dataloader())
    assert [len(batch["label"]) for batch in batches] == [5, 5, 3]
    batch = batches[1]
    assert (batch["image"].dtype, batch["image"].shape) == (torch.float32, (5, 3, 8, 8))
    assert (batch["label"].dtype, batch["index"].dtype) == (torch.int64, torch.int64)
    assert batch["index"].tolist() == [5, 6, 7, 8, 9]
    assert batch["label"].tolist() == [2, 0, 1, 2, 0]
    for i, row in enumerate(batch["index"].tolist()):
        torch.testing.assert_close(batch["image"][i], _preprocessed(_image(100 + row), data))


def test_properties_of_the_data_need_no_setup(files: dict[str, str]) -> None:
    data = _data(files, channels=1, image_size=(9, 8), preprocess=Preprocess(mean=[0.3], std=[0.2], crop_pct=0.9))
    assert (data.num_classes, data.class_names, data.multi_label, data.channels) == (3, _NAMES, False, 1)
    made = data.processor
    expected = ImageProcessor((9, 8), 1, mean=[0.3], std=[0.2], crop_pct=0.9, class_names=_NAMES)
    assert made == expected == ImageProcessor.from_dict(json.loads(json.dumps(made.to_dict())))
    assert made.to_dict()["class_path"] == "tasks.image.ImageProcessor"
    assert next(iter(data.train_dataloader()))["image"].shape == (5, 1, 9, 8)


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for split, names in (("train", _NAMES), ("test", _NAMES)):
        for label, name in enumerate(names):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(5):
                _image(label * 10 + i).save(tmp_path / split / name / f"{i}.png")
    for arguments in ({"path": "imagefolder", "data_dir": str(tmp_path)}, {"path": str(tmp_path)}):
        data = ImageDataModule(**arguments, image_size=8, batch_size=4, val_fraction=0.2)
        assert data.class_names == _NAMES
        assert torch.cat([batch["label"] for batch in data.val_dataloader()]).tolist() == [0, 1, 2]
        assert torch.cat([batch["label"] for batch in data.test_dataloader()]).tolist() == [0] * 5 + [1] * 5 + [2] * 5


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("streaming", [False, True])
def test_tables_of_file_names_relative_to_the_table(tmp_path: Path, kind: str, streaming: bool) -> None:
    (tmp_path / "images").mkdir()
    rows = [{"photo": f"images/{i}.png", "kind": _NAMES[i % 3]} for i in range(7)]
    for i in range(7):
        _image(i).save(tmp_path / "images" / f"{i}.png")
    table = tmp_path / f"table.{kind}"
    if kind == "csv":
        table.write_text("photo,kind\n" + "".join(f"{row['photo']},{row['kind']}\n" for row in rows))
    else:
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"image_column": "photo", "label_column": "kind", "test_split": "train", "val_fraction": 0.0}
    names = _NAMES if streaming else None
    data = _data({"train": str(table)}, kind, streaming=streaming, class_names=names, **columns)
    batch = next(iter(data.test_dataloader()))
    assert data.class_names == _NAMES
    assert batch["label"].tolist() == [0, 1, 2, 0, 1]
    torch.testing.assert_close(batch["image"][3], _preprocessed(_image(3), data))
    relative = _data(table.name, kind, data_dir=str(tmp_path), streaming=streaming, class_names=names, **columns)
    assert torch.equal(next(iter(relative.test_dataloader()))["image"], batch["image"])


def test_a_folder_with_tables_of_its_images_and_training_on_two_splits(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(6):
        _image(i).save(tmp_path / "images" / f"{i}.png")
    for split, rows in (("train", range(4)), ("test", range(4, 6))):
        lines = [f"images/{i}.png,{_NAMES[i // 2]}\n" for i in rows]
        (tmp_path / f"{split}.csv").write_text("image,label\n" + "".join(lines))
    options: Any = {"image_size": 8, "batch_size": 6, "val_fraction": 0.0}
    data = ImageDataModule(str(tmp_path), train_split="train+test", **options)
    assert data.class_names == _NAMES  # "cat" is in the test split alone
    (batch,) = data.train_dataloader()
    for row, label, image in zip(batch["index"].tolist(), batch["label"].tolist(), batch["image"], strict=True):
        assert label == row // 2
        torch.testing.assert_close(image, _preprocessed(_image(row), data))
    with pytest.raises(
        ValueError, match=r"train_split='train\+extra': the data has no such split; it has: train, test"
    ):
        ImageDataModule(str(tmp_path), train_split="train+extra", **options).setup("fit")


def test_a_streamed_split_gives_the_same_images(files: dict[str, str]) -> None:
    whole, streamed = _data(files), _data(files, streaming=True)
    for one, other in zip(whole.test_dataloader(), streamed.test_dataloader(), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


@pytest.mark.parametrize(
    "augment", [Augment(), Augment(crop="pad", padding=2, hflip=0.5, policy="trivial", erase=0.5)], ids=["none", "all"]
)
def test_cached_images_equal_images_read_each_time(files: dict[str, str], augment: Augment) -> None:
    cached, read = (_data(files, cache=cache, augment=augment) for cache in (True, False))
    assert isinstance(cached.examples_for("train"), CachedImages)
    assert not isinstance(read.examples_for("train"), CachedImages)
    loaders = cached.train_dataloader(), read.train_dataloader()
    for epoch in (0, 1):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        batches = list(zip(*loaders, strict=True))
        assert len(batches) == 5
        for one, other in batches:
            assert all(torch.equal(one[key], other[key]) for key in ("image", "label", "index"))


def test_images_are_cached_only_if_they_are_small_and_resized_first(files: dict[str, str]) -> None:
    def cached(role: Any, **options: Any) -> bool:
        return isinstance(_data(files, **options).examples_for(role), CachedImages)

    assert cached("train")
    assert cached("test", augment=Augment(crop="resized"))
    assert not cached("train", augment=Augment(crop="resized"))
    assert not cached("train", image_size=5000)
    assert not cached("test", cache=False)


@pytest.mark.parametrize("crop", ["none", "pad", "resized"])
def test_training_images_depend_on_seed_epoch_and_row_alone(files: dict[str, str], crop: Any) -> None:
    augment = Augment(crop=crop, hflip=0.5, policy="rand-m5-n1", erase=0.3)

    def images(epoch: int, seed: int = 1, workers: int = 0) -> dict[int, torch.Tensor]:
        random.seed(epoch + seed + workers)
        loader = _data(files, augment=augment, seed=seed, num_workers=workers, val_fraction=0.0).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return {row: image for batch in loader for row, image in zip(batch["index"].tolist(), batch["image"])}

    first = images(0)
    assert all(torch.equal(first[row], image) for row, image in images(0, workers=2).items())
    second, other = images(1), images(0, seed=2)
    assert any(not torch.equal(first[row], second[row]) for row in first.keys() & second.keys())
    assert any(not torch.equal(first[row], other[row]) for row in first.keys() & other.keys())


@pytest.mark.parametrize("crop", ["pad", "resized"])
def test_examples_can_be_pickled(files: dict[str, str], crop: Any) -> None:
    augment = Augment(crop=crop, policy="rand-m9-mstd0.5-inc1", color_jitter=0.2, erase=0.5)
    for examples in (_data(files, augment=augment).examples_for("train"), _data(files).examples_for("test")):
        copied = pickle.loads(pickle.dumps(examples))
        draw = Draw(3, [4, 0, 7])
        assert torch.equal(copied[draw]["image"], examples[draw]["image"])


def test_without_augmentation_training_images_equal_validation_images(files: dict[str, str]) -> None:
    data = _data(files, val_fraction=0.0)
    for batch in data.train_dataloader():
        for row, image in zip(batch["index"].tolist(), batch["image"]):
            torch.testing.assert_close(image, _preprocessed(_image(row), data))


def test_lists_of_labels(tmp_path: Path) -> None:
    labels = [[i % 3, (i + 1) % 3] if i % 4 else [] for i in range(9)]
    feature = datasets.List(datasets.ClassLabel(names=_NAMES))
    data = _data(_parquet(tmp_path / "train.parquet", 9, labels=labels, feature=feature), val_fraction=0.3)
    assert (data.num_classes, data.multi_label) == (3, True)
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        assert batch["label"].dtype == torch.float32
        for row, target in zip(batch["index"].tolist(), batch["label"]):
            assert target.nonzero().flatten().tolist() == sorted(labels[row])


def test_the_validation_part_has_the_same_shares_of_classes(tmp_path: Path) -> None:
    file = _parquet(tmp_path / "train.parquet", 40, labels=[0] * 20 + [1] * 12 + [2] * 8)
    data = _data(file, val_fraction=0.25, batch_size=10)
    (batch,) = data.val_dataloader()
    assert batch["label"].bincount().tolist() == [5, 3, 2]


def test_statistics_of_the_training_split(files: dict[str, str]) -> None:
    data = _data(files, preprocess=Preprocess(mean="auto", std="auto"), val_fraction=0.0)
    raw = _data(files, val_fraction=0.0, batch_size=31)
    (batch,) = raw.train_dataloader()
    mean, std = measured_statistics((batch["image"] * 255).round().byte())
    assert data.processor.mean == pytest.approx(mean)
    assert data.processor.std == pytest.approx(std)
    (batch,) = _data(files, preprocess=data.preprocess, val_fraction=0.0, batch_size=31).train_dataloader()
    assert batch["image"].mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-5)


def test_a_stream_is_not_measured(files: dict[str, str]) -> None:
    data = _data(files, streaming=True, preprocess=Preprocess(mean="auto"))
    with pytest.raises(ValueError, match="must be numbers where the data is streamed, got 'auto'"):
        data.processor  # noqa: B018


def test_the_digits_of_scikit_learn() -> None:
    data = ImageDataModule("sklearn/digits", image_size=8, channels=1, preprocess=Preprocess(mean=[0.0], std=[1.0]))
    assert data.class_names == list("0123456789")
    parts = {role: data.examples_for(role) for role in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert {role: len(part) for role, part in parts.items()} == {"train": 1257, "validation": 180, "test": 360}
    images = [example.images.flatten(1).tolist() for example in parts.values()]  # type: ignore[union-attr]
    together = {tuple(image) for part in images for image in part}
    assert len(together) == 1797
    labels = torch.cat([batch["label"] for batch in data.test_dataloader()])
    assert min(labels.bincount()) >= 34
    image = next(iter(data.test_dataloader()))["image"]
    assert (image * 16).sub((image * 16).round()).abs().max() < 0.05
    assert image.max() == 1
    again = ImageDataModule("sklearn/digits", seed=5).split_for("test").rows[3]["image"]["bytes"]
    assert again == data.split_for("test").rows[3]["image"]["bytes"]


def _with_broken(tmp_path: Path, *broken: int, rows: int = 31) -> str:
    file = tmp_path / "train.csv"
    for i in range(rows):
        _image(i).save(tmp_path / f"{i}.png")
    for i in broken:
        (tmp_path / f"{i}.png").write_bytes(b"broken")
    file.write_text("image,label\n" + "".join(f"{i}.png,{_NAMES[i % 3]}\n" for i in range(rows)))
    return str(file)


@pytest.mark.parametrize("cache", [True, False])
def test_a_broken_image_stops_the_run_and_is_named(tmp_path: Path, cache: bool) -> None:
    data = _data(_with_broken(tmp_path, 4), "csv", cache=cache, val_fraction=0.0)
    message = f"split 'train', row 4: the image '{tmp_path / '4.png'}' cannot be decoded: .*--data.on_bad_image skip"
    with pytest.raises(ReadError, match=message):
        list(data.train_dataloader())


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("crop", ["none", "resized"])
def test_broken_images_are_skipped_and_counted(tmp_path: Path, cache: bool, crop: Any) -> None:
    options = {"cache": cache and crop == "none", "augment": Augment(crop=crop), "val_fraction": 0.0}
    data = _data(_with_broken(tmp_path, 4, 5, 19), "csv", on_bad_image="skip", batch_size=31, **options)
    (batch,) = data.train_dataloader()
    assert len(batch["index"]) == (28 if options["cache"] else 31)
    assert not {4, 5, 19} & set(batch["index"].tolist())
    assert batch["label"].tolist() == [row % 3 for row in batch["index"].tolist()]
    assert data.skipped == {"train": 3}


def test_broken_images_of_an_evaluation_are_left_out(tmp_path: Path) -> None:
    file = _with_broken(tmp_path, 4, rows=9)
    options = {"cache": False, "on_bad_image": "skip", "test_split": "train"}
    data = _data(file, "csv", class_names=_NAMES, **options)
    rows = [row for batch in data.test_dataloader() for row in batch["index"].tolist()]
    assert rows == [0, 1, 2, 3, 5, 6, 7, 8]
    assert data.skipped == {"test": 1}


def test_skipped_images_do_not_count_in_the_statistics(tmp_path: Path) -> None:
    data = _data(
        _with_broken(tmp_path, 4), "csv", on_bad_image="skip", preprocess=Preprocess(mean="auto"), val_fraction=0.0
    )
    assert 0.4 < data.processor.mean[0] < 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "img"}, "image_column='img': split 'train' has no such column; it has: image, label"),
        ({"label_column": "class"}, "label_column='class': split 'train' has no such column; it has: image, label"),
        ({"image_size": 0}, "image_size must be one side, or height and width, in pixels, got 0"),
        ({"image_size": (8, 8, 3)}, "image_size must be"),
        ({"channels": 4}, r"channels must be 1 \(grayscale\) or 3 \(RGB\), got 4"),
        ({"on_bad_image": "ignore"}, "on_bad_image must be 'error' or 'skip', got 'ignore'"),
        (
            {"cache": True, "augment": Augment(crop="resized")},
            "cache must be auto or false where images are cropped at random",
        ),
        ({"preprocess": Preprocess(mean=[0.5])}, "preprocess.mean must be .* one number for each of 3 channels"),
        ({"class_names": ["a"]}, "class_names must have 3 names"),
        ({"label_column": "image"}, r"label_column must be a column of class labels .*, got \'image\'"),
    ],
)
def test_invalid_arguments(files: dict[str, str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _data(files, **options).setup("fit")


def test_a_label_outside_the_classes_names_its_row(tmp_path: Path) -> None:
    bad = _parquet(tmp_path / "test.parquet", 4, labels=[0, 1, -1, 2])
    data = _data({"train": _parquet(tmp_path / "train.parquet", 5), "test": bad}, val_fraction=0.0)
    data.setup("fit")
    with pytest.raises(ValueError, match="split 'test', row 2: label -1 in column 'label' is not one of the 3 classes"):
        data.setup("test")


def test_classes_come_from_the_training_split(tmp_path: Path) -> None:
    text = datasets.Value("string")
    files = {
        "train": _parquet(tmp_path / "train.parquet", 3, labels=["b", "a", "b"], feature=text),
        "test": _parquet(tmp_path / "test.parquet", 2, labels=["b", "c"], feature=text),
    }
    data = _data(files, val_fraction=0.0)
    assert data.class_names == ["a", "b"]
    with pytest.raises(ValueError, match="split 'test', row 1: label 'c'"):
        data.setup("test")
    only_test = _data({"test": files["test"]})
    with pytest.raises(ValueError, match=r"does not tell its classes.*Give class_names"):
        only_test.setup("test")
    assert _data({"test": files["test"]}, class_names=["b", "c"]).examples_for("test")[0]["label"].tolist() == [0]


def _parsed(*arguments: str) -> ImageDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    return parser.instantiate(parser.parse_args(["--data=ImageDataModule", "--data.path=parquet", *arguments])).data


@pytest.mark.parametrize(
    ("option", "attribute", "value"),
    [
        ("channels=1", "channels", 1),
        ("image_size=32", "image_size", (32, 32)),
        ("image_size=[32,24]", "image_size", (32, 24)),
        ("on_bad_image=skip", "on_bad", "skip"),
        ("cache=false", "cache", False),
        ("cache=true", "cache", True),
        ("streaming=true", "source.streaming", True),
        ("val_split=dev", "val_split", "dev"),
        ("images=[a.png,b.png]", "images", ["a.png", "b.png"]),
        ("images=folder", "images", "folder"),
        ("preprocess.mean=auto", "preprocess.mean", "auto"),
        ("preprocess.std=[0.5]", "preprocess.std", [0.5]),
        ("preprocess.interpolation=nearest", "preprocess.interpolation", "nearest"),
        ("preprocess.interpolation=lanczos", "preprocess.interpolation", "lanczos"),
        ("preprocess.crop_mode=squash", "preprocess.crop_mode", "squash"),
        ("preprocess.crop_mode=border", "preprocess.crop_mode", "border"),
        ("augment.crop=pad", "augment.crop", "pad"),
        ("augment.crop=resized", "augment.crop", "resized"),
        ("augment.scale=[0.2,0.9]", "augment.scale", (0.2, 0.9)),
        ("augment.policy=trivial", "augment.policy", "trivial"),
        ("loading.persistent_workers=false", "loading.persistent_workers", False),
    ],
)
def test_options_reach_the_module_from_the_command_line(option: str, attribute: str, value: Any) -> None:
    found: Any = _parsed(f"--data.{option}")
    for name in attribute.split("."):
        found = getattr(found, name)
    assert found == value


def test_local_files_replace_a_hub_name(tmp_path: Path, files: dict[str, str]) -> None:
    recipe = {"class_path": "ImageDataModule", "init_args": {"path": "nobody/images", "image_size": 8}}
    arguments = [f"--data.data_files.{split}={file}" for split, file in files.items()]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    config = parser.parse_args([f"--data={json.dumps(recipe)}", "--data.path=parquet", *arguments])
    data = parser.instantiate(config).data
    assert len(data.split_for("test")) == 13
    assert data.hparams["data_files"] == files
