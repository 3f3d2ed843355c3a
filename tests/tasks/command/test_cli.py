"""The command line from a fit to predictions: what it writes, and what a checkpoint needs."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_line import TINY, softformer
from lightning.pytorch import Trainer
from PIL import Image

from softformer.models.checkpoint_keys import DATA_KEY
from softformer.training.checkpoints.loading import load
from softformer.training.run.logger import read_metrics
from tasks.command.request import read_request

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run named `first` of two epochs lies, tested at its end."""
    folder = tmp_path_factory.mktemp("trained")
    options = ["--run.name", "first", "--run.test_after_fit", "true"]
    options += ["--trainer.max_epochs", "2", "--model.label_smoothing", "0.25"]
    outcome = softformer(folder, "fit", *TINY, *options)
    assert outcome.code == 0, outcome.err
    assert "results of runs/first:" in outcome.out
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """That folder, to change."""
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


def results(folder: Path, name: str = "first") -> dict[str, Any]:
    return json.loads((folder / "runs" / name / "results.json").read_text())


def test_a_run_leaves_one_folder(trained: Path) -> None:
    files = {str(path.relative_to(trained / "runs")) for path in (trained / "runs").rglob("*") if path.is_file()}
    assert files == {
        f"first/{name}"
        for name in (
            "checkpoints/best.ckpt",
            "checkpoints/last.ckpt",
            "class_report_test.csv",
            "class_report_val.csv",
            "config.yaml",
            "confusion_matrix_test.png",
            "confusion_matrix_val.png",
            "learning_curves.png",
            "manifest.txt",
            "metrics.csv",
            "results.json",
            "results.md",
        )
    }
    assert [path.name for path in trained.iterdir()] == ["runs"]
    figures = results(trained)
    assert set(figures) == {"val", "test", "run"}
    assert {"accuracy", "loss", "top5_accuracy"} < set(figures["val"])
    assert figures["run"]["steps"] == 8
    assert f"| accuracy | {figures['val']['accuracy']:.4f} |" in (trained / "runs/first/results.md").read_text()


def test_the_test_figures_are_those_of_the_best_checkpoint(trained: Path, copy: Path) -> None:
    outcome = softformer(
        copy, "test", "--ckpt_path", "runs/first/checkpoints/best.ckpt", "--trainer.accelerator", "cpu"
    )
    assert outcome.code == 0, outcome.err
    assert results(copy) == results(trained)


def test_the_resolved_configuration_repeats_the_run(trained: Path, copy: Path) -> None:
    config = yaml.safe_load((trained / "runs/first/config.yaml").read_text())
    assert config["model"]["init_args"]["encoder"]["init_args"]["name"] == "test_vit"
    assert config["ckpt_path"] is None
    outcome = softformer(copy, "fit", "--config", "runs/first/config.yaml", "--run.name", "second")
    assert outcome.code == 0, outcome.err
    weights = [load(copy / f"runs/{name}/checkpoints/last.ckpt").state_dict() for name in ("first", "second")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_checkpoint_alone_is_enough(trained: Path, tmp_path: Path) -> None:
    path = str(trained / "runs/first/checkpoints/best.ckpt")
    alone = str(shutil.copy(path, tmp_path / "alone.ckpt"))
    for command, part in (("validate", "val"), ("test", "test")):
        outcome = softformer(tmp_path, command, "--ckpt_path", alone, "--trainer.accelerator", "cpu")
        assert outcome.code == 0, outcome.err
        assert results(tmp_path, "run")[part]["accuracy"] == results(trained)[part]["accuracy"]


def test_a_validation_of_the_best_checkpoint_repeats_its_figures(trained: Path, copy: Path) -> None:
    args = ["--run.name", "first", "--trainer.accelerator", "cpu"]
    outcome = softformer(copy, "validate", "--ckpt_path", "best", *args)
    assert outcome.code == 0, outcome.err
    assert "epoch" in results(copy)["val"]
    assert results(copy)["val"] == pytest.approx(results(trained)["val"])


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["--ckpt_path", "runs/first/checkpoints/last.ckpt"], "first-evaluation"),
        (["--ckpt_path", "runs/first/checkpoints/best.ckpt", "--run.name", "other"], "other"),
    ],
)
def test_the_figures_of_a_run_are_those_of_its_best_checkpoint(
    trained: Path, copy: Path, args: list[str], name: str
) -> None:
    """Those of another checkpoint go beside it, and so does whatever the command line gives a name."""
    for command in ("validate", "test"):
        outcome = softformer(copy, command, *args, "--trainer.accelerator", "cpu")
        assert outcome.code == 0, outcome.err
    assert results(copy) == results(trained)
    assert set(results(copy, name)) == {"val", "test"}
    assert (copy / "runs" / name / "class_report_test.csv").is_file()


