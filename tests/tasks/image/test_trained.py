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
from tasks.image.transforms import Preprocess, eval_transform

pytestmark = pytest.mark.usefixtures("own_cache")

_TRAINED = {
    "image_size": [9, 9],
    "channels": 3,
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "interpolation": "bicubic",
    "crop_pct": 0.5,
    "crop_mode": "squash",
    "class_names": ["ant", "bee", "cat"],
}


def _picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (11, 7, 3), dtype=np.uint8))


def _only_test(tmp_path: Path, labels: list[Any], feature: Any, **options: Any) -> ImageDataModule:
    """A module whose data has a test split alone, and that would have to measure a training split."""
    features = datasets.Features({"image": datasets.Image(), "label": feature})
    content = {"image": [_picture(row) for row in range(len(labels))], "label": labels}
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "test.parquet")
    settings = {"image_size": 8, "batch_size": 3, "preprocess": Preprocess(mean="auto", std="auto")}
    return ImageDataModule("parquet", data_files={"test": str(tmp_path / "test.parquet")}, **{**settings, **options})


def _tested(data: ImageDataModule, settings: dict[str, Any] | None = _TRAINED) -> dict[str, torch.Tensor]:
    task = Keeping(settings)
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
    data = _only_test(tmp_path, labels, feature, streaming=streaming)
    found = _tested(data, {**_TRAINED, "class_names": known})
    assert found["label"].tolist() == expected
    own = {**data._geometry, "mean": _TRAINED["mean"], "std": _TRAINED["std"]}  # size and cropping are the data's
    for row, image in enumerate(found["image"]):
        torch.testing.assert_close(image, eval_transform(own)(_picture(row)))
    assert (data.num_classes, data.class_names) == (3, known)


def test_several_labels_are_found_by_name(tmp_path: Path) -> None:
    feature = datasets.List(datasets.ClassLabel(names=["cat", "ant"]))
    found = _tested(_only_test(tmp_path, [[0, 1], [], [1]], feature))
    assert found["label"].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_classes_that_the_task_does_not_know_are_an_error(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["ant", "yak", "cat"])
    message = (
        r"the data has 1 classes that the task was not trained on: \('yak'\); it knows the 3 classes "
        r"\('ant', 'bee', 'cat'\).*class_names"
    )
    with pytest.raises(ValueError, match=message):
        _tested(_only_test(tmp_path, [0, 1, 2], names))
    renamed = _only_test(tmp_path, [0, 1, 2], names, class_names=["cat", "bee", "ant"])
    assert _tested(renamed)["label"].tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match=r"row 1: label 'yak' .* is not one of the 3 classes \('ant', 'bee', 'cat'\)"):
        _tested(_only_test(tmp_path, ["ant", "yak"], datasets.Value("string")))


def test_another_number_of_channels_is_an_error(tmp_path: Path) -> None:
    data = _only_test(tmp_path, [0, 1], datasets.ClassLabel(names=["ant", "bee"]), channels=1)
    with pytest.raises(ValueError, match=r"channels: expected 3, with which the task was trained, got 1; leave it out"):
        _tested(data)


def test_data_that_serve_one_task_after_another(tmp_path: Path) -> None:
    preprocess = Preprocess(mean=[0.0] * 3, std=[1.0] * 3)
    data = _only_test(tmp_path, [0, 1, 1], datasets.ClassLabel(names=["bee", "cat"]), preprocess=preprocess)
    first = data.examples_for("test")
    assert _tested(data, None)["label"].tolist() == [0, 1, 1]
    assert data.examples_for("test") is first  # a task that knows nothing changes nothing
    one = _tested(data)
    assert one["label"].tolist() == [1, 2, 2]
    other = _tested(data, {**_TRAINED, "mean": [0.0] * 3, "class_names": ["cat", "bee"]})
    assert other["label"].tolist() == [1, 0, 0]
    assert not torch.equal(one["image"], other["image"])


def test_a_task_learns_from_the_data_what_no_checkpoint_told() -> None:
    for evaluate in ("test", "validate"):
        task = classifier()
        getattr(quiet_trainer(), evaluate)(task, TinyImages(), verbose=False)
        assert task.input_settings == TinyImages().input_settings()
        assert task.class_labels()[1] == "column 1"


def test_a_checkpoint_wins_over_what_the_task_learned_before(tmp_path: Path) -> None:
    path = trained_checkpoint(tmp_path)
    task = classifier()
    task.input_settings = {**TinyImages().input_settings(), "class_names": list("abcdefg")}
    quiet_trainer().test(task, TinyImages(), ckpt_path=str(path), verbose=False)
    assert task.class_labels()[1] == "column 1"


def test_data_with_other_classes_are_refused(tmp_path: Path) -> None:
    class Renamed(TinyImages):
        def input_settings(self) -> dict[str, Any]:
            return {**super().input_settings(), "class_names": list("abcdefg")}

    class Silent(TinyImages):
        input_settings = None  # type: ignore[assignment]

        @property
        def num_classes(self) -> int:
            return 5

    task = load(trained_checkpoint(tmp_path))
    with pytest.raises(
        ValueError, match=r"must have the classes that the task was trained on, \('column 0', .*got \('a'"
    ):
        quiet_trainer().test(task, Renamed(), verbose=False)
    with pytest.raises(ValueError, match=r"the data must have the 7 classes of the network, got 5"):
        quiet_trainer().validate(task, Silent(), verbose=False)


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
    prepare = eval_transform(task.input_settings)
    images = [
        prepare(Image.open(file)) for name in ("bee", "cat") for file in sorted((tmp_path / "some" / name).iterdir())
    ]
    with torch.no_grad():
        loss = F.cross_entropy(task(torch.stack(images)), torch.tensor([1] * 6 + [2] * 6)).item()
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
