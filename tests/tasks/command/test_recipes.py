"""Every recipe parses with every overlay, tells what it should in its header, and runs on a CPU."""

import json
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from command_line import softformer
from PIL import Image
from spoken_digits import write_digits

from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.models.vision.published_keys import published_shapes
from softformer.training.encoders.sequence import SoftEncoderSpec
from tasks.audio import SpeechDataModule
from tasks.audio.built_in.connected_digits import connected_digits
from tasks.command.recipes import find_recipe, shipped_recipes
from tasks.command.request import read_request
from tasks.image import ImageDataModule

ROOT = shipped_recipes()
RECIPES = sorted(str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.glob("*/*.yaml"))
TASKS = [name for name in RECIPES if not name.startswith("trainer/")]
OVERLAYS = [name for name in RECIPES if name.startswith("trainer/")]
HEADER = ["Aim", "Expected", "Hardware", "Wall time", "Measured", "Command"]


def lines(name: str) -> list[str]:
    return find_recipe(name).read_text().splitlines()


def header(name: str) -> list[str]:
    return [line.removeprefix("#").strip() for line in lines(name) if line.startswith("#")]


def command_of(name: str) -> str:
    entry = next(line for line in header(name) if line.startswith("Command:"))
    return entry.removeprefix("Command:").strip()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of images in folders, and published weights for two classes."""
    folder = tmp_path_factory.mktemp("images")
    for number, name in enumerate(("cat", "dog")):
        for split in ("train", "test"):
            (folder / "all" / split / name).mkdir(parents=True)
            for row in range(8):
                image = Image.new("RGB", (33 + row, 37), (9 * row, 90 * number, 5))
                # Names in which `datasets` finds those of splits, as it does in ImageNet's own.
                image.save(folder / "all" / split / name / f"{('x_val', 'test')[row % 2]}_{row}.png")
    network = timm.create_model("soft_tiny", num_classes=2)
    shapes = published_shapes({key: tuple(value.shape) for key, value in network.state_dict().items()})
    torch.save({"model": {key: 0.02 * torch.rand(shape) for key, shape in shapes.items()}}, folder / "soft_tiny.pth")
    return folder


def test_there_are_recipes() -> None:
    names = ("digits", "fashion_mnist", "cifar10", "imagenet", "imagenet_eval_published", "finetune_published")
    assert {f"image/{name}" for name in names} <= set(TASKS)
    assert OVERLAYS == ["trainer/cpu_smoke", "trainer/ddp", "trainer/gpu"]


@pytest.mark.parametrize("name", TASKS)
def test_headers(name: str) -> None:
    assert len([line for line in lines(name) if line.strip() and not line.startswith("#")]) <= 40
    entries = [line.partition(":")[0] for line in header(name)]
    assert [entry for entry in entries if entry in HEADER] == HEADER
    assert f"--config {name}" in command_of(name)
    assert "run" in yaml.safe_load("\n".join(lines(name)))


@pytest.mark.parametrize("name", TASKS)
def test_the_command_of_the_header_parses(name: str, tmp_path: Path) -> None:
    program, *args = shlex.split(command_of(name))
    assert program == "softformer"
    outcome = softformer(tmp_path, *args, "--print_config")
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(outcome.out)["run"]["name"] == name.partition("/")[2]


@pytest.mark.parametrize("name", [name for name in TASKS if any(line.startswith("Softmax:") for line in header(name))])
def test_softmax_takes_the_place_of_soft(name: str, tmp_path: Path) -> None:
    (entry,) = (line for line in header(name) if line.startswith("Softmax:"))
    args = shlex.split(entry.removeprefix("Softmax:").strip().removeprefix("add "))
    outcome = softformer(tmp_path, "fit", "--config", name, *args, "--print_config")
    assert outcome.code == 0, outcome.err
    options = yaml.safe_load(outcome.out)["model"]["init_args"]["encoder"]["init_args"]
    assert options["attention"] == "softmax"
    encoder = SoftEncoderSpec(**{key: value for key, value in options.items() if key != "soft"}).build()
    assert any(isinstance(module, SoftmaxAttention) for module in encoder.modules())


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", TASKS)
def test_overlays(name: str, overlay: str, tmp_path: Path) -> None:
    outcome = softformer(tmp_path, "fit", "--config", name, "--config", overlay, "--print_config")
    assert outcome.code == 0, outcome.err
    resolved = yaml.safe_load(outcome.out)
    for section, settings in yaml.safe_load("\n".join(lines(overlay))).items():
        assert settings.items() <= resolved[section].items()


def test_a_smoke_run_leaves_the_folder_of_the_recipe_alone() -> None:
    smoke = yaml.safe_load("\n".join(lines("trainer/cpu_smoke")))["run"]
    assert smoke == {"name": "smoke", "overwrite": True}


SMOKE = [
    *("--config", "trainer/cpu_smoke", "--data.batch_size", "3", "--data.num_workers", "0"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]


@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("text/")])
def test_text_recipes_run(name: str, tmp_path: Path) -> None:
    """A step or two of each, on small texts."""
    rows = [{"text": f"a text of number {row}", "label": ["ant", "bee"][row % 2]} for row in range(23)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    data = ["--data.path", "json", "--data.data_files", json.dumps(files), "--data.text_column", "text"]
    recipe: dict[str, Any] = yaml.safe_load("\n".join(lines(name)))
    outcome = softformer(tmp_path, "fit", "--config", name, *SMOKE, *data)
    assert outcome.code == 0, outcome.err
    found = {path.name for path in (tmp_path / "runs" / "smoke").rglob("*")}
    assert {"results.json", "config.yaml", "best.ckpt", "last.ckpt", "learning_curves.png", "tokenizer.json"} <= found
    assert not recipe["run"].get("test_after_fit") or "confusion_matrix_test.png" in found


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("audio/")])
def test_audio_recipes_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step or two of each, on clips of half a second."""
    few = partial(connected_digits, num_train=17, num_val=7, num_test=5)
    monkeypatch.setattr(SpeechDataModule, "built_in", {"connected_digits": few})
    folder = write_digits(tmp_path / "digits", samples=4_001)
    recipe: dict[str, Any] = yaml.safe_load("\n".join(lines(name)))
    data = ["--data.data_dir", folder]
    if recipe["data"]["init_args"]["path"] != "connected_digits":
        data += ["--data.path", "parquet", "--data.data_files", "null"]
    outcome = softformer(tmp_path, "fit", "--config", name, *SMOKE, *data)
    assert outcome.code == 0, outcome.err
    results = json.loads((tmp_path / "runs" / "smoke" / "results.json").read_text())
    assert {"wer", "cer"} <= set(results["test"]) or "accuracy" in results["test"]
    found = {path.name for path in (tmp_path / "runs" / "smoke").rglob("*")}
    assert {"config.yaml", "best.ckpt", "last.ckpt", "learning_curves.png"} <= found


