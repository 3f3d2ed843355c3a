"""Speech recognizers in runs: checkpoints, pretrained weights, and the agreement of their units with the data."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from sounds import STORED, stored
from speech_tasks import (
    ENCODER,
    FEATURES,
    NUM_UNITS,
    OTHERS,
    PROCESSOR,
    RATE,
    TEXTS,
    OneBatch,
    bare,
    batch,
    noise,
    processor,
    recognizer,
)
from stopping import Stop
from torch import Tensor
from toy_rows import quiet_trainer

import softformer
from softformer.models.audio.augment import AudioAugment
from softformer.training.callbacks import LastCheckpoint
from softformer.training.encoders.sequence import SoftEncoderSpec
from softformer.training.optimizer import OptimizerSpec
from tasks.audio.classifier import AudioClassifier
from tasks.audio.processor import AudioProcessor
from tasks.audio.recognizer import SpeechRecognizer
from tasks.audio.speech.ctc import likeliest_units
from tasks.audio.speech.units import BpeUnits
from tasks.audio.speech_data import SpeechDataModule


def checkpoint(folder: Path, known: AudioProcessor = PROCESSOR, **options: Any) -> str:
    """Of a task after a step."""
    task = recognizer(processor=known, **options)
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(task, OneBatch(known))
    trainer.save_checkpoint(folder / "speech.ckpt")
    return str(folder / "speech.ckpt")


def test_each_epoch_logs_an_example(caplog: pytest.LogCaptureFixture) -> None:
    task = recognizer()
    with caplog.at_level("INFO", logger="lightning"):
        quiet_trainer(max_epochs=2, num_sanity_val_steps=1).fit(task, OneBatch(PROCESSOR))
    logged = [record.message for record in caplog.records if "transcript:" in record.message]
    assert [message.split("\n")[0] for message in logged] == ["epoch 0", "epoch 1"]
    log_probs, num_tokens = task.eval()(batch()["wave"], batch()["length"])
    hypothesis = PROCESSOR.units.decode(likeliest_units(log_probs, num_tokens)[0])
    assert logged[1] == f"epoch 1\n  transcript: ab c\n  hypothesis: {hypothesis}"


def test_a_checkpoint_stands_alone(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, augment=AudioAugment(speeds=(0.9, 1.1)), subsampling=2)
    task: Any = softformer.load(file)
    assert isinstance(task, SpeechRecognizer)
    assert task.processor == PROCESSOR
    assert (task.sample_rate, task.num_units, task.network.backbone.token_seconds) == (RATE, NUM_UNITS, 0.02)
    assert task.network.backbone.augment == AudioAugment(speeds=(0.9, 1.1))
    state = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(state[name], value) for name, value in task.state_dict().items())
    assert task.predict(noise(4001)) == softformer.load(file).predict(noise(4001))  # type: ignore[operator]


def test_a_run_does_not_go_on_with_other_units(tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    for task in (recognizer(processor=OTHERS), bare()):
        with pytest.raises(ValueError, match=r"must .*: unit 5 is 'e' in the data and 'd' in the task; \w"):
            quiet_trainer(max_epochs=2).fit(task, OneBatch(OTHERS), ckpt_path=file)


def test_the_same_units_are_a_start(tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    task = recognizer(weights=file)
    state = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(state[f"network.{name}"], value) for name, value in task.network.state_dict().items())
    quiet_trainer(max_epochs=1).fit(task, OneBatch(PROCESSOR))


def test_weights_of_another_width(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"weights must have the width of the encoder, 12, .*speech.ckpt: .*\(6, 96\) for \(12, 96\)"
    ):
        recognizer(encoder=SoftEncoderSpec(12, 1, 3, num_landmarks=5), weights=checkpoint(tmp_path))


def test_weights_of_another_number_of_units(tmp_path: Path) -> None:
    message = r"weights must have as many units as the data, .*speech.ckpt: .*\(6, 6\) for \(7, 6\); use .*FileUnits"
    with pytest.raises(ValueError, match=message):
        recognizer(processor=processor(texts=[*TEXTS, "x"]), weights=checkpoint(tmp_path))


def test_weights_of_as_many_units_but_others(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, OTHERS)
    for task in (recognizer(weights=file), bare(weights=file)):
        message = r"weights must have the units .*speech.ckpt: unit 5 is 'd' in the data and 'e' in the weights; use"
        with pytest.raises(ValueError, match=message):
            quiet_trainer(max_epochs=1).fit(task, OneBatch(PROCESSOR))


def test_sequences_of_the_same_characters_are_other_units(tmp_path: Path) -> None:
    words = processor(BpeUnits(vocab_size=7, min_frequency=1))
    task = recognizer(processor=words, weights=checkpoint(tmp_path, words))
    quiet_trainer(max_epochs=1, limit_val_batches=0).fit(task, OneBatch(words))
    characters = processor(texts=[*TEXTS, "xyz"[: words.units.size - NUM_UNITS]])
    other = recognizer(processor=characters, weights=str(tmp_path / "speech.ckpt"))
    with pytest.raises(ValueError, match=r"weights must have the units of the data, .*: unit \d is"):
        quiet_trainer(max_epochs=1).fit(other, OneBatch(characters))


@pytest.mark.parametrize("num_classes", [3, 7])
def test_a_classifier_is_a_start(tmp_path: Path, num_classes: int) -> None:
    torch.manual_seed(1)
    names = AudioProcessor(RATE, class_names=[str(i) for i in range(num_classes)])
    classifier = AudioClassifier(ENCODER, processor=names, features=FEATURES)
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=0)
    data = {name: value for name, value in batch().items() if name in ("wave", "length", "index")}
    trainer.fit(classifier, OneBatch(names, {**data, "label": torch.arange(5) % num_classes}))
    trainer.save_checkpoint(tmp_path / "classes.ckpt")
    task = recognizer(weights=str(tmp_path / "classes.ckpt"))
    for name, value in classifier.network.backbone.state_dict().items():
        assert torch.equal(task.network.backbone.state_dict()[name], value)
    quiet_trainer(max_epochs=1).fit(task, OneBatch(PROCESSOR))
    # The processor of a classifier is not taken by a recognizer without one.
    for function in ("validate", "test"):
        task = bare(weights=str(tmp_path / "classes.ckpt"))
        getattr(quiet_trainer(), function)(task, OneBatch(PROCESSOR), verbose=False)
        assert task.processor == PROCESSOR


@pytest.fixture
def spoken(tmp_path: Path, own_cache: None) -> dict[str, str]:
    """Tables of recordings of 0.3 to 0.6 seconds, and their transcripts."""
    files = {}
    for split, count in (("train", 23), ("test", 5)):
        waves = [as_int16(noise(2_399 + 211 * (7 * row % 11), row)) for row in range(count)]
        rows = {"audio": stored(waves), "text": [TEXTS[row % 5] for row in range(count)]}
        files[split] = str(tmp_path / f"{split}.parquet")
        features = datasets.Features({"audio": STORED, "text": datasets.Value("string")})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(files[split])
    return files


def as_int16(wave: Tensor) -> np.ndarray:
    return (wave.clamp(-1, 1) * 32_767).to(torch.int16).numpy()


def trained(files: dict[str, str], folder: Path, *callbacks: Callback, goes_on: bool = False) -> SpeechRecognizer:
    """Train three epochs with all random augmentation, or the rest of them; returns the task."""
    data = SpeechDataModule("parquet", data_files=files, sample_rate=RATE, batch_size=5, val_fraction=0.0)
    seed_everything(99 if goes_on else 3)
    encoder = SoftEncoderSpec(6, 1, 3, num_landmarks=5, dropout=0.2)
    task = recognizer(
        encoder=encoder,
        processor=data.processor,
        augment=AudioAugment((0.9, 1.0, 1.1), 3.0, 1, 0.1, 1, 3),
        optimizer=OptimizerSpec(lr=0.01),
    )
    trainer = quiet_trainer(max_epochs=3, callbacks=[LastCheckpoint(folder), *callbacks])
    trainer.fit(task, data, ckpt_path=folder / "last.ckpt" if goes_on else None)
    return task


@pytest.mark.parametrize("step", [2, 4, 5, 7])
def test_resume_is_exact(spoken: dict[str, str], tmp_path: Path, step: int) -> None:
    whole = trained(spoken, tmp_path / "whole").state_dict()
    stopped = trained(spoken, tmp_path / "parts", Stop("time", step)).state_dict()
    rest = trained(spoken, tmp_path / "parts", goes_on=True).state_dict()
    assert any(not torch.equal(value, whole[name]) for name, value in stopped.items())
    assert all(torch.equal(value, whole[name]) for name, value in rest.items())
    assert whole["network.backbone.longest"] > 10


def test_a_streamed_run(spoken: dict[str, str]) -> None:
    data = SpeechDataModule(
        "parquet", data_files=spoken, sample_rate=RATE, batch_size=5, val_split="test", streaming=True
    )
    task = recognizer(processor=data.processor)
    trainer = quiet_trainer(max_steps=7, val_check_interval=3)
    trainer.fit(task, data)
    assert trainer.global_step == 7
    assert trainer.callback_metrics["val/loss"].isfinite()
    assert task.processor is not None
    assert task.processor.units.table == ["", *" abcd"]
