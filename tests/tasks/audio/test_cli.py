"""Audio classification from the command line: train, test, and predict on folders of recordings."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from command_line import softformer
from tones import NAMES, RATE, write_tones

import softformer as package
from softformer.models.audio.augment import AudioAugment
from softformer.models.audio.windows import Windows

QUIET = [
    *("--trainer.accelerator", "cpu", "--trainer.num_sanity_val_steps", "0", "--trainer.max_epochs", "2"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]
MODEL = [
    *("--model", "AudioClassifier", "--model.encoder", "SoftEncoderSpec", "--model.encoder.dim", "12"),
    *("--model.encoder.depth", "1", "--model.encoder.num_heads", "2", "--model.encoder.num_landmarks", "5"),
    *("--model.features.num_mels", "11", "--model.subsampling", "2", "--model.pooling", "attention"),
    *("--model.windows.overlap", "0.5"),
    *("--model.augment.speeds", "[0.9, 1.1]"),
    *("--model.augment.band_masks", "1", "--model.augment.band_width", "3"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and the folders of its recordings."""
    folder = tmp_path_factory.mktemp("tones")
    write_tones(folder / "data" / "train", 31, 0)
    write_tones(folder / "data" / "test", 11, 100)
    data = ["--data", "AudioDataModule", "--data.path", "audiofolder", "--data.data_dir", str(folder / "data")]
    data += ["--data.sample_rate", str(RATE), "--data.batch_size", "7", "--run.name", "tones"]
    outcome = softformer(folder, "fit", *data, *MODEL, *QUIET, "--run.test_after_fit", "true")
    assert outcome.code == 0, outcome.err
    return folder


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_files_of_a_run(trained: Path) -> None:
    run = trained / "runs" / "tones"
    results = json.loads((run / "results.json").read_text())
    assert {"accuracy", "f1", "loss"} <= set(results["test"])
    assert [row["class"] for row in rows_of(run / "class_report_test.csv")] == NAMES
    assert (run / "confusion_matrix_test.png").is_file()


def test_options_of_the_command_line_reach_the_network(trained: Path, tmp_path: Path) -> None:
    task: Any = package.load(trained / "runs" / "tones" / "checkpoints" / "last.ckpt")
    backbone = task.network.backbone
    assert (task.sample_rate, backbone.features.num_mels, backbone.subsampling.factor) == (RATE, 11, 2)
    assert backbone.augment == AudioAugment(speeds=(0.9, 1.1), band_masks=1, band_width=3)
    assert backbone.windows == Windows(overlap=0.5)
    assert backbone.longest > 0
    assert task.network.pooling.kind == "attention"
    assert task.class_labels() == NAMES
    config = trained / "runs" / "tones" / "config.yaml"
    outcome = softformer(tmp_path, "fit", "--config", str(config), "--print_config")
    assert outcome.code == 0, outcome.err
    assert "Unable to serialize" not in outcome.out
    assert outcome.out.count("sample_rate: null") == 1  # that of the task, which follows the processor of the data
    assert outcome.out.count(f"sample_rate: {RATE}") == 1
    assert "processor" not in config.read_text()


def test_a_checkpoint_stands_alone(trained: Path, tmp_path: Path) -> None:
    checkpoint = str(trained / "runs" / "tones" / "checkpoints" / "best.ckpt")
    outcome = softformer(tmp_path, "test", "--ckpt_path", checkpoint)
    assert outcome.code == 0, outcome.err
    sounds = trained / "data" / "test"
    outcome = softformer(tmp_path, "predict", "--ckpt_path", checkpoint, "--data.sounds", str(sounds))
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "predictions.csv")
    assert sorted(row["file"] for row in rows) == sorted(str(file) for file in sounds.rglob("*.wav"))
    task: Any = package.load(checkpoint)
    for row, predictions in zip(rows, task.predict([row["file"] for row in rows])):
        assert row["class_1"] == predictions[0].label
        assert float(row["probability_1"]) == pytest.approx(predictions[0].probability, abs=1e-4)


def test_a_checkpoint_predicts_in_one_pass_or_in_windows(trained: Path, tmp_path: Path) -> None:
    run = ["--ckpt_path", str(trained / "runs" / "tones" / "checkpoints" / "best.ckpt")]
    sounds = ["--data.sounds", str(trained / "data" / "test")]
    found = []
    for name, options in (
        ("default", []),
        ("one_pass", ["--model.windows", "null"]),
        ("short", ["--model.windows.seconds", "0.05"]),
    ):
        outcome = softformer(tmp_path, "predict", *run, *sounds, *options, "--output", f"{name}.csv")
        assert outcome.code == 0, outcome.err
        found.append([float(row["probability_1"]) for row in rows_of(tmp_path / f"{name}.csv")])
    task: Any = package.load(run[1])
    backbone = task.network.backbone
    lengths = [soundfile.info(row["file"]).frames for row in rows_of(tmp_path / "default.csv")]
    for default, one_pass, short, count in zip(*found, backbone.num_tokens(torch.tensor(lengths))):
        assert short != pytest.approx(default, abs=1e-4)
        assert (one_pass == pytest.approx(default, abs=1e-5)) == (count <= backbone.longest)
