"""Errors for a task and a data module of different kinds, which name the data module or the task to use."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import softformer
from sounds import RATE, noise, write_sound
from speech_tasks import ENCODER, FEATURES, PROCESSOR, bare, recognizer
from tiny_images import TinyImages
from toy_rows import quiet_trainer

from tasks.audio import AudioClassifier, AudioDataModule, AudioProcessor, SpeechDataModule

pytestmark = pytest.mark.usefixtures("own_cache")

CLASSES = AudioProcessor(RATE, class_names=["a", "b"])
NO_LABELS = "the data must have class labels, got transcripts; train a classifier on an AudioDataModule, or train a Spe"
NO_TRANSCRIPTS = "the data must have transcripts, got none; train a SpeechRecognizer on a SpeechDataModule"


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Recordings with both labels and transcripts."""
    rows = []
    for number, name in enumerate("abab" * 3):
        file = write_sound(tmp_path / "recordings" / f"{number}.wav", noise(2_003 + 101 * number, number))
        rows.append({"audio": file, "label": name, "text": f"{name} b"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "rows.jsonl")


def data_module(kind: Any, table: str, **options: Any) -> Any:
    return kind("json", data_files=table, test_split="train", **{"sample_rate": RATE, **options})


def classifier(**options: Any) -> AudioClassifier:
    return AudioClassifier(ENCODER, features=FEATURES, **options)


@pytest.mark.parametrize("function", ["fit", "validate", "test"])
def test_a_classifier_on_transcripts(table: str, function: str) -> None:
    data = data_module(SpeechDataModule, table)
    for options in ({"processor": CLASSES}, {"num_classes": 2, "sample_rate": RATE}):
        task = classifier(**options)
        with pytest.raises(ValueError, match=NO_LABELS):
            getattr(quiet_trainer(max_epochs=1), function)(task, data)
        assert task.processor == options.get("processor")
    with pytest.raises(ValueError, match=NO_LABELS):
        classifier(processor=data.processor)


@pytest.mark.parametrize("function", ["fit", "validate", "test"])
def test_a_recognizer_on_labels(table: str, function: str) -> None:
    data = data_module(AudioDataModule, table)
    for task, expected in ((recognizer(), PROCESSOR), (bare(), None)):
        with pytest.raises(ValueError, match=NO_TRANSCRIPTS):
            getattr(quiet_trainer(max_epochs=1), function)(task, data)
        assert task.processor == expected
    with pytest.raises(ValueError, match=NO_TRANSCRIPTS):
        recognizer(processor=data.processor)


def test_the_processor_of_the_other_task(table: str) -> None:
    data = data_module(SpeechDataModule, table, processor=CLASSES)
    with pytest.raises(
        ValueError, match=r"the processor must have units .*, got None; use the processor of a SpeechDataModule"
    ):
        quiet_trainer().test(classifier(processor=CLASSES), data)
    data = data_module(AudioDataModule, table, processor=PROCESSOR)
    with pytest.raises(ValueError, match=r"a batch must have transcripts \(units\), got none; use a SpeechDataModule"):
        quiet_trainer().test(recognizer(), data)


@pytest.mark.parametrize("task", [classifier(processor=CLASSES), recognizer()], ids=["classifier", "recognizer"])
def test_data_of_images(task: Any) -> None:
    with pytest.raises(
        ValueError, match="the data must be recordings, got ImageProcessor; use an AudioDataModule or a Sp"
    ):
        quiet_trainer(max_epochs=1).fit(task, TinyImages())


def test_a_task_uses_the_processor_of_its_pretrained_weights_if_it_fits(table: str, tmp_path: Path) -> None:
    task = classifier(processor=AudioProcessor(RATE, class_names=["b", "a"]))
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1)
    trainer.fit(task, data_module(AudioDataModule, table, processor=task.processor, val_fraction=0.0))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    weights, file = str(tmp_path / "a.ckpt"), str(tmp_path / "recordings" / "0.wav")

    def started(sample_rate: int) -> AudioClassifier:
        return classifier(num_classes=2, sample_rate=sample_rate, weights=weights)

    expected = task.predict(file)
    assert {label for label, _ in expected[0]} == {"a", "b"}
    assert started(RATE).predict(file) == expected
    data = data_module(AudioDataModule, table, sounds=file)
    ((row,),) = quiet_trainer().predict(started(RATE), data) or ()
    assert row["class_1"] == expected[0][0].label  # type: ignore[index, call-overload]
    # A network of another sample rate does not use it, and its classes have no names.
    assert {label for label, _ in started(16_000).predict(file)[0]} == {"0", "1"}
    with pytest.raises(ValueError, match="SpeechRecognizer must have a processor to prepare raw inputs, got None"):
        bare(weights=weights).predict(file)


MODEL = [
    *("--model.encoder", "SoftEncoderSpec", "--model.encoder.dim", "6", "--model.encoder.depth", "1"),
    *("--model.encoder.num_heads", "3", "--model.encoder.num_landmarks", "5", "--model.features.num_mels", "11"),
    *("--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"),
    *("--trainer.num_sanity_val_steps", "0", "--data.sample_rate", str(RATE)),
]
COMMANDS = [("AudioClassifier", "AudioDataModule", NO_LABELS), ("SpeechRecognizer", "SpeechDataModule", NO_TRANSCRIPTS)]


@pytest.mark.parametrize(("model", "data", "message"), COMMANDS)
def test_the_command_line(table: str, tmp_path: Path, model: str, data: str, message: str) -> None:
    other = {"AudioDataModule": "SpeechDataModule", "SpeechDataModule": "AudioDataModule"}[data]
    files = ["--data.path", "json", "--data.data_files", table]
    outcome = softformer(tmp_path, "fit", "--data", other, *files, "--model", model, *MODEL)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    outcome = softformer(tmp_path, "fit", "--data", data, *files, "--model", model, *MODEL, "--run.name", "a")
    assert outcome.code == 0, outcome.err
    checkpoint = ["--ckpt_path", str(tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt")]
    outcome = softformer(tmp_path, "test", *checkpoint, "--data", other, *files, "--data.test_split", "train")
    assert outcome.code == 2
    assert data in outcome.err
