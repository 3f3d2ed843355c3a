"""A compiled task trains and is stored as one that is not compiled; files that were stored otherwise load as well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from speech_tasks import PROCESSOR, OneBatch, recognizer
from tiny_images import TinyImages
from torch import nn
from training_runs import SOFT, classifier, quiet_trainer, trained_checkpoint

from softformer.models.checkpoint_keys import STATE_KEY
from softformer.training import SoftEncoderSpec, load
from softformer.training.checkpoints.weights import load_weights
from softformer.training.divergence import describe_health
from softformer.training.optimizer import parameter_groups
from tasks.image import ImageClassifier
from tasks.text import MaskedLanguageModel, TextClassifier

DATA: dict[str, Any] = {"rows": 11, "batch_size": 11}


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


def whole(network: Any) -> Any:
    return compiled(network)


def stage(network: Any) -> Any:
    network.stages[1] = compiled(network.stages[1])
    return network


def all_depths(network: Any) -> Any:
    network.stages[0].blocks[0].mixer = compiled(network.stages[0].blocks[0].mixer)
    return compiled(stage(network))


DEPTHS = pytest.mark.parametrize("wrap", [whole, stage, all_depths])


def wrapped(wrap: Callable[[Any], Any]) -> ImageClassifier:
    task = classifier(SOFT)
    task.network = wrap(task.network)
    return task


def with_prefixes(path: Path, wrap: Callable[[Any], Any]) -> Path:
    """The checkpoint as it was stored before: with the names of the compiled modules."""
    names = wrap(classifier(SOFT).network).state_dict()
    stored = [name for name in names if "_orig_mod" in name]
    assert stored
    content = torch.load(path, weights_only=True)
    for name in stored:
        plain = name.replace("_orig_mod.", "")
        content[STATE_KEY][f"network.{name}"] = content[STATE_KEY].pop(f"network.{plain}")
    torch.save(content, path.with_name("earlier.ckpt"))
    return path.with_name("earlier.ckpt")


def same_weights(ours: nn.Module, theirs: nn.Module) -> bool:
    first, second = ours.state_dict(), theirs.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@DEPTHS
@pytest.mark.parametrize("averaged", [False, True])
def test_a_compiled_network_is_stored_under_plain_names(
    tmp_path: Path, wrap: Callable[[Any], Any], averaged: bool
) -> None:
    task = wrapped(wrap)
    callbacks = [EMAWeightAveraging(decay=0.5)] if averaged else []
    trainer = quiet_trainer(tmp_path, *callbacks)
    trainer.fit(task, datamodule=TinyImages(**DATA))
    trainer.save_checkpoint(tmp_path / "one.ckpt", weights_only=False)
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    states = [content[key] for key in (STATE_KEY, "current_model_state") if key in content]
    assert len(states) == 1 + averaged
    for state in states:
        assert set(state) == set(classifier(SOFT).state_dict())
    assert same_weights(load(tmp_path / "one.ckpt"), task)
    if not averaged:
        assert load_weights(classifier(SOFT).network, tmp_path / "one.ckpt").check_complete("test") is None
    resumed = quiet_trainer(tmp_path, *callbacks, max_epochs=2)
    resumed.fit(wrapped(wrap), datamodule=TinyImages(**DATA), ckpt_path=tmp_path / "one.ckpt")
    assert resumed.global_step == 2


@DEPTHS
def test_files_with_the_names_of_compiled_modules_load(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    plain = trained_checkpoint(tmp_path, SOFT)
    earlier, expected = with_prefixes(plain, wrap), load(plain)
    assert same_weights(load(earlier), expected)
    assert same_weights(ImageClassifier.load_from_checkpoint(earlier), expected)
    for task in (classifier(SOFT), wrapped(wrap)):
        report = load_weights(task.network, earlier)
        assert report.check_complete("test") is None
        assert not any("_orig_mod" in name for name in report.loaded)
        assert same_weights(task, expected)
        trainer = quiet_trainer(tmp_path)
        assert trainer.test(task, TinyImages(**DATA), ckpt_path=earlier, verbose=False)
        trainer = quiet_trainer(tmp_path, max_epochs=2)
        trainer.fit(task, datamodule=TinyImages(rows=23), ckpt_path=earlier)
        assert trainer.current_epoch == 2
    bare = tmp_path / "bare.pth"
    torch.save(wrapped(wrap).network.state_dict(), bare)
    assert load_weights(classifier(SOFT).network, bare).check_complete("test") is None


@DEPTHS
def test_a_compiled_network_has_the_groups_of_the_plain_one(wrap: Callable[[Any], Any]) -> None:
    def groups(network: nn.Module, layer_decay: float) -> list[tuple[float, float, list[tuple[int, ...]]]]:
        found = parameter_groups(network, 0.1, 0.3, layer_decay)
        return [
            (group["weight_decay"], group.get("lr", 0.1), [tuple(value.shape) for value in group["params"]])
            for group in found
        ]

    for layer_decay in (1.0, 0.5):
        assert groups(wrapped(wrap).network, layer_decay) == groups(classifier(SOFT).network, layer_decay)


def test_health_names_the_layers_of_a_compiled_network() -> None:
    image = torch.rand(5, 3, 32, 32)
    plain, task = classifier(SOFT).network, wrapped(all_depths)
    task(image)
    assert describe_health(task.network, lambda: task(image)) == describe_health(plain, lambda: plain(image))


def image_task() -> tuple[Any, Any]:
    return classifier(SOFT), TinyImages(**DATA)


def text_task() -> tuple[Any, Any]:
    ids = torch.randint(5, 200, (7, 11))
    rows = {"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool), "label": torch.arange(7) % 3}
    task = TextClassifier(SoftEncoderSpec(6, 1, 3, num_landmarks=5), num_classes=3, vocab_size=261)
    return task, OneBatch(None, {**rows, "index": torch.arange(7)})  # type: ignore[arg-type]


def masked_task() -> tuple[Any, Any]:
    ids = torch.randint(5, 200, (7, 11))
    target = torch.where(torch.rand(7, 11) < 0.5, ids, -100)
    rows = {"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool), "target": target, "index": torch.arange(7)}
    task = MaskedLanguageModel(SoftEncoderSpec(6, 1, 3, num_landmarks=5), vocab_size=261)
    return task, OneBatch(None, rows)  # type: ignore[arg-type]


def speech_task() -> tuple[Any, Any]:
    return recognizer(), OneBatch(PROCESSOR)


@pytest.mark.parametrize(
    "make",
    [image_task, text_task, *(pytest.param(task, marks=pytest.mark.slow) for task in (masked_task, speech_task))],
)
def test_the_trainer_takes_a_compiled_task(tmp_path: Path, make: Callable[[], tuple[Any, Any]]) -> None:
    sizes: list[int] = []

    def counting(graph: Any, inputs: Any) -> Any:
        sizes.append(sum(node.op == "call_function" for node in graph.graph.nodes))
        return graph.forward

    task, data = make()
    trainer = quiet_trainer(tmp_path)
    trainer.fit(torch.compile(task, backend=counting), datamodule=data)
    assert max(sizes) > 10  # the network was compiled
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    assert same_weights(load(tmp_path / "one.ckpt"), task)
    assert trainer.test(torch.compile(task, backend=counting), data, verbose=False)
