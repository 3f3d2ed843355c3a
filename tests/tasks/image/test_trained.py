"""An evaluation takes normalization and classes from the task that was trained, whatever data it is given."""

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command_line import TINY, softformer
from keeping import Keeping
from PIL import Image
from tiny_images import TinyImages
from toy_rows import quiet_trainer
from training_runs import classifier, trained_checkpoint

from softformer.training.checkpoints.loading import load
from tasks.image.data import ImageDataModule
from tasks.image.processor import ImageProcessor
from tasks.image.transforms import Preprocess

pytestmark = pytest.mark.usefixtures("own_cache")

_TRAINED = ImageProcessor(
    image_size=(9, 9),
    channels=3,
    mean=[0.1, 0.2, 0.3],
    std=[0.4, 0.5, 0.6],
    interpolation="bicubic",
    crop_pct=0.5,
    crop_mode="squash",
    class_names=["ant", "bee", "cat"],
)


def _image(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (11, 7, 3), dtype=np.uint8))


def _only_test(tmp_path: Path, labels: list[Any], feature: Any, **options: Any) -> ImageDataModule:
    """A module whose data has a test split alone, and that would have to measure a training split."""
    features = datasets.Features({"image": datasets.Image(), "label": feature})
    content = {"image": [_image(row) for row in range(len(labels))], "label": labels}
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "test.parquet")
    settings = {"image_size": 8, "batch_size": 3, "preprocess": Preprocess(mean="auto", std="auto")}
    return ImageDataModule("parquet", data_files={"test": str(tmp_path / "test.parquet")}, **{**settings, **options})


def _tested(data: ImageDataModule) -> dict[str, torch.Tensor]:
    task = Keeping()
    quiet_trainer().test(task, data, verbose=False)
    return {key: torch.cat([batch[key] for batch in task.batches]) for key in ("image", "label")}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("labels", "feature", "known", "expected"),
    [
        ([1, 0, 1, 1], datasets.ClassLabel(names=["cat", "ant"]), ["ant", "bee", "cat"], [0, 2, 0, 0]),
        ([0, 2, 1, 1], datasets.ClassLabel(names=["ant", "bee", "cat"]), ["ant", "bee", "cat"], [0, 2, 1, 1]),
        (["cat", "ant", "cat", "bee"], datasets.Value("string"), ["ant", "bee", "cat"], [2, 0, 2, 1]),
        ([2, 1, 0, 0], datasets.Value("int32"), ["ant", "bee", "cat"], [2, 1, 0, 0]),
        ([30, 7, 7, 30], datasets.Value("int32"), ["7", "9", "30"], [2, 0, 0, 2]),
    ],
    ids=["some of the classes", "all", "strings", "numbers", "numbers as names"],
)
def test_mean_std_and_classes_are_those_of_the_task(
    tmp_path: Path, labels: list[Any], feature: Any, known: list[str], expected: list[int], streaming: bool
) -> None:
    data = _only_test(tmp_path, labels, feature, streaming=streaming, processor=_TRAINED.replace(class_names=known))
    found = _tested(data)
    assert found["label"].tolist() == expected
    # Size and cropping are those of the data, where it is given them.
    own = ImageProcessor((8, 8), 3, mean=_TRAINED.mean, std=_TRAINED.std)
    torch.testing.assert_close(found["image"], own([_image(row) for row in range(len(labels))]))
    assert (data.num_classes, data.class_names) == (3, known)


def test_size_and_cropping_are_those_of_the_task_by_default(tmp_path: Path) -> None:
    options = {"image_size": None, "preprocess": None, "processor": _TRAINED}
    data = _only_test(tmp_path, ["cat", "ant"], datasets.Value("string"), **options)
    assert data.processor == _TRAINED
    torch.testing.assert_close(_tested(data)["image"], _TRAINED([_image(0), _image(1)]))


def test_lists_of_labels_are_found_by_name(tmp_path: Path) -> None:
    feature = datasets.List(datasets.ClassLabel(names=["cat", "ant"]))
    found = _tested(_only_test(tmp_path, [[0, 1], [], [1]], feature, processor=_TRAINED))
    assert found["label"].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_unknown_classes_are_an_error(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["ant", "yak", "cat"])
    message = (
        r"the data has 1 classes that the task was not trained on: \('yak'\); it knows the 3 classes "
        r"\('ant', 'bee', 'cat'\).*class_names"
    )
    with pytest.raises(ValueError, match=message):
        _tested(_only_test(tmp_path, [0, 1, 2], names, processor=_TRAINED))
    renamed = _only_test(tmp_path, [0, 1, 2], names, class_names=["cat", "bee", "ant"], processor=_TRAINED)
    assert _tested(renamed)["label"].tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match=r"row 1: label 'yak' .* is not one of the 3 classes \('ant', 'bee', 'cat'\)"):
        _tested(_only_test(tmp_path, ["ant", "yak"], datasets.Value("string"), processor=_TRAINED))


def test_another_number_of_channels_is_an_error(tmp_path: Path) -> None:
    message = r"channels must be 3, with which the task was trained, got 1; leave channels out"
    with pytest.raises(ValueError, match=message):
        _only_test(tmp_path, [0, 1], datasets.ClassLabel(names=["ant", "bee"]), channels=1, processor=_TRAINED)


