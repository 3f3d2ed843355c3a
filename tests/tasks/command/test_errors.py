"""Mistakes end with status 2 and one paragraph: what is wrong, and what would be right."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_line import TINY, softformer
from PIL import Image
from safetensors.torch import save_file
from training_runs import SOFT, trained_checkpoint

from softformer.training.encoders.vision import SoftVisionSpec
from softformer.training.module import SoftformerModule
from tasks.command.application import TRACEBACK
from tasks.command.errors import class_list

SOFT_ENCODER = ["--model.encoder", "SoftVisionSpec"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipes, a checkpoint, images and a run, none of which the commands below change."""
    folder = tmp_path_factory.mktemp("mistakes")
    trained_checkpoint(folder, SOFT)
    encoder = "{class_path: TimmSpec, init_args: {name: test_vit}}"
    task = f"model: {{class_path: ImageClassifier, init_args: {{encoder: {encoder}}}}}"
    recipes = {
        "task_key": task.replace("init_args: {encoder", "init_args: {lable_smoothing: 0.1, encoder")
        + "\ndata: TinyImages",
        "top_key": f"{task}\ndata: TinyImages\ntrainr: {{max_epochs: 3}}",
        "trainer_key": f"{task}\ndata: TinyImages\ntrainer: {{max_epoch: 3}}",
        "data_key": f"{task}\ndata: {{class_path: TinyImages, init_args: {{bach_size: 3}}}}",
        "no_yaml": "model: {class_path: ImageClassifier",
        "empty": "# nothing\n",
        "list": "- trainer",
        "scalar": "trainer: 3",
        "no_trainer": "trainer:\n  # max_epochs: 3\n",
        "value": "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: m, patience: abc}}]}",
        "lacking": "trainer: {callbacks: [{class_path: EarlyStopping}]}",
        "no_name": "model: {class_path: ImageClassifier, init_args: {encoder: {class_path: TimmSpec}}}",
        "gone": "ckpt_path: gone.ckpt",
    }
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text)
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (40, 36), (number, 0, 0)).save(folder / "images" / name / f"{number}.png")
    shutil.copytree(folder / "images", folder / "broken")
    (folder / "broken" / "a" / "bad.png").write_text("no picture")
    (folder / "runs" / "used").mkdir(parents=True)
    (folder / "runs" / "used" / "notes.txt").touch()
    (folder / "runs" / "photos").mkdir()
    (folder / "runs" / "photos" / "cat.png").touch()
    (folder / "bare.pth").write_bytes(b"\x80nothing")
    (folder / "text.txt").write_text("nothing")
    whole = (folder / "one.ckpt").read_bytes()
    (folder / "truncated.ckpt").write_bytes(whole[: len(whole) // 2])
    save_file({"weight": torch.zeros(1)}, folder / "alien.safetensors")
    torch.save({"weight": torch.zeros(1)}, folder / "alien.pth")
    deeper = SoftVisionSpec(**{**SOFT.init_args, "depths": [2, 1]}).build()  # type: ignore[arg-type]
    deeper.reset_classifier(7)  # type: ignore[operator]
    torch.save(deeper.state_dict(), folder / "deeper.pth")
    return folder


# The network of one.ckpt.
TINY_SOFT = [*TINY[:4], "--model.encoder", json.dumps(SOFT.to_dict()), "--trainer.accelerator", "cpu"]
IMAGES = [*TINY[:2], *TINY[4:], "--data", "ImageDataModule", "--data.image_size", "32", "--data.path", "imagefolder"]
FOLDER = [*IMAGES, "--data.data_dir", "images"]
EARLY_STOPPING = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor"]
# A run that trains leaves files, which must not be in the way of the other mistakes, in whatever order they run.
STOPPED = ["--run.name", "stopped", "--run.overwrite", "true"]

MISTAKES = {
    "misspelt option of a task in a recipe": (
        ["fit", "--config", "task_key"],
        "task_key.yaml: unknown option 'model.lable_smoothing'. Did you mean 'model.label_smoothing'? ImageClassifier",
    ),
    "misspelt key of a recipe": (
        ["fit", "--config", "top_key.yaml"],
        "unknown option 'trainr.max_epochs'. Did you mean 'trainer.max_epochs'?",
    ),
    "misspelt option of the trainer in a recipe": (
        ["fit", "--config", "trainer_key"],
        "unknown option 'trainer.max_epoch'. Did you mean 'trainer.max_epochs'?",
    ),
    "misspelt option of the data in a recipe": (
        ["fit", "--config", "data_key"],
        "unknown option 'data.bach_size'. Did you mean 'data.batch_size'? TinyImages has: rows,",
    ),
    "a recipe without settings": (["fit", "--config", "empty"], "empty.yaml must hold settings by name, such as"),
    "a recipe that is a list": (["fit", "--config", "list"], "list.yaml must hold settings by name, such as"),
    "a section that is a number": (["fit", *TINY, "--config", "scalar"], "trainer in the recipe scalar.yaml must hold"),
    "an empty section": (["fit", *TINY, "--config", "no_trainer"], "no_trainer.yaml must hold settings by name, got"),
    "a wrong value in an object of a recipe": (
        ["fit", *TINY, "--config", "value"],
        "value.yaml: trainer.callbacks.patience must be of type int, got 'abc'.",
    ),
    "a wrong value in an object": (
        ["fit", *TINY, *EARLY_STOPPING, "val/loss", "--trainer.callbacks.patience", "abc"],
        "error: trainer.callbacks.patience must be of type int, got 'abc'.",
    ),
    "an option that an object needs": (
        ["fit", *TINY, "--trainer.callbacks", "EarlyStopping"],
        "error: missing: trainer.callbacks.monitor. EarlyStopping needs it.",
    ),
    "an option that an object of a recipe needs": (
        ["fit", *TINY, "--config", "lacking"],
        "error: missing: trainer.callbacks.monitor. EarlyStopping needs it.",
    ),
    "an option that the encoder needs": (
        ["fit", "--config", "no_name", "--data", "TinyImages"],
        "error: missing: model.encoder.name. TimmSpec needs it.",
    ),
    "an option of an object without a class": (
        ["fit", *TINY[:4], "--model.encoder.name", "test_vit"],
        "error: model.encoder must name a class before its options. Known: AutoModelSpec,",
    ),
    "an option of callbacks without a class": (
        ["fit", *TINY, "--trainer.callbacks.patience", "3"],
        "error: trainer.callbacks must name a class before its options.",
    ),
    "an option of the task without a class": (
        ["fit", "--model.mixup", "0.1"],
        "error: model must name a class before its options.",
    ),
    "a value for a group of options": (
        ["fit", *TINY, "--model.optimizer", "sgd"],
        "error: model.optimizer must hold settings by name, or be a YAML file of them, got 'sgd'. Set one",
    ),
    "a class that cannot be imported": (
        ["fit", *TINY, "--trainer.callbacks", "no_such_module.Bar"],
        "trainer.callbacks: the class no_such_module.Bar cannot be imported (No module named 'no_such_module').",
    ),
    "a class of another kind": (
        ["fit", *TINY, "--trainer.callbacks", "softformer.SoftOptions"],
        "trainer.callbacks: softformer.SoftOptions is not of the class that is expected.",
    ),
    "texts that YAML reads as booleans": (
        [
            "fit",
            *TINY[:2],
            *TINY[4:],
            "--data",
            "ImageDataModule",
            "--data.path",
            "x",
            "--data.class_names",
            "[yes, no]",
        ],
        "data.class_names must be of type list[str] or null, got [True, False]. YAML reads yes, no, on and off as",
    ),
    "an argument without an option": (["fit", *TINY, "extra"], "unknown argument 'extra': options begin with --."),
    "an option without its value": (["fit", *TINY, "--ckpt_path"], "argument --ckpt_path: expected one argument"),
    "a checkpoint in a recipe that does not exist": (
        ["test", "--config", "gone"],
        "error: there is no checkpoint at gone.ckpt",
    ),
    "early stopping by an unknown metric": (
        ["fit", *TINY, *EARLY_STOPPING, "val/los", *STOPPED],
        "Early stopping conditioned on metric `val/los` which is not available.",
    ),
    "early stopping without validation": (
        ["fit", *TINY, *EARLY_STOPPING, "val/loss", "--trainer.limit_val_batches", "0", *STOPPED],
        "Early stopping conditioned on metric `val/loss` which is not available.",
    ),
    "a callback that does not fit the task": (
        ["fit", *TINY, "--trainer.callbacks", "BackboneFinetuning"],
        "'ImageClassifier' object has no attribute 'backbone'. Leave BackboneFinetuning out, or change its options.",
    ),
    "validation every zero epochs": (
        ["fit", *TINY, "--trainer.check_val_every_n_epoch", "0"],
        "trainer.check_val_every_n_epoch must be positive, got 0",
    ),
    "no training batches": (
        ["fit", *TINY, "--trainer.limit_train_batches", "0"],
        "trainer.limit_train_batches must be positive, got 0",
    ),
    "predictions into a device": (
        ["predict", "--ckpt_path", "one.ckpt", "--output", "/dev/null", "--trainer.accelerator", "cpu"],
        "output must be the name of a table, such as null.csv, or of a folder",
    ),
    "misspelt option": (
        ["fit", *TINY, "--model.mixupp", "0.1"],
        "unknown option 'model.mixupp'. Did you mean 'model.mixup'?",
    ),
    "misspelt option of the optimizer": (
        ["fit", *TINY, "--model.optimizer.lrr", "0.1"],
        "unknown option 'model.optimizer.lrr'. Did you mean 'model.optimizer.lr'? model.optimizer has: name, lr,",
    ),
    "misspelt option of the encoder": (
        ["fit", *TINY, "--model.encoder.nam", "x"],
        "unknown option 'model.encoder.nam'. Did you mean 'model.encoder.name'? TimmSpec has: name,",
    ),
    "misspelt option of the run": (["fit", *TINY, "--run.nam", "x"], "Did you mean 'run.name'?"),
    "shortened option": (["fit", *TINY, "--trainer.max_epoch", "3"], "Did you mean 'trainer.max_epochs'?"),
    "a recipe that is no YAML": (
        ["fit", "--config", "no_yaml"],
        "the recipe no_yaml.yaml is not valid YAML: while parsing",
    ),
    "unknown recipe": (
        ["fit", "--config", "image/digit"],
        "no recipe 'image/digit'. Did you mean image/digits? Shipped:",
    ),
    "unknown task": (["fit", "--model", "Imageclassifier"], "Did you mean 'ImageClassifier'?"),
    "unknown data module": (["fit", *TINY, "--data", "TinyImage"], "data: there is no class 'TinyImage'. Did you mean"),
    "unknown encoder": (
        ["fit", *TINY[:4], "--model.encoder", "SoftVision"],
        "model.encoder: there is no class 'SoftVision'. Did you mean 'SoftVisionSpec'?",
    ),
    "unknown callback": (["fit", *TINY, "--trainer.callbacks", "EarlyStop"], "Did you mean 'EarlyStopping'?"),
    "unknown timm model": (
        ["fit", *TINY, "--model.encoder.name", "test_vitt"],
        "name must be a model of timm, got 'test_vitt'. Nearest: test_vit,",
    ),
    "unknown weights of a timm model": (
        ["fit", *TINY, "--model.encoder.name", "resnet18.a1_in1kk"],
        "resnet18 has no such tag. Valid: resnet18, resnet18.a1_in1k,",
    ),
    "unknown SOFT variant": (
        ["fit", *TINY[:4], *SOFT_ENCODER, "--model.encoder.name", "soft_tinny"],
        "model.encoder.name must be one of 'soft_tiny', 'soft_small',",
    ),
    "unknown backend": (
        ["fit", *TINY[:4], *SOFT_ENCODER, "--model.encoder.backend", "fast"],
        "model.encoder.backend must be one of 'auto', 'reference', 'eager', 'triton'",
    ),
    "unknown inverse": (
        ["fit", *TINY[:4], *SOFT_ENCODER, "--model.encoder.inverse", "Choleski"],
        "model.encoder.inverse: there is no class 'Choleski'. Did you mean 'Cholesky'? Known: Cholesky, Newton.",
    ),
    "unknown choice of the inverse": (
        ["fit", *TINY[:4], *SOFT_ENCODER, "--model.encoder.inverse", "Newton", "--model.encoder.inverse.start", "row"],
        "model.encoder.inverse.start must be one of 'row_sum', 'halving', got 'row'.",
    ),
    "unknown optimizer": (["fit", *TINY, "--model.optimizer.name", "adamm"], "got 'adamm'. Nearest: adam"),
    "value of another type": (
        ["fit", *TINY, "--trainer.max_epochs", "x"],
        "trainer.max_epochs must be of type int or null, got 'x'.",
    ),
    "value out of range": (["fit", *TINY, "--model.optimizer.lr", "-1"], "optimizer.lr must be positive, got -1.0"),
    "number of classes against the data": (
        ["fit", *TINY, "--model.num_classes", "9"],
        "num_classes must be 7, as the data has the classes ('column 0',",
    ),
    "no recipe": (["fit"], "missing: data, model. Give a recipe, such as --config image/digits"),
    "no command": ([], "the command must be one of fit, validate, test, predict; see"),
    "prediction without a network": (
        ["predict", "--data.images", "photos"],
        "predict needs a trained network: give the",
    ),
    "prediction by random weights": (
        ["predict", *TINY],
        "predict needs a trained network: give the checkpoint of a run by --ckpt_path",
    ),
    "help of an unknown class": (
        ["fit", "--model.help", "ImageClasifier"],
        "model: there is no class 'ImageClasifier'. Did you mean 'ImageClassifier'?",
    ),
    "unknown command": (["trian"], "the command must be one of fit, validate, test, predict, got 'trian'"),
    "no GPU": (["fit", *TINY, "--trainer.accelerator", "gpu"], "set it to cpu"),
    "used folder": (["fit", *TINY, "--run.name", "used"], "the run folder runs/used is not empty"),
    "overwriting what is no run": (
        ["fit", *TINY, "--run.name", "photos", "--run.overwrite", "true"],
        "runs/photos is not the folder of a run",
    ),
    "nothing to go on from": (
        ["fit", *TINY, "--run.name", "new", "--ckpt_path", "last"],
        "there is no checkpoint runs/new/",
    ),
    "no best checkpoint": (
        ["test", *TINY, "--ckpt_path", "best"],
        "there is no checkpoint runs/run/checkpoints/best.ckpt",
    ),
    "no such checkpoint": (["test", "--ckpt_path", "none.ckpt"], "there is no checkpoint at none.ckpt"),
    "no checkpoint at all": (["test", "--ckpt_path", "bare.pth"], "bare.pth is not a readable checkpoint"),
    "a text as checkpoint": (["test", "--ckpt_path", "text.txt"], "text.txt is not a readable checkpoint: expected a"),
    "bare weights as checkpoint": (["test", "--ckpt_path", "alien.pth"], "Pass bare weights as --model.weights"),
    "going on from no checkpoint at all": (["fit", *TINY, "--ckpt_path", "bare.pth"], "is not a readable checkpoint"),
    "going on from half a checkpoint": (
        ["fit", *TINY, "--ckpt_path", "truncated.ckpt"],
        "is not a readable checkpoint",
    ),
    "going on from bare weights": (["fit", *TINY, "--ckpt_path", "alien.pth"], "Pass bare weights as --model.weights"),
    "going on from bare safetensors": (
        ["fit", *TINY, "--ckpt_path", "alien.safetensors"],
        "Pass bare weights as --model.weights",
    ),
    "going on by a recipe that is no YAML": (
        ["fit", "--config", "no_yaml", "--ckpt_path", "last"],
        "the recipe no_yaml.yaml is not valid YAML: while parsing",
    ),
    "going on with another learning rate": (
        ["fit", *TINY_SOFT, "--ckpt_path", "one.ckpt", "--model.optimizer.lr", "3e-4"],
        "optimizer.lr is 0.001 in the checkpoint and 0.0003 here",
    ),
    "checkpoint of another configuration": (
        ["test", *TINY, "--ckpt_path", "one.ckpt"],
        "the checkpoint belongs to another configuration: network.",
    ),
    "checkpoint against other data": (
        ["test", "--ckpt_path", "one.ckpt", "--data.classes", "5", "--trainer.accelerator", "cpu"],
        "num_classes must be 5, as the data has the classes ('column 0', 'column 1', 'column 2', 'column 3', 'column "
        "4'), got 7; leave num_classes out, or give the data that the checkpoint was trained on",
    ),
    "weights that do not fit": (
        ["fit", *TINY, "--model.weights", "alien.pth"],
        "none of the 1 tensors in alien.pth fits",
    ),
    "no weights": (["fit", *TINY, "--model.weights", "none.pth"], "there is no file of weights at none.pth"),
    "evaluation of other weights": (
        ["test", *TINY[:4], *SOFT_ENCODER, "--model.weights", "one.ckpt"],
        "test needs all weights of the network and no others, but one.ckpt does not give",
    ),
    "evaluation of the weights of a deeper network": (
        ["test", *TINY_SOFT, "--model.weights", "deeper.pth"],
        "deeper.pth holds 18 that have no place in it: stages.0.blocks.1.",
    ),
    "channels": (["fit", *TINY, "--data.channels", "1"], "images must have the 3 channels of the network, got 1"),
    "labels out of range": (["fit", *TINY, "--data.broken_label", "9"], "labels must lie between 0 and 6, got [9]"),
    "no such data": (["fit", *IMAGES, "--data.data_dir", "nowhere"], "data_dir does not exist"),
    "no such column": (["fit", *FOLDER, "--data.label_column", "lable"], "no such column; it has: image, label"),
    "no such split": (["fit", *FOLDER, "--data.train_split", "trian"], "no such split; it has: train"),
    "no such test split": (
        ["fit", *FOLDER, "--run.test_after_fit", "true"],
        "test_split='test': the data has no such split",
    ),
    "a broken image": (["fit", *IMAGES, "--data.data_dir", "broken"], "bad.png"),
    "value of another type further down": (
        ["predict", "--ckpt_path", "one.ckpt", "--data.rows", "x"],
        "data.rows must be of type int, got 'x'.",
    ),
    "a loss that is not a number": (
        ["fit", *TINY, "--run.name", "nan", "--data.broken_step", "1"],
        "the loss is nan at step 1 (epoch 0) with learning rate",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(folder: Path, name: str) -> None:
    args, message = MISTAKES[name]
    outcome = softformer(folder, *args)
    assert outcome.code == 2
    errors = [line for line in outcome.err.splitlines() if line.startswith("softformer: error: ")]
    assert len(errors) == 1, outcome.err
    assert message in errors[0]
    assert outcome.err.rstrip().endswith(errors[0])
    assert "Traceback" not in outcome.err
    assert "NestedArg" not in errors[0]
    assert {path.name for path in (folder / "runs").iterdir()} <= {"used", "photos", "nan", "run", "stopped"}


def test_mistakes_leave_no_run_behind(folder: Path) -> None:
    """After all of them the default folder holds at most the configuration of a run that failed at once."""
    run = folder / "runs" / "run"
    assert not run.exists() or {path.name for path in run.rglob("*")} <= {"config.yaml", "manifest.txt", "checkpoints"}
    assert (folder / "runs" / "nan" / "checkpoints" / "diverged.ckpt").is_file()


def test_where_an_error_came_from_can_be_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint at none\.ckpt"):
        softformer(folder, "test", "--ckpt_path", "none.ckpt")


def test_an_error_of_ours_is_not_taken_for_the_users(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("tasks.image.classifier.with_head", broken)
    with pytest.raises(ValueError, match="a defect"):
        softformer(folder, "fit", *TINY)


def test_only_classes_that_can_be_used_are_listed() -> None:
    listed = class_list(SoftformerModule).removeprefix(" Known: ").removesuffix(".").split(", ")
    assert {"ImageClassifier", "TextClassifier", "SpeechRecognizer"} <= {*listed}
    assert not {"Task", "AudioTask", "Classifier"} & {*listed}