@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("image/")])
def test_image_recipes_run(name: str, images: Path, tmp_path: Path) -> None:
    """A step or two of each; what is downloaded or large is replaced by small images."""
    recipe: dict[str, Any] = yaml.safe_load("\n".join(lines(name)))
    args = ["--config", name, *SMOKE]
    if recipe["data"]["init_args"]["path"] != "sklearn/digits":
        folder = images / "all" / "test" if name == "image/imagenet_eval_published" else images / "all"
        args += ["--data.path", "imagefolder", "--data.data_dir", str(folder), "--data.image_column", "image"]
    if recipe["data"]["init_args"]["image_size"] == 224:
        args += ["--data.image_size", "64"]
    if "weights" in recipe["model"]["init_args"]:
        args += ["--model.weights", str(images / "soft_tiny.pth")]
    command = shlex.split(command_of(name))[1]
    outcome = softformer(tmp_path, command, *args)
    assert outcome.code == 0, outcome.err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["smoke"]
    files = {path.name for path in (tmp_path / "runs" / "smoke").rglob("*")}
    assert "results.json" in files
    assert command != "fit" or {"config.yaml", "best.ckpt", "last.ckpt", "learning_curves.png"} <= files
    assert not recipe["run"].get("test_after_fit") or "confusion_matrix_test.png" in files
    if command == "test":
        report = (tmp_path / "runs" / "smoke" / "class_report_test.csv").read_text().splitlines()
        assert [line.partition(",")[0] for line in report] == ["class", "cat", "dog"]