def test_an_evaluation_of_elsewhere_spares_the_runs(trained: Path, copy: Path, tmp_path: Path) -> None:
    alone = str(shutil.copy(trained / "runs/first/checkpoints/best.ckpt", tmp_path / "alone.ckpt"))
    outcome = softformer(copy, "test", "--ckpt_path", alone, "--run.name", "first", "--trainer.accelerator", "cpu")
    assert outcome.code == 0, outcome.err
    assert results(copy) == results(trained)
    assert set(results(copy, "first-evaluation")) == {"test"}


def test_predictions(trained: Path, copy: Path) -> None:
    outcome = softformer(
        copy,
        "predict",
        "--run.name",
        "first",
        "--ckpt_path",
        "best",
        "--output",
        "out/p.csv",
        "--trainer.accelerator",
        "cpu",
    )
    assert outcome.code == 0, outcome.err
    assert "13 predictions written to out/p.csv" in outcome.out
    rows = list(csv.DictReader((copy / "out/p.csv").open()))
    assert len(rows) == 13
    assert list(rows[0]) == ["file", *(f"{what}_{place}" for place in range(1, 6) for what in ("class", "probability"))]
    assert rows[0]["class_1"].startswith("column ")
    assert float(rows[0]["probability_1"]) >= float(rows[0]["probability_2"])