def test_data_of_different_tasks(tmp_path: Path) -> None:
    preprocess = Preprocess(mean=[0.0] * 3, std=[1.0] * 3)

    def tested(processor: ImageProcessor | None) -> dict[str, torch.Tensor]:
        names = datasets.ClassLabel(names=["bee", "cat"])
        return _tested(_only_test(tmp_path, [0, 1, 1], names, preprocess=preprocess, processor=processor))

    assert tested(None)["label"].tolist() == [0, 1, 1]
    one, other = tested(_TRAINED), tested(_TRAINED.replace(mean=[0.0] * 3, class_names=["cat", "bee"]))
    assert one["label"].tolist() == [1, 2, 2]
    assert other["label"].tolist() == [1, 0, 0]
    assert not torch.equal(one["image"], other["image"])


def test_a_task_without_a_processor_takes_that_of_the_data(tmp_path: Path) -> None:
    for run in ("fit", "test", "validate"):
        task = classifier()
        options = {"verbose": False} if run != "fit" else {}
        getattr(quiet_trainer(max_epochs=1), run)(task, datamodule=TinyImages(), **options)
        assert task.processor == task.hparams["processor"] == TinyImages().processor
        assert task.class_labels()[1] == "column 1"


def test_a_checkpoint_wins_over_the_processor_of_the_task(tmp_path: Path) -> None:
    path = trained_checkpoint(tmp_path)
    task = classifier(processor=TinyImages().processor.replace(class_names=list("abcdefg")))
    quiet_trainer().test(task, TinyImages(), ckpt_path=str(path), verbose=False)
    assert task.class_labels()[1] == "column 1"


class Renamed(TinyImages):
    """Other names of the classes."""

    @property
    def processor(self) -> ImageProcessor:
        return super().processor.replace(class_names=list("abcdefg"))


class Brighter(TinyImages):
    """Another normalization."""

    @property
    def processor(self) -> ImageProcessor:
        return super().processor.replace(mean=[0.5] * 3)


class Larger(TinyImages):
    """Another size."""

    @property
    def processor(self) -> ImageProcessor:
        return super().processor.replace(image_size=(64, 64))


class FiveClasses(TinyImages):
    """No processor."""

    processor = None  # type: ignore[assignment]
    num_classes = 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            Renamed,
            r"class_names is \('a', .*\) in the data and \('column 0', .*build the data with processor=task.proc",
        ),
        (Brighter, r"Brighter must prepare its inputs as .*: mean is \[0.5, .* in the data and \[0.0, .* in the task"),
        (FiveClasses, r"the data must have the 7 classes of the network, got 5"),
    ],
)
@pytest.mark.parametrize("run", ["fit", "validate", "test"])
def test_data_of_another_normalization_are_refused(
    tmp_path: Path, data: type[TinyImages], message: str, run: str
) -> None:
    task = load(trained_checkpoint(tmp_path))
    with pytest.raises(ValueError, match=message):
        getattr(quiet_trainer(max_epochs=1), run)(task, datamodule=data())


def test_images_of_another_size_are_accepted(tmp_path: Path) -> None:
    task = load(trained_checkpoint(tmp_path))
    quiet_trainer().test(task, Larger(), verbose=False)
    assert task.processor.image_size == (32, 32)


def _folder(folder: Path, names: list[str], brightness: int = 0) -> Path:
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for row in range(6):
            pixels = np.random.default_rng(10 * number + row).integers(0, 100, (33, 32, 3)) + brightness
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{row}.png")
    return folder


def _report(folder: Path) -> dict[str, int]:
    with (folder / "class_report_test.csv").open() as file:
        return {row["class"]: int(float(row["support"])) for row in csv.DictReader(file)}


def test_on_the_command_line_a_checkpoint_meets_other_data(tmp_path: Path) -> None:
    recipe = tmp_path / "pets.yaml"
    recipe.write_text(
        "{data: {class_path: ImageDataModule, init_args: {path: imagefolder, image_size: 32, batch_size: 5,"
        " data_dir: all, val_fraction: 0.25, preprocess: {mean: auto, std: auto}}}}"
    )
    _folder(tmp_path / "all" / "train", ["ant", "bee", "cat"])
    _folder(tmp_path / "some", ["bee", "cat"], brightness=150)
    _folder(tmp_path / "other", ["bee", "cat", "yak"])
    model = [*TINY[:2], *TINY[4:], "--trainer.max_epochs", "1"]
    outcome = softformer(tmp_path, "fit", *model, "--config", "pets.yaml")
    assert outcome.code == 0, outcome.err
    best = tmp_path / "runs" / "pets" / "checkpoints" / "best.ckpt"
    checkpoint = ["--ckpt_path", str(best), "--trainer.accelerator", "cpu"]
    task = load(best)
    files = [file for name in ("bee", "cat") for file in sorted((tmp_path / "some" / name).iterdir())]
    with torch.no_grad():
        loss = F.cross_entropy(task(task.processor(files)), torch.tensor([1] * 6 + [2] * 6)).item()
    new = ["--data.path", "imagefolder", "--data.data_files.test", "**", "--data.data_dir"]
    for given in ([], ["--config", "pets.yaml"]):
        outcome = softformer(tmp_path, "test", *given, *checkpoint, *new, "some")
        assert outcome.code == 0, outcome.err
        figures = json.loads((tmp_path / "runs" / "pets" / "results.json").read_text())
        assert figures["test"]["loss"] == pytest.approx(loss, abs=1e-4)
        assert _report(tmp_path / "runs" / "pets") == {"ant": 0, "bee": 6, "cat": 6}
    outcome = softformer(tmp_path, "test", *checkpoint, *new, "other")
    assert outcome.code == 2
    assert (
        "1 classes that the task was not trained on: ('yak'); it knows the 3 classes ('ant', 'bee', 'cat')"
        in outcome.err
    )