@pytest.mark.parametrize(("folder", "args"), [("all", []), ("all/train", ["--data.data_files.train", "**"])])
def test_fine_tuning_takes_all_files_of_the_training_folder(
    images: Path, tmp_path: Path, folder: str, args: list[str]
) -> None:
    data_dir = ["--data.data_dir", str(images / folder)]
    outcome = softformer(tmp_path, "fit", "--config", "image/finetune_published", *data_dir, *args, "--print_config")
    assert outcome.code == 0, outcome.err
    settings = yaml.safe_load(outcome.out)["data"]["init_args"]
    data = ImageDataModule(**{name: settings[name] for name in ("path", "data_dir", "data_files")}, val_fraction=0.25)
    assert (len(data.split_for("train")), len(data.split_for("validation"))) == (12, 4)
    assert data.class_names == ["cat", "dog"]


def test_fine_tuning_does_not_guess_splits_from_the_names_of_files(images: Path, tmp_path: Path) -> None:
    args = ["--config", "image/finetune_published", "--config", "trainer/cpu_smoke", "--model.encoder.img_size", "64"]
    args += ["--model.weights", str(images / "soft_tiny.pth"), "--data.data_dir", str(images / "all" / "train")]
    outcome = softformer(tmp_path, "fit", *args)
    assert outcome.code == 2
    assert f"data_files: no file '{images}/all/train/train/**'" in outcome.err


def test_published_settings() -> None:
    recipe = yaml.safe_load("\n".join(lines("image/imagenet")))
    model, data, trainer = recipe["model"]["init_args"], recipe["data"]["init_args"], recipe["trainer"]
    assert (model["mixup"], model["cutmix"], model["label_smoothing"]) == (0.8, 1.0, 0.1)
    assert model["optimizer"] == {"name": "adamw", "lr": 1e-3, "weight_decay": 0.05}
    assert model["schedule"] == {"name": "cosine", "warmup": 0.0333, "min_lr": 5e-5}
    assert model["encoder"]["init_args"]["drop_path_rate"] == 0.1
    assert (data["augment"]["policy"], data["augment"]["erase"]) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert (trainer["max_epochs"], trainer["gradient_clip_val"]) == (300, 1.0)
    assert trainer["callbacks"][0]["init_args"]["decay"] == 0.99996


def test_a_local_file_comes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("image/digits") == ROOT / "image" / "digits.yaml"
    assert find_recipe("image/digits.yaml") == ROOT / "image" / "digits.yaml"
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "digits.yaml").touch()
    assert find_recipe("image/digits") == Path("image/digits.yaml")
    (tmp_path / "image" / "digits.yaml").write_text("{run: {name: local}}")
    args = ["--config", "image/digits", "--config=trainer/gpu", "--model.mixup", "0.1", "-c", '{"run": {"root": "r"}}']
    request = read_request(args)
    assert request.recipes == [Path("image/digits.yaml"), ROOT / "trainer" / "gpu.yaml"]
    assert (request.run.name, request.run.root) == ("local", "r")
    with pytest.raises(
        FileNotFoundError, match=re.escape("there is no recipe 'image/digts'. Did you mean image/digits?")
    ):
        find_recipe("image/digts")
