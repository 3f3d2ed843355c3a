"""Speech recognition from the command line: train, test, and predict into a table, texts, and subtitles."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import softformer

import softformer as package

QUIET = [
    *("--trainer.accelerator", "cpu", "--trainer.num_sanity_val_steps", "0", "--trainer.max_epochs", "1"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]
MODEL = [
    *("--model", "SpeechRecognizer", "--model.encoder", "SoftEncoderSpec", "--model.encoder.dim", "12"),
    *("--model.encoder.depth", "1", "--model.encoder.num_heads", "2", "--model.encoder.num_landmarks", "5"),
    *("--model.features.num_mels", "11"),
]
TEXTS = ["Two six", "SIX", "seven two 2"]


def write_recordings(folder: Path, count: int, seed: int) -> str:
    """Recordings of noise, and a table of them with transcripts."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        wave = 0.1 * random.standard_normal(random.integers(7001, 11_003))
        soundfile.write(folder / f"{number}.flac", wave, 8000)
        rows.append({"audio": str(folder / f"{number}.flac"), "text": TEXTS[number % 3]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "rows.jsonl")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run."""
    folder = tmp_path_factory.mktemp("speech")
    files = {
        name: write_recordings(folder / name, rows, seed)
        for seed, (name, rows) in enumerate((("train", 17), ("test", 5)))
    }
    data = ["--data", "SpeechDataModule", "--data.path", "json", "--data.data_files", json.dumps(files)]
    data += ["--data.batch_size", "5", "--data.sample_rate", "8000", "--data.writing.case", "lower"]
    data += ["--data.writing.numerals", "spell", "--run.name", "speech", "--run.test_after_fit", "true"]
    outcome = softformer(folder, "fit", *data, *MODEL, *QUIET)
    assert outcome.code == 0, outcome.err
    return folder


def test_files_of_a_run(trained: Path) -> None:
    results = json.loads((trained / "runs" / "speech" / "results.json").read_text())
    assert {"wer", "cer", "loss"} <= set(results["test"])
    units = json.loads((trained / "runs" / "speech" / "units.json").read_text())
    assert units == {"kind": "characters", "characters": " einostvwx"}


def test_the_written_configuration_is_a_recipe(trained: Path, tmp_path: Path) -> None:
    config = str(trained / "runs" / "speech" / "config.yaml")
    outcome = softformer(tmp_path, "fit", "--config", config, "--print_config")
    assert outcome.code == 0, outcome.err
    assert "Unable to serialize" not in outcome.out
    assert "num_units: null" in Path(config).read_text()
    assert "processor" not in Path(config).read_text()


def test_a_checkpoint_stands_alone(trained: Path, tmp_path: Path) -> None:
    file = str(trained / "runs" / "speech" / "checkpoints" / "best.ckpt")
    outcome = softformer(tmp_path, "test", "--ckpt_path", file)
    assert outcome.code == 0, outcome.err
    sounds = str(trained / "test")
    args = ["--ckpt_path", file, "--data.sounds", sounds, "--output", "made/speech.csv"]
    outcome = softformer(tmp_path, "predict", *args)
    assert outcome.code == 0, outcome.err
    assert "5 predictions written to made/speech.csv, and their files into made/speech_files" in outcome.out
    with (tmp_path / "made" / "speech.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["file", "text"]
    task: Any = package.load(file)
    expected = task.predict([row["file"] for row in rows])
    assert [row["text"] for row in rows] == [transcript.text for transcript in expected]
    folder = tmp_path / "made" / "speech_files"
    assert sorted(found.name for found in folder.iterdir()) == sorted(
        f"{number}.{ending}" for number in range(5) for ending in ("txt", "srt")
    )
    assert [(folder / f"{Path(row['file']).stem}.txt").read_text().strip() for row in rows] == [
        row["text"] for row in rows
    ]


def test_units_of_another_run(trained: Path, tmp_path: Path) -> None:
    run = trained / "runs" / "speech"
    files = json.dumps({"train": write_recordings(tmp_path / "more", 13, 3)})
    data = [
        "--data",
        "SpeechDataModule",
        "--data.path",
        "json",
        "--data.data_files",
        files,
        "--data.sample_rate",
        "8000",
    ]
    data += ["--data.writing.case", "lower", "--data.val_fraction", "0.3"]
    weights = ["--model.weights", str(run / "checkpoints" / "best.ckpt")]
    outcome = softformer(tmp_path, "fit", *data, *MODEL, *weights, *QUIET)
    assert outcome.code == 2  # "2" is not spelled
    assert "as many units as the data" in " ".join(outcome.err.split())
    units = ["--data.units", "FileUnits", "--data.units.path", str(run), "--data.writing.numerals", "spell"]
    outcome = softformer(tmp_path, "fit", *data, *units, *MODEL, *weights, *QUIET)
    assert outcome.code == 0, outcome.err


def _checkpoint(trained: Path) -> list[str]:
    return ["predict", "--ckpt_path", str(trained / "runs" / "speech" / "checkpoints" / "best.ckpt")]


@pytest.mark.parametrize("exists", [False, True])
def test_predictions_in_a_folder(trained: Path, tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "texts.d").mkdir()
    name = "texts.d" if exists else "texts/"
    outcome = softformer(tmp_path, *_checkpoint(trained), "--data.sounds", str(trained / "test"), "--output", name)
    assert outcome.code == 0, outcome.err
    folder = name.rstrip("/")
    assert f"5 predictions written to {folder}/predictions.csv, and their files into {folder}" in outcome.out
    expected = [f"{number}.{ending}" for number in range(5) for ending in ("txt", "srt")]
    assert sorted(found.name for found in (tmp_path / folder).iterdir()) == sorted(["predictions.csv", *expected])


def test_an_output_that_cannot_be_written_is_an_error_before_the_first_prediction(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setattr("tasks.audio.recognizer.SpeechRecognizer.forward", None)
    for name in ("taken", "taken/speech.csv"):
        outcome = softformer(tmp_path, *_checkpoint(trained), "--data.sounds", str(trained / "test"), "--output", name)
        assert outcome.code == 2
        assert "taken" in outcome.err
    assert (tmp_path / "taken").read_text() == ""


def test_only_tables_are_written_over(trained: Path, tmp_path: Path) -> None:
    recording = tmp_path / "0.wav"
    soundfile.write(recording, 0.1 * np.random.default_rng(0).standard_normal(8_001), 8000)
    before = recording.read_bytes()
    outcome = softformer(tmp_path, *_checkpoint(trained), "--data.sounds", "0.wav", "--output", "0.wav")
    assert outcome.code == 2
    assert "output must be the name of a table, such as 0.csv, or of a folder" in " ".join(outcome.err.split())
    assert recording.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("--model.features.window", "60", "model.features.window is 25.0 in the checkpoint and 60.0 here"),
        ("--model.features.normalize", "null", "model.features.normalize is bands in the checkpoint and None here"),
        ("--model.features.top_db", "null", "model.features.top_db is 80.0 in the checkpoint and None here"),
        ("--model.features.max_hz", "3000", "model.features.max_hz is None in the checkpoint and 3000.0 here"),
        ("--model.sample_rate", "16000", "sample_rate must be the same for network and data, got 16000 Hz and 8000 Hz"),
    ],
)
def test_features_and_sample_rate_must_be_those_of_the_checkpoint(
    trained: Path, tmp_path: Path, option: str, value: str, name: str
) -> None:
    outcome = softformer(tmp_path, *_checkpoint(trained), "--data.sounds", str(trained / "test"), option, value)
    assert outcome.code == 2
    message = " ".join(outcome.err.split())
    assert name in message
    if "features" in option:
        remedy = message.rpartition("set ")[2].rstrip(".").split()
        sounds = ["--data.sounds", str(trained / "test")]
        again = softformer(tmp_path, *_checkpoint(trained), *sounds, option, value, *remedy)
        assert again.code == 0, again.err


def test_a_recipe_for_another_task_than_that_of_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {class_path: tasks.audio.AudioClassifier}\n")
    for given in (["--config", "a.yaml"], ["--model", "AudioClassifier"]):
        outcome = softformer(tmp_path, "test", *_checkpoint(trained)[1:], *given)
        assert outcome.code == 2
        message = " ".join(outcome.err.split())
        assert "is one of SpeechRecognizer, but the command or its recipe asks for AudioClassifier" in message


def test_skipped_recordings_are_in_the_results(trained: Path, tmp_path: Path) -> None:
    rows = json.loads(f"[{','.join((trained / 'test' / 'rows.jsonl').read_text().split(chr(10))[:-1])}]")
    (tmp_path / "broken.wav").write_bytes(b"broken")
    rows.append({"audio": str(tmp_path / "broken.wav"), "text": "six"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = json.dumps({"test": str(tmp_path / "rows.jsonl"), "train": str(tmp_path / "rows.jsonl")})
    options = ["--data.data_files", files, "--data.on_bad_sound", "skip", "--run.name", "again"]
    outcome = softformer(tmp_path, "test", *_checkpoint(trained)[1:], *options)
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "runs" / "again" / "results.json").read_text())["test"]["skipped"] == 1
    assert "| skipped | 1 |" in (tmp_path / "runs" / "again" / "results.md").read_text()


def test_predictions_before_a_broken_file_are_written(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lightning")
    (tmp_path / "sounds").mkdir()
    for number in range(4):
        wave = 0.1 * np.random.default_rng(number).standard_normal(8_001)
        wave[4_001:] *= np.nan if number == 2 else 1.0
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", wave, 8000, subtype="FLOAT")
    options = ["--data.batch_size", "1", "--data.group_by_length", "false", "--output", "texts"]
    outcome = softformer(tmp_path, *_checkpoint(trained), "--data.sounds", "sounds", *options)
    assert outcome.code == 2
    assert "must have finite samples" in outcome.err
    assert "predicting stopped early; the 2 predictions until then are in texts/predictions.csv" in caplog.text
    with (tmp_path / "texts" / "predictions.csv").open(newline="") as lines:
        assert [row["file"] for row in csv.DictReader(lines)] == ["sounds/0.wav", "sounds/1.wav"]
    assert (tmp_path / "texts" / "1.srt").is_file()
