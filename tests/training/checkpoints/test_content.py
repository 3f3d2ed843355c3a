"""A checkpoint stands alone: plain values, loaded by weights_only, from Python in three ways; and it is checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from tiny_images import TinyImages
from torch import Tensor, nn
from training_runs import SOFT, VIT, classifier, quiet_trainer, trained_checkpoint

from softformer.models.checkpoint_keys import DATA_KEY
from softformer.models.weight_files import read_weight_file
from softformer.ops import Cholesky
from softformer.training.callbacks import LastCheckpoint
from softformer.training.checkpoints.content import task_description
from softformer.training.checkpoints.loading import load
from softformer.training.encoders import EncoderSpec, SoftVisionSpec
from softformer.training.module import SoftformerModule
from softformer.training.optimizer import OptimizerSpec
from tasks.image import ImageClassifier


class OwnEncoder(EncoderSpec):
    """A user's encoder, without a head, whose weights would have to be downloaded."""

    def __init__(self, width: int = 5, pretrained: bool = False) -> None:
        self.width = width
        self.download = pretrained

    def build(self) -> nn.Module:
        assert not self.download, "a checkpoint brings its own weights"
        network = nn.Sequential(nn.Conv2d(3, self.width, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network.num_features = self.width  # type: ignore[assignment]
        return network


class OwnTask(ImageClassifier):
    """A user's task with an argument of its own."""

    def __init__(self, encoder: EncoderSpec, *, sharpness: float = 1.0, num_classes: int = 7) -> None:
        super().__init__(encoder, num_classes=num_classes)
        self.sharpness = sharpness


def same_outputs(one: SoftformerModule, two: SoftformerModule) -> bool:
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(one.eval()(x), two.eval()(x))


@pytest.mark.parametrize("encoder", [VIT, SOFT, OwnEncoder(7)], ids=repr)
def test_three_ways_to_load(tmp_path: Path, encoder: EncoderSpec) -> None:
    path = trained_checkpoint(tmp_path, encoder, label_smoothing=0.1, optimizer=OptimizerSpec("sgd", lr=0.01))
    task = load(path)
    assert type(task) is ImageClassifier
    assert not task.training
    assert task.optimizer_spec == OptimizerSpec("sgd", lr=0.01)
    assert task.label_smoothing == 0.1
    again = ImageClassifier.load_from_checkpoint(path, weights_only=True)
    changed = ImageClassifier.load_from_checkpoint(path, weights_only=True, label_smoothing=0.2)
    assert same_outputs(task, again)
    assert same_outputs(task, changed)
    assert changed.label_smoothing == 0.2
    assert again.class_labels() == [f"column {number}" for number in range(7)]
    assert again.processor == TinyImages().processor


def test_the_settings_are_plain_values(tmp_path: Path) -> None:
    spec = SoftVisionSpec(**{**SOFT.init_args, "inverse": Cholesky(0.2)})  # type: ignore[arg-type]
    content = torch.load(trained_checkpoint(tmp_path, spec), weights_only=True)
    stored = content["hyper_parameters"]
    assert stored["encoder"] == spec.to_dict()
    assert stored["optimizer"]["name"] == "adamw"
    assert content[DATA_KEY]["class_path"] == "tiny_images.TinyImages"
    assert content[DATA_KEY]["init_args"]["rows"] == 23
    assert task_description(content)["class_path"] == "tasks.image.ImageClassifier"


def test_a_loaded_task_can_be_stored_again(tmp_path: Path) -> None:
    task = load(trained_checkpoint(tmp_path))
    trainer = quiet_trainer(tmp_path)
    trainer.fit(task, datamodule=TinyImages(rows=11))
    trainer.save_checkpoint(tmp_path / "two.ckpt", weights_only=False)
    assert same_outputs(load(tmp_path / "two.ckpt"), task)


def test_a_users_task_and_its_arguments(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path)
    trainer.fit(OwnTask(VIT, sharpness=3.0), datamodule=TinyImages(rows=11))
    trainer.save_checkpoint(tmp_path / "own.ckpt", weights_only=False)
    task = load(tmp_path / "own.ckpt")
    assert isinstance(task, OwnTask)
    assert task.sharpness == 3.0


class OwnData(TinyImages):
    """A user's data module with an argument that no checkpoint can hold."""

    def __init__(self, rows: int, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(rows=int(rows))
        self.save_hyperparameters(logger=False)
        self.transform = transform


def test_data_that_cannot_be_stored_are_left_out(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, LastCheckpoint(tmp_path))
    with pytest.warns(UserWarning, match=r"has to name the data: argument 'transform' of OwnData") as caught:
        trainer.fit(classifier(), datamodule=OwnData(11, torch.neg))
    assert len([warning for warning in caught if "will not hold its data module" in str(warning.message)]) == 1
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)[DATA_KEY] is None
    assert isinstance(load(tmp_path / "last.ckpt"), ImageClassifier)


def test_numbers_of_numpy_are_stored_as_plain_ones(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, LastCheckpoint(tmp_path))
    task = classifier(label_smoothing=np.float64(0.25), num_classes=np.int64(7))
    trainer.fit(task, datamodule=OwnData(np.int64(11)))  # type: ignore[arg-type]
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content[DATA_KEY]["init_args"]["rows"] == 11
    assert content["hyper_parameters"]["label_smoothing"] == 0.25


class ProbedTask(ImageClassifier):
    """A user's task with an argument that no checkpoint can hold, and that it may keep to itself."""

    def __init__(self, encoder: EncoderSpec, *, probe: nn.Module | None = None, keeps: bool = False) -> None:
        super().__init__(encoder, num_classes=7)
        if keeps:
            self.save_hyperparameters(ignore=["probe"], logger=False)


@pytest.mark.filterwarnings("ignore:Attribute 'probe' is an instance of `nn.Module`")
def test_a_task_that_cannot_be_stored_is_refused_before_it_trains(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, LastCheckpoint(tmp_path))
    with pytest.raises(ValueError, match=r"argument 'probe' of ProbedTask: .* got Linear.*ignore=\['probe'\]"):
        trainer.fit(ProbedTask(VIT, probe=nn.Linear(1, 1)), datamodule=TinyImages(rows=11))
    assert trainer.global_step == 0
    quiet_trainer(tmp_path).fit(ProbedTask(VIT, probe=nn.Linear(1, 1)), datamodule=TinyImages(rows=11))
    trainer = quiet_trainer(tmp_path, LastCheckpoint(tmp_path))
    trainer.fit(ProbedTask(VIT, probe=nn.Linear(1, 1), keeps=True), datamodule=TinyImages(rows=11))
    assert isinstance(load(tmp_path / "last.ckpt"), ProbedTask)


def test_weights_are_not_asked_for_again(tmp_path: Path) -> None:
    start = trained_checkpoint(tmp_path / "start", OwnEncoder(7))
    path = trained_checkpoint(tmp_path, OwnEncoder(7), weights=str(start))
    start.unlink()
    assert load(path).hparams["weights"] is None
    content = torch.load(path, weights_only=True)
    assert content["hyper_parameters"]["encoder"]["init_args"] == {"width": 7, "pretrained": False}
    task = classifier(OwnEncoder(7))
    task.hparams["encoder"] = OwnEncoder(7, pretrained=True)
    checkpoint: dict[str, Any] = {}
    quiet_trainer(tmp_path).strategy.connect(task)
    task.trainer = quiet_trainer(tmp_path)
    task.on_save_checkpoint(checkpoint)
    assert checkpoint["hyper_parameters"]["encoder"]["init_args"]["pretrained"] is False


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    path = trained_checkpoint(tmp_path, SOFT)
    other = SoftVisionSpec(**{**SOFT.init_args, "embed_dims": [6, 14]})  # type: ignore[arg-type]
    trainer = quiet_trainer(tmp_path)
    message = r"belongs to another configuration: .*is \(10, 6, 3, 3\) in the checkpoint and \(14, 6, 3, 3\) here"
    with pytest.raises(ValueError, match=message):
        trainer.test(classifier(other), datamodule=TinyImages(), ckpt_path=path)
    with pytest.raises(ValueError, match=r"is not in the checkpoint"):
        classifier(VIT).on_load_checkpoint(read_weight_file(path))
    with pytest.raises(ValueError, match=r"network.head.bias is \(7,\) in the checkpoint and \(5,\) here"):
        ImageClassifier.load_from_checkpoint(path, num_classes=5, processor=None, weights_only=True)
    with pytest.raises(ValueError, match=r"num_classes must be 7, as the data has the classes \('column 0', .* got 5"):
        ImageClassifier.load_from_checkpoint(path, num_classes=5, weights_only=True)


def test_averaged_weights_are_averaged_on(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, EMAWeightAveraging(decay=0.5), LastCheckpoint(tmp_path))
    trainer.fit(classifier(), datamodule=TinyImages(rows=23))
    with pytest.raises(ValueError, match=r"add the same EMAWeightAveraging callback"):
        quiet_trainer(tmp_path, max_epochs=2).fit(
            classifier(), datamodule=TinyImages(rows=23), ckpt_path=tmp_path / "last.ckpt"
        )
    averaged = load(tmp_path / "last.ckpt").state_dict()
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(torch.equal(value, content["state_dict"][name]) for name, value in averaged.items())
    assert any(not torch.equal(value, averaged[name]) for name, value in content["current_model_state"].items())


def test_what_is_no_checkpoint_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint at"):
        load(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"is not a readable checkpoint: expected a file that torch.save wrote"):
        load(tmp_path / "text.ckpt")
    torch.save([Tensor([1.0])], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match=r"is not a checkpoint: it must hold a dictionary, got list"):
        load(tmp_path / "list.ckpt")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "bare.ckpt")
    with pytest.raises(ValueError, match=r"lacks the task's class and hyperparameters. Pass bare weights as --model"):
        load(tmp_path / "bare.ckpt")
    alien = {"state_dict": {}, "hyper_parameters": {"_class_path": "no.such.Task"}}
    torch.save(alien, tmp_path / "alien.ckpt")
    with pytest.raises(ValueError, match=r"needs the class no.such.Task, which cannot be imported"):
        load(tmp_path / "alien.ckpt")
    alien["hyper_parameters"] = {"_class_path": "subprocess.Popen", "args": ["touch", "x"]}
    torch.save(alien, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"does not describe a SoftformerModule"):
        load(tmp_path / "evil.ckpt")
