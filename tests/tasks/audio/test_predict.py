"""Python, the trainer over a data module, and the command line predict the same of the same files."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import softformer
from sounds import tone, write_sound
from speech_tasks import ENCODER, FEATURES, PROCESSOR, RATE, OneBatch, batch, recognizer
from toy_rows import quiet_trainer

from softformer.training.checkpoints.loading import load
from tasks.audio import AudioClassifier, AudioDataModule, AudioProcessor, SpeechDataModule

# Names that are read as other values in YAML, or that are not ASCII.
NAMES = ["1", "yes", "null", "a: b", "\N{OWL}"]
DATA: dict[str, type[AudioDataModule] | type[SpeechDataModule]] = {
    "classifier": AudioDataModule,
    "recognizer": SpeechDataModule,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of several sample rates, numbers of channels, lengths, and formats; the longest is longer than a window."""
    kinds = [(8_000, 1, 0.31, "wav"), (16_000, 2, 0.7, "flac"), (44_100, 1, 0.05, "wav")]
    kinds += [(48_000, 3, 0.433, "wav"), (11_025, 2, 1.9, "ogg"), (22_050, 1, 0.2501, "flac")]
    random = np.random.default_rng(0)
    for number, (rate, channels, seconds, ending) in enumerate(kinds):
        wave = tone(400.0 * (number + 1), seconds, rate)[:, None] * np.linspace(0.3, 1.0, channels)
        noisy = 0.7 * wave + 0.02 * random.standard_normal(wave.shape)
        write_sound(tmp_path / "recordings" / f"{number}.{ending}", noisy, rate)
    return tmp_path / "recordings"


def trained(kind: str, file: Path) -> Any:
    """A task from its checkpoint, after a step."""
    given = batch()
    task: Any = recognizer()
    if kind == "classifier":
        torch.manual_seed(0)
        task = AudioClassifier(ENCODER, processor=AudioProcessor(RATE, class_names=NAMES), features=FEATURES)
        given = {**{name: given[name] for name in ("wave", "length", "index")}, "label": torch.arange(5)}
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(task, OneBatch(task.processor, given))
    trainer.save_checkpoint(file)
    return load(file)


def assert_same(kind: str, rows: list[dict[str, Any]], expected: list[Any]) -> None:
    """Compare rows of a table with the predictions of Python."""
    for row, prediction in zip(rows, expected, strict=True):
        if kind == "recognizer":
            assert row["text"] == prediction.text
            continue
        assert [row[f"class_{rank}"] for rank in range(1, 6)] == [label for label, _ in prediction]
        shares = [float(row[f"probability_{rank}"]) for rank in range(1, 6)]
        assert shares == pytest.approx([share for _, share in prediction], abs=2e-6)


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("batch_size", [2, 6])
def test_all_routes_predict_the_same(folder: Path, tmp_path: Path, kind: str, batch_size: int) -> None:
    task = trained(kind, tmp_path / "one.ckpt")
    files = sorted(map(str, folder.iterdir()))
    expected = task.predict(files)
    assert len({str(prediction) for prediction in expected}) == len(files)

    data = DATA[kind]("unread", sounds=str(folder), processor=task.processor, batch_size=batch_size)
    waves = {row: wave for each in task.processor.batches(files) for row, wave in rows_of(each).items()}
    loaded = [rows_of(each) for each in data.predict_dataloader()]
    assert [len(rows) for rows in loaded] == [batch_size] * (6 // batch_size)
    for rows in loaded:
        assert len({len(wave) for wave in rows.values()}) > 1
        assert all(torch.equal(wave, waves[row]) for row, wave in rows.items())

    found = quiet_trainer().predict(task, data)
    rows = sorted((row for each in found for row in each), key=lambda row: row["index"])
    assert [row["file"] for row in rows] == files
    assert_same(kind, rows, expected)
    if kind == "recognizer":
        assert [row["_transcript"] for row in rows] == expected

    args = ["--ckpt_path", "one.ckpt", "--data", DATA[kind].__name__, "--data.path", "unread", "--data.sounds"]
    args += ["recordings", "--data.batch_size", str(batch_size), "--trainer.accelerator", "cpu", "--output", "a.csv"]
    outcome = softformer(tmp_path, "predict", *args)
    assert outcome.code == 0, outcome.err
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    assert [str(tmp_path / row["file"]) for row in table] == files
    assert_same(kind, table, expected)


def rows_of(batch: dict[str, Any]) -> dict[int, torch.Tensor]:
    """The waveforms (T,) of a batch, by row number."""
    rows = zip(batch["index"].tolist(), batch["wave"], batch["length"].tolist())
    return {row: wave[:length] for row, wave, length in rows}


@pytest.mark.parametrize("kind", DATA)
def test_files_are_not_predicted_at_another_sample_rate(folder: Path, tmp_path: Path, kind: str) -> None:
    task = trained(kind, tmp_path / "one.ckpt")
    data = DATA[kind]("unread", sounds=str(folder))  # of 16,000 Hz
    message = "sample_rate must be the same .*, got 8000 Hz and 16000 Hz; build the data with processor=task.processor"
    with pytest.raises(ValueError, match=message):
        quiet_trainer().predict(task, data)
    data = DATA[kind]("unread", sounds=str(folder), sample_rate=RATE)
    found = quiet_trainer().predict(task, data)
    rows = sorted((row for each in found for row in each), key=lambda row: row["index"])
    assert_same(kind, rows, task.predict(sorted(map(str, folder.iterdir()))))


def test_the_processor_of_a_checkpoint(tmp_path: Path) -> None:
    assert trained("recognizer", tmp_path / "one.ckpt").processor == PROCESSOR
    assert trained("classifier", tmp_path / "one.ckpt").processor == AudioProcessor(RATE, class_names=NAMES)
    stored = torch.load(tmp_path / "one.ckpt", weights_only=True)["hyper_parameters"]["processor"]
    assert stored["class_path"] == "tasks.audio.AudioProcessor"
    assert stored["init_args"]["class_names"] == NAMES
