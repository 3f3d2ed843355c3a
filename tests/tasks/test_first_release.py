"""Checkpoints that version 0.1 wrote (commit f608150) load alone and predict the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tones import RATE, tone

import softformer
from softformer.models.checkpoint_keys import DATA_KEY
from softformer.training.checkpoints.content import read_checkpoint, task_description
from softformer.training.module import SoftformerModule
from softformer.training.specs import public_path, rebuild
from tasks.audio import AudioClassifier, SpeechDataModule, SpeechRecognizer
from tasks.image import ImageClassifier, ImageDataModule
from tasks.image.built_in.digits import digits
from tasks.text import MaskedLanguageModel, TextClassifier

STORED = Path(__file__).parents[1] / "first_release"
EXPECTED: dict[str, Any] = json.loads((STORED / "expected.json").read_text())
CLASSES = {
    "image": ImageClassifier,
    "text": TextClassifier,
    "masked": MaskedLanguageModel,
    "audio": AudioClassifier,
    "speech": SpeechRecognizer,
    "speech_python": SpeechRecognizer,  # written by a Python script, which named classes by their files
}


def spoken(names: list[str], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    pieces = [piece for name in names for piece in (tone(name, 0.15, seed), 0.01 * random.standard_normal(400))]
    return np.concatenate(pieces).astype(np.float32)


def inputs(kind: str) -> list[Any]:
    if kind == "image":
        rows = digits()["test"]
        return [Image.fromarray(np.array(rows[number]["image"])) for number in (0, 3, 7, 11, 19)]
    if kind == "text":
        return ["a lovely film, great and good", "an awful book", "a dull play, poor and bad song"]
    if kind == "masked":
        return ["the fil[MASK] was go[MASK]d", "the [MASK]ook was b[MASK]d and the play was fine"]
    if kind == "audio":
        lengths = (("low", 0.3), ("mid", 0.2), ("high", 0.25))
        return [tone(name, seconds, 900 + number).astype(np.float32) for number, (name, seconds) in enumerate(lengths)]
    words = (["low", "high", "mid"], ["mid", "mid", "low"], ["high", "low", "high"])
    return [spoken(names, 901 + number) for number, names in enumerate(words)]


def predicted(task: Any, kind: str) -> list[Any]:
    if kind == "image":
        return task.predict(inputs(kind), top_k=10)
    return task.predict(inputs(kind))


@pytest.mark.parametrize("kind", CLASSES)
def test_it_predicts_the_same(kind: str) -> None:
    task = softformer.load(STORED / f"{kind}.ckpt")
    assert type(task) is CLASSES[kind]
    found, expected = predicted(task, kind), EXPECTED[kind]
    assert len(found) == len(expected) >= 2
    if kind == "masked":
        assert [row["filled"] for row in found] == [row["filled"] for row in expected]
        for row, stored in zip(found, expected):
            assert json.loads(row["tokens"]) == json.loads(stored["tokens"])
            assert json.loads(row["probabilities"]) == pytest.approx(json.loads(stored["probabilities"]), abs=2e-5)
    elif kind.startswith("speech"):
        assert [transcript.text for transcript in found] == [text for text, _ in expected]
        times = [[tuple(word) for word in transcript.words] for transcript in found]
        assert times == [[tuple(word) for word in words] for _, words in expected]
    else:
        for row, stored in zip(found, expected):
            assert [label for label, _ in row] == [label for label, _ in stored]
            assert [share for _, share in row] == pytest.approx([share for _, share in stored], abs=2e-5)


@pytest.mark.parametrize("kind", CLASSES)
def test_lightning_loads_it(kind: str) -> None:
    task = CLASSES[kind].load_from_checkpoint(STORED / f"{kind}.ckpt")
    ours = softformer.load(STORED / f"{kind}.ckpt")
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in task.state_dict().items())


@pytest.mark.parametrize("kind", CLASSES)
def test_its_class_paths_are_read_as_public_ones(kind: str) -> None:
    content = read_checkpoint(STORED / f"{kind}.ckpt")
    paths = list(class_paths([content["hyper_parameters"], content[DATA_KEY]]))
    assert public_path(CLASSES[kind]) in paths
    files = ("encoders.", "text_encoders.", "classifier.", "data.", "units.", "writing.", "inverse.", "sequence.")
    assert not any(part in path for path in paths for part in files)


@pytest.mark.parametrize("kind", ["audio", "speech", "speech_python"])
def test_its_features_have_no_floor(kind: str) -> None:
    task = softformer.load(STORED / f"{kind}.ckpt")
    assert task.network.backbone.features.top_db is None
    assert CLASSES[kind].load_from_checkpoint(STORED / f"{kind}.ckpt").network.backbone.features.top_db is None
    content = torch.load(STORED / f"{kind}.ckpt", weights_only=True)
    description = task_description(read_checkpoint(STORED / f"{kind}.ckpt"))
    description["init_args"]["features"]["init_args"]["top_db"] = 80.0
    with pytest.raises(ValueError, match=r"features.top_db is None in the checkpoint and 80.0 here.*top_db null"):
        rebuild(SoftformerModule, description).on_load_checkpoint(content)  # type: ignore[type-abstract]


def class_paths(value: Any) -> Any:
    if isinstance(value, list):
        for entry in value:
            yield from class_paths(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if key in ("class_path", "_class_path"):
                yield entry
            else:
                yield from class_paths(entry)


def test_a_public_path_is_that_of_the_outermost_package() -> None:
    assert public_path(ImageClassifier) == "tasks.image.ImageClassifier"
    assert public_path(SpeechDataModule) == "tasks.audio.SpeechDataModule"
    assert public_path(softformer.Newton) == "softformer.Newton"
    assert public_path(ImageDataModule) == "tasks.image.ImageDataModule"
    assert public_path(RATE.__class__) == "builtins.int"
