"""Text tasks from the command line: train, test, predict, and from masked language modelling to classes."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import softformer
from text_files import NAMES, labelled, write_rows

import softformer as package

QUIET = [
    *("--trainer.accelerator", "cpu", "--trainer.num_sanity_val_steps", "0", "--trainer.max_epochs", "1"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]
ENCODER = [
    *("--model.encoder", "SoftEncoderSpec", "--model.encoder.dim", "12", "--model.encoder.depth", "1"),
    *("--model.encoder.num_heads", "2", "--model.encoder.num_landmarks", "5"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of masked language modelling, and one of classification that started from it."""
    folder = tmp_path_factory.mktemp("text")
    files = {
        name: write_rows(folder / f"{name}.jsonl", labelled(31, seed)) for seed, name in enumerate(("train", "test"))
    }
    data = ["--data", "TextDataModule", "--data.path", "json", "--data.data_files", json.dumps(files)]
    data += ["--data.batch_size", "7"]
    masked = ["--model", "MaskedLanguageModel", *ENCODER, "--data.label_column", "null", "--run.name", "masked"]
    outcome = softformer(folder, "fit", *data, *masked, *QUIET)
    assert outcome.code == 0, outcome.err
    classes = ["--model", "TextClassifier", *ENCODER, "--run.name", "classes", "--run.test_after_fit", "true"]
    classes += ["--model.class_weights", "balanced", "--model.weights", "runs/masked/checkpoints/last.ckpt"]
    outcome = softformer(folder, "fit", *data, *classes, *QUIET)
    assert outcome.code == 0, outcome.err
    assert "backbone" in outcome.out.partition("loaded:")[2].partition("\n")[0]
    return folder


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_files_of_a_run(trained: Path) -> None:
    results = json.loads((trained / "runs" / "classes" / "results.json").read_text())
    assert {"accuracy", "f1", "loss"} <= set(results["test"])
    assert [row["class"] for row in rows_of(trained / "runs" / "classes" / "class_report_test.csv")] == NAMES
    assert (trained / "runs" / "classes" / "confusion_matrix_test.png").is_file()
    masked = json.loads((trained / "runs" / "masked" / "results.json").read_text())
    assert {"accuracy", "perplexity", "loss"} <= set(masked["val"])


@pytest.mark.parametrize("run", ["masked", "classes"])
def test_the_written_configuration_is_a_recipe(trained: Path, run: str, tmp_path: Path) -> None:
    outcome = softformer(tmp_path, "fit", "--config", str(trained / "runs" / run / "config.yaml"), "--print_config")
    assert outcome.code == 0, outcome.err
    assert "Unable to serialize" not in outcome.out


def test_a_checkpoint_stands_alone(trained: Path, tmp_path: Path) -> None:
    checkpoint = str(trained / "runs" / "classes" / "checkpoints" / "best.ckpt")
    outcome = softformer(tmp_path, "test", "--ckpt_path", checkpoint)
    assert outcome.code == 0, outcome.err
    texts = ["the cat sat", "mice and a mat", "it slept"]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    outcome = softformer(tmp_path, "predict", "--ckpt_path", checkpoint, "--data.texts", "texts.txt")
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "predictions.csv")
    assert [rows[number]["text"] for number in range(3)] == texts
    task: Any = package.load(checkpoint)
    for number, predictions in enumerate(task.predict(texts)):
        assert rows[number]["class_1"] == predictions[0].label
        assert float(rows[number]["probability_1"]) == pytest.approx(predictions[0].probability, abs=1e-5)


def test_masks_are_filled(trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = str(trained / "runs" / "masked" / "checkpoints" / "last.ckpt")
    (tmp_path / "texts.txt").write_text("the c[MASK]t sat\nno mask here\n")
    outcome = softformer(tmp_path, "predict", "--ckpt_path", checkpoint, "--data.texts", "texts.txt")
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "predictions.csv")
    assert rows[1]["filled"] == "no mask here"
    assert rows[0]["filled"].startswith("the c")
    assert len(json.loads(rows[0]["probabilities"])) == len(json.loads(rows[0]["tokens"])) == 1
    assert "masked token" not in caplog.text
    (tmp_path / "texts.txt").write_text("no mask\nat all <mask>\n")
    softformer(tmp_path, "predict", "--ckpt_path", checkpoint, "--data.texts", "texts.txt")
    assert "no text has a masked token; write [MASK] for a token to predict" in caplog.text


def test_classes_without_labels_are_an_error(trained: Path, tmp_path: Path) -> None:
    checkpoint = str(trained / "runs" / "classes" / "checkpoints" / "best.ckpt")
    outcome = softformer(tmp_path, "test", "--ckpt_path", checkpoint, "--data.label_column", "null")
    assert outcome.code == 2
    assert "the data must have labels, got masked tokens; set --data.label_column" in outcome.err


def test_a_run_does_not_go_on_with_another_tokenizer(trained: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{row['text']} Zzz", "label": row["label"]} for row in labelled(31)]
    file = write_rows(tmp_path / "other.jsonl", rows)
    data = ["--data", "TextDataModule", "--data.path", "json", "--data.data_files", file, "--data.batch_size", "7"]
    data += ["--data.tokenizer", "CharactersSpec", "--data.label_column", "null"]
    masked = ["--model", "MaskedLanguageModel", *ENCODER, *QUIET, "--run.name", "characters"]
    outcome = softformer(tmp_path, "fit", *data, *masked)
    assert outcome.code == 0, outcome.err
    write_rows(tmp_path / "other.jsonl", [{**row, "text": row["text"].replace("Z", "Y")} for row in rows])
    outcome = softformer(tmp_path, "fit", *data, *masked, "--trainer.max_epochs", "2", "--ckpt_path", "last")
    assert outcome.code == 2
    assert "the run that resumes must have the data that it was trained on, got another: token " in outcome.err
    assert "is 'Y' in the data and 'Z' in the task" in outcome.err


def test_weights_are_tested_with_their_own_tokenizer(trained: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "other.jsonl", [{**row, "text": row["text"].upper()} for row in labelled(31)])
    weights = str(trained / "runs" / "classes" / "checkpoints" / "best.ckpt")
    data = ["--data", "TextDataModule", "--data.path", "json", "--data.data_files.test", rows]
    data += ["--data.tokenizer.lowercase", "true", "--data.data_files.train", rows]
    task = ["--model", "TextClassifier", *ENCODER, "--model.weights", weights, "--run.name", "again"]
    outcome = softformer(tmp_path, "test", *data, *task, "--trainer.accelerator", "cpu")
    assert outcome.code == 0, outcome.err
    own = json.loads((tmp_path / "runs" / "again" / "results.json").read_text())["test"]
    outcome = softformer(tmp_path, "test", "--ckpt_path", weights, *data[:-2], "--run.name", "standing")
    assert outcome.code == 0, outcome.err
    standing = json.loads((tmp_path / "runs" / "standing" / "results.json").read_text())["test"]
    assert own["loss"] == pytest.approx(standing["loss"])


def test_masked_modelling_with_labels_is_an_error(trained: Path, tmp_path: Path) -> None:
    args = ["--data", "TextDataModule", "--data.path", "json", "--data.data_files", str(trained / "train.jsonl")]
    outcome = softformer(tmp_path, "fit", *args, "--model", "MaskedLanguageModel", *ENCODER, *QUIET)
    assert outcome.code == 2
    assert "--data.label_column null" in outcome.err
