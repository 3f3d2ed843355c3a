"""What runs leave in their folder, and who may write there."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command_line import TINY, softformer
from full_disk import largest_file

from softformer.training.run.folder import RunFolder

SHORT = [*TINY, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]


def test_a_second_run_of_the_same_name_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "runs" / "run").locked():
        for more in ([], ["--run.overwrite", "true"]):
            outcome = softformer(tmp_path, "fit", *SHORT, *more)
            assert outcome.code == 2
            assert "the run folder runs/run must not be in use, but another run writes to it." in outcome.err
    assert not (tmp_path / "runs" / "run").exists()
    outcome = softformer(tmp_path, "fit", *SHORT)
    assert outcome.code == 0, outcome.err
    with RunFolder(tmp_path / "runs" / "run").locked():
        outcome = softformer(tmp_path, "fit", *SHORT, "--ckpt_path", "last")
        assert outcome.code == 2
        assert "must not be in use" in outcome.err
        outcome = softformer(tmp_path, "test", "--ckpt_path", "best", "--trainer.accelerator", "cpu")
        assert outcome.code == 0, outcome.err


def test_a_run_holds_its_folder_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def try_again(self: object, *args: object) -> None:
        with pytest.raises(ValueError, match="must not be in use") as error, RunFolder(Path("runs/run")).locked():
            pass
        refused.append(str(error.value))

    monkeypatch.setattr("softformer.training.callbacks.LastCheckpoint.on_train_start", try_again)
    outcome = softformer(tmp_path, "fit", *SHORT)
    assert outcome.code == 0, outcome.err
    assert len(refused) == 1


def test_the_batch_size_that_was_found_is_in_the_configuration(tmp_path: Path) -> None:
    finder = ["--trainer.callbacks", "BatchSizeFinder", "--trainer.callbacks.max_trials", "2"]
    outcome = softformer(
        tmp_path, "fit", *SHORT, "--data.batch_size", "5", *finder, "--trainer.callbacks.init_val", "3"
    )
    assert outcome.code == 0, outcome.err
    config = yaml.safe_load((tmp_path / "runs/run/config.yaml").read_text())
    assert config["data"]["init_args"]["batch_size"] == 6


def test_the_learning_rate_finder_prints_its_suggestion(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finder = ["--trainer.callbacks", "LearningRateFinder", "--trainer.callbacks.num_training_steps", "30"]
    options = ["--data.rows", "400", "--data.size", "32", "--trainer.max_steps", "1"]
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        outcome = softformer(tmp_path, "fit", *TINY, *options, *finder)
    assert outcome.code == 0, outcome.err
    assert "LearningRateFinder suggests --model.optimizer.lr " in caplog.text
    config = yaml.safe_load((tmp_path / "runs/run/config.yaml").read_text())
    assert config["model"]["init_args"]["optimizer"]["lr"] == 1e-3


def test_a_checkpoint_of_another_name_is_offered_where_best_is_missing(tmp_path: Path) -> None:
    own = ["--trainer.callbacks", "ModelCheckpoint", "--trainer.callbacks.monitor", "val/loss"]
    outcome = softformer(tmp_path, "fit", *SHORT, *own, "--trainer.callbacks.filename", "mine")
    assert outcome.code == 0, outcome.err
    outcome = softformer(tmp_path, "test", "--ckpt_path", "best")
    assert outcome.code == 2
    assert "It has runs/run/checkpoints/last.ckpt, runs/run/checkpoints/mine.ckpt: give one of these" in outcome.err
    assert "A ModelCheckpoint with a metric in trainer.callbacks takes the place of best.ckpt" in outcome.err


def test_a_run_without_evaluation_shows_its_own_figures(tmp_path: Path) -> None:
    outcome = softformer(tmp_path, "fit", *SHORT, "--trainer.limit_val_batches", "0")
    assert outcome.code == 0, outcome.err
    assert "parameters" in outcome.out
    assert "| steps | 1 |" in (tmp_path / "runs/run/results.md").read_text()


@pytest.mark.parametrize(("size", "name"), [(300_000, "runs/run/checkpoints/best.ckpt"), (200, "runs/run/config.yaml")])
def test_a_full_disk_names_the_file(tmp_path: Path, size: int, name: str) -> None:
    with largest_file(size):
        outcome = softformer(tmp_path, "fit", *SHORT)
    assert outcome.code == 2
    assert "File too large" in outcome.err
    assert name in outcome.err


def test_predictions_on_a_full_disk_name_the_file(tmp_path: Path) -> None:
    outcome = softformer(tmp_path, "fit", *SHORT)
    assert outcome.code == 0, outcome.err
    with largest_file(100):
        outcome = softformer(tmp_path, "predict", "--ckpt_path", "last", "--trainer.accelerator", "cpu")
    assert outcome.code == 2
    assert "File too large: 'predictions.csv'" in outcome.err


def test_a_moved_checkpoint_says_where_it_looks_for_its_data(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for split in ("train", "test"):
        (first / "data").mkdir(parents=True, exist_ok=True)
        (first / "data" / f"{split}.csv").write_text("text,label\n" + "a,x\nb,y\n" * 9)
    model = ["--model", "TextClassifier", "--model.encoder", "SoftEncoderSpec", "--model.encoder.dim", "8"]
    model += ["--model.encoder.depth", "1", "--model.encoder.num_heads", "2"]
    data = ["--data", "TextDataModule", "--data.tokenizer", "BytesSpec", "--data.path", "csv", "--data.data_files"]
    files = {split: f"data/{split}.csv" for split in ("train", "test")}
    outcome = softformer(first, "fit", *model, *data, json.dumps(files), *TINY[-8:], "--trainer.max_steps", "1")
    assert outcome.code == 0, outcome.err
    second.mkdir()
    shutil.copy(first / "runs/run/checkpoints/last.ckpt", second)
    outcome = softformer(second, "test", "--ckpt_path", "last.ckpt", "--trainer.accelerator", "cpu")
    assert outcome.code == 2
    assert "The checkpoint names data/train.csv relative to the folder that it was trained in, and" in outcome.err
    assert (
        f"this command runs in {second}. Run it in that folder, or give the data by --data.data_files." in outcome.err
    )
    files = {split: str(first / path) for split, path in files.items()}
    remedy = ["--data.data_files", json.dumps(files)]
    outcome = softformer(second, "test", "--ckpt_path", "last.ckpt", *remedy, "--trainer.accelerator", "cpu")
    assert outcome.code == 0, outcome.err