def test_resume_goes_on_in_the_same_folder(copy: Path) -> None:
    before = read_metrics(copy / "runs/first/metrics.csv")
    outcome = softformer(copy, "fit", "--run.name", "first", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert outcome.code == 0, outcome.err
    after = read_metrics(copy / "runs/first/metrics.csv")
    assert after[: len(before) - 1] == before[:-1]  # without the test, whose place was the end
    assert max(row["step"] for row in after) == 12
    assert results(copy)["run"]["epochs"] == 3
    assert [path.name for path in (copy / "runs").iterdir()] == ["first"]


def test_resuming_a_run_that_has_ended_loses_nothing(copy: Path) -> None:
    before = read_metrics(copy / "runs/first/metrics.csv")
    outcome = softformer(copy, "fit", "--run.name", "first", "--ckpt_path", "last", "--run.test_after_fit", "true")
    assert outcome.code == 0, outcome.err
    after = read_metrics(copy / "runs/first/metrics.csv")
    assert len(before) > 3
    assert after[: len(before) - 1] == before[:-1]
    assert "test/accuracy" in after[-1]


def test_overwriting(copy: Path) -> None:
    options = [*TINY, "--run.name", "first", "--trainer.max_epochs", "1", "--run.overwrite", "true"]
    outcome = softformer(copy, "fit", *options)
    assert outcome.code == 0, outcome.err
    assert set(results(copy)) == {"val", "run"}
    assert not list((copy / "runs" / "first").glob("*_test.*"))
    outcome = softformer(copy, "fit", *options, "--model.encoder.name", "no_such_model")
    assert outcome.code == 2
    assert set(results(copy)) == {"val", "run"}  # a mistake deletes nothing
    failing = ["--trainer.callbacks", "DeviceStatsMonitor", "--trainer.logger", "false"]
    outcome = softformer(copy, "fit", *options, *failing)
    assert outcome.code == 2
    assert "DeviceStatsMonitor" in outcome.err
    assert set(results(copy)) == {"val", "run"}  # nor one that shows while training is prepared
    assert (copy / "runs/first/checkpoints/best.ckpt").is_file()
    assert not yaml.safe_load((copy / "runs/first/config.yaml").read_text())["run"]["overwrite"]


def test_averaged_weights_are_what_is_tested(tmp_path: Path) -> None:
    recipe = tmp_path / "averaged.yaml"
    recipe.write_text(
        "{trainer: {callbacks: [{class_path: EMAWeightAveraging, init_args: {decay: 0.9}}], max_epochs: 2},"
        " model: {init_args: {optimizer: {lr: 3.0e-3}}}, run: {test_after_fit: true}}"
    )
    outcome = softformer(tmp_path, "fit", *TINY, "--config", "averaged.yaml")
    assert outcome.code == 0, outcome.err
    figures = results(tmp_path, "averaged")["test"]
    checkpoint = "runs/averaged/checkpoints/best.ckpt"
    outcome = softformer(tmp_path, "test", "--ckpt_path", checkpoint, "--trainer.accelerator", "cpu")
    assert outcome.code == 0, outcome.err
    assert results(tmp_path, "averaged")["test"] == figures


def test_the_best_checkpoint_is_tested_whatever_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[str] = []

    def test(self: Trainer, *args: Any, ckpt_path: str, **kwargs: Any) -> None:
        tested.append(ckpt_path)

    monkeypatch.setattr(Trainer, "test", test)
    (tmp_path / "own.yaml").write_text(
        "{trainer: {callbacks: [{class_path: OnExceptionCheckpoint, init_args: {dirpath: broken}},"
        " {class_path: ModelCheckpoint, init_args: {dirpath: latest}}]}, run: {test_after_fit: true}}"
    )
    outcome = softformer(tmp_path, "fit", *TINY, "--config", "own.yaml", "--trainer.max_epochs", "1")
    assert outcome.code == 0, outcome.err
    assert list((tmp_path / "latest").iterdir())
    assert [Path(path).parts[-3:] for path in tested] == [("own", "checkpoints", "best.ckpt")]


def test_without_checkpoints_the_last_weights_are_tested(tmp_path: Path) -> None:
    options = ["--run.test_after_fit", "true", "--trainer.max_epochs", "1", "--trainer.enable_checkpointing", "false"]
    outcome = softformer(tmp_path, "fit", *TINY, *options)
    assert outcome.code == 0, outcome.err
    assert set(results(tmp_path, "run")) == {"val", "test", "run"}
    assert not (tmp_path / "runs/run/checkpoints").exists()


def test_a_checkpoint_replaces_the_weights_of_a_recipe(copy: Path) -> None:
    start = shutil.copy(copy / "runs/first/checkpoints/best.ckpt", copy / "start.ckpt")
    options = [*TINY, "--model.weights", str(start), "--run.name", "second", "--trainer.max_epochs", "1"]
    outcome = softformer(copy, "fit", *options)
    assert outcome.code == 0, outcome.err
    assert "tensors loaded from" in outcome.out
    config = copy / "runs/second/config.yaml"
    Path(start).unlink()
    outcome = softformer(copy, "fit", "--config", str(config), "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(config.read_text())["model"]["init_args"]["weights"] == str(start)


def test_help_names_the_commands(tmp_path: Path) -> None:
    text = softformer(tmp_path, "--help").out
    assert "softformer fit --config image/digits" in text
    assert all(name in text for name in ("Train by a recipe", "Classify or transcribe files"))
    text = softformer(tmp_path, "fit", "--model.help", "ImageClassifier").out
    assert "--model.label_smoothing" in text
    assert "--model.optimizer.lr" in text


def test_as_a_program_on_real_images(tmp_path: Path) -> None:
    """The digits, from a shipped recipe to a CSV file, in processes of their own; without the recipe at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "softformer", *args, "--trainer.accelerator", "cpu"]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)

    smoke = ("--config", "trainer/cpu_smoke", "--data.batch_size", "7")
    done = run("fit", "--config", "image/digits", *smoke)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert not any(noise in done.stderr for noise in ("litlogger", "litmodels", "treespec", "Traceback"))
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("L", (9 + number, 8), 40 * number).save(tmp_path / "images" / f"{number}.png")
    done = run("predict", "--ckpt_path", "runs/smoke/checkpoints/best.ckpt", "--data.images", "images")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1.png", "2.png"]
    guesses = load(tmp_path / "runs/smoke/checkpoints/best.ckpt").predict(tmp_path / "images" / "1.png")  # type: ignore[operator]
    assert guesses[0][0].label == rows[1]["class_1"]
    assert guesses[0][0].probability == pytest.approx(float(rows[1]["probability_1"]), abs=1e-5)
    done = run("predict", "--ckpt_path", "nothing.ckpt")
    assert done.returncode == 2
    assert done.stderr == "softformer: error: there is no checkpoint at nothing.ckpt\n"


def test_the_processor_is_not_in_the_configuration(trained: Path) -> None:
    """So that it is also a recipe for other data."""
    config = yaml.safe_load((trained / "runs/first/config.yaml").read_text())
    assert "processor" not in config["model"]["init_args"]
    assert "processor" not in config["data"]["init_args"]
    assert config["model"]["init_args"]["num_classes"] is None


def test_another_data_set_is_read_whole(trained: Path, tmp_path: Path) -> None:
    """What a checkpoint says of files within its data set is left out where the command line names another."""
    content = torch.load(trained / "runs/first/checkpoints/best.ckpt", weights_only=True)
    content[DATA_KEY]["init_args"] |= {"path": "imagefolder", "data_dir": "pictures", "image_column": "image"}
    torch.save(content, tmp_path / "best.ckpt")
    args = ["--ckpt_path", str(tmp_path / "best.ckpt")]
    same, other = ["--data.path", "imagefolder"], ["--data.path=sklearn/digits"]
    for more, kept in (([], True), (same, True), (other, False), ([*other, *same], True), ([*same, *other], False)):
        layer = json.loads(read_request([*args, *more]).layer("test")[1])
        assert ("data_dir" in layer["data"]["init_args"]) == kept
        assert layer["data"]["init_args"]["image_column"] == "image"
