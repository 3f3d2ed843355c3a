"""Options on the command line reach the objects they name, and who wins where several give one."""

import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import TINY, softformer
from training_runs import trained_checkpoint

from softformer.layers import SoftAttention
from tasks.command.application import SoftformerCLI
from tasks.data.files import list_files, located


class Built(Exception):
    """Ends a command where its objects exist."""

    cli: SoftformerCLI


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function from arguments to the command's objects, which are not run."""

    def stop(self: SoftformerCLI, subcommand: str) -> None:
        Built.cli = self
        raise Built

    monkeypatch.setattr(SoftformerCLI, "_run_subcommand", stop)

    def build(*args: str, folder: Path = tmp_path) -> SoftformerCLI:
        with pytest.raises(Built):
            softformer(folder, *args)
        return Built.cli

    return build


def test_command_line_beats_recipe_beats_checkpoint(build: Any, tmp_path: Path) -> None:
    path = str(trained_checkpoint(tmp_path, label_smoothing=0.25))
    assert build("test", "--ckpt_path", path).model.label_smoothing == 0.25
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{model: {init_args: {label_smoothing: 0.5, mixup: 0.1}}, data: {init_args: {batch_size: 3}}}")
    cli = build("test", "--config", "recipe.yaml", "--ckpt_path", path)
    assert (cli.model.label_smoothing, cli.model.mixup, cli.datamodule.batch_size) == (0.5, 0.1, 3)
    cli = build("test", "--model.label_smoothing", "0.125", "--config", "recipe.yaml", f"--ckpt_path={path}")
    assert cli.model.label_smoothing == 0.5  # as always, the later of the two
    cli = build("test", "--config", "recipe.yaml", "--model.label_smoothing", "0.125", "--ckpt_path", path)
    assert cli.model.label_smoothing == 0.125


@pytest.mark.parametrize("join", [["{}", "{}"], ["{}={}"]], ids=["apart", "joined"])
def test_the_last_of_equal_options_wins(build: Any, tmp_path: Path, join: list[str]) -> None:
    def args(option: str, value: str) -> list[str]:
        return [part.format(*pair) for part, pair in zip(join, [(option, value), (value,)])]

    (tmp_path / "other.yaml").write_text("run: {name: by_recipe}")
    for first in (["--run.name=a"], ["--run.name", "a"], ["--config", "other.yaml"]):
        cli = build("fit", *TINY, *first, *args("--run.name", "b"))
        assert cli.folder.path == Path("runs/b")
        cli = build(
            "fit", *TINY, *first, *args("--model", "ImageClassifier"), "--run.root", "x", *args("--run.root", "y")
        )
        assert cli.folder.path.parent == Path("y")
    assert build("fit", *TINY, "--run.name", "a", "--config", "other.yaml").folder.path == Path("runs/by_recipe")
    (tmp_path / "recipe.yaml").write_text("run: {root: runs}")
    cli = build("fit", *TINY, "--config", "recipe.yaml", *args("--run.name", "a"), *args("--run.name", "null"))
    assert cli.folder.path == Path("runs/recipe")
    cli = build("fit", *args("--model", "TextClassifier"), *args("--model", "ImageClassifier"), *TINY[2:])
    assert type(cli.model).__name__ == "ImageClassifier"
    data = [
        "--data",
        "ImageDataModule",
        "--data.image_size",
        "32",
        "--data.path=x",
        *args("--data.path", "sklearn/digits"),
    ]
    assert build("fit", *TINY[:2], *TINY[4:], *data).datamodule.source.path == "sklearn/digits"
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
    first, second = (str(trained_checkpoint(tmp_path / f"{n}", label_smoothing=0.1 * n)) for n in (1, 2))
    cli = build("test", f"--ckpt_path={first}", *args("--ckpt_path", second))
    assert (cli.model.label_smoothing, cli.config["test"].ckpt_path) == (0.2, second)


def test_a_name_that_is_not_utf_8(build: Any, tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    (folder / "1.png").touch()
    model = ["--ckpt_path", str(trained_checkpoint(tmp_path)), "--data", "ImageDataModule", "--data.path", "unread"]
    cli = build("predict", *model, "--data.images", str(folder))
    (found,) = list_files("images", cli.datamodule.images, (".png",), "image")
    assert located(Path(), found) == folder / "1.png"
    outcome = softformer(tmp_path, "test", "--ckpt_path", "\udce9.ckpt")
    assert "there is no checkpoint at \\xe9.ckpt" in outcome.err


def test_a_checkpoint_in_a_recipe(build: Any, tmp_path: Path) -> None:
    path = str(trained_checkpoint(tmp_path, label_smoothing=0.25))
    (tmp_path / "recipe.yaml").write_text(f"{{ckpt_path: {path}, model: {{init_args: {{mixup: 0.5}}}}}}")
    cli = build("test", "--config", "recipe.yaml")
    assert (cli.model.label_smoothing, cli.model.mixup, cli.config["test"].ckpt_path) == (0.25, 0.5, path)
    (tmp_path / "none.yaml").write_text("ckpt_path: null")
    assert build("fit", *TINY, "--config", "none.yaml").config["fit"].ckpt_path is None


@pytest.mark.parametrize("place", ["command line", "recipe"])
def test_options_that_another_class_keeps_are_said(
    build: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    encoder = {"class_path": "SoftVisionSpec", "init_args": {"embed_dims": [6], "depths": [1], "num_heads": [1]}}
    (tmp_path / "encoder.yaml").write_text(
        yaml.safe_dump({"model": {"class_path": "ImageClassifier", "init_args": {"encoder": encoder}}})
    )
    swap = {"command line": ["--model.encoder", "SoftVisionSpec"], "recipe": ["--config", "encoder.yaml"]}[place]
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        build("fit", *TINY, *swap, "--model.encoder.name", "soft_tiny")
    assert "ImageClassifier.encoder: SoftVisionSpec keeps img_size=32 from TimmSpec" in caplog.text


def test_every_option_of_the_attention_is_reached(build: Any) -> None:
    options = {
        "name": "soft_tiny",
        "img_size": "32",
        "stem_stride": "2",
        "stem_width": "3",
        "embed_dims": "[6, 10]",
        "depths": "[1, 1]",
        "num_heads": "[2, 1]",
        "inverse": "Cholesky",
        "inverse.ridge": "0.1",
        "symmetric_norm": "true",
        "backend": "eager",
        "landmarks": "adaptive",
        "num_landmarks": "25",
        "value_kernels": "[7, 0]",
        "last_stage": "soft",
        "block_drop": "path",
        "weight_init": "xavier",
        "drop_path_rate": "0.2",
        "global_pool": "avg",
    }
    args = [part for name, value in options.items() for part in (f"--model.encoder.{name}", value)]
    cli = build("fit", *TINY, "--model.encoder", "SoftVisionSpec", *args)
    first, second = [module for module in cli.model.network.modules() if isinstance(module, SoftAttention)]
    assert repr(first.inverse) == "Cholesky(ridge=0.1)"
    assert first.symmetric_norm
    assert first.backend == "eager"
    assert first.landmarks.side == 5
    assert first.value_conv.weight.shape[-1] == 7
    assert second.value_conv is None
    assert cli.model.network.weight_init == "xavier"
    assert cli.model.network.global_pool == "avg"
    assert type(cli.model.network.stages[1].blocks[0].drop1).__name__ == "DropPath"


@pytest.mark.parametrize(
    ("args", "inverse"),
    [
        (["Newton"], "Newton(gradient='implicit', iterations=20, ridge=0.01, start='row_sum')"),
        (["Newton", "--model.encoder.inverse.start", "halving"], "start='halving'"),
        (["Newton", "--model.encoder.inverse.gradient", "unrolled"], "gradient='unrolled'"),
        (["Newton", "--model.encoder.inverse.iterations", "7"], "iterations=7"),
        (["Cholesky"], "Cholesky(ridge=0.01)"),
    ],
)
def test_the_inverse_is_the_one_that_was_asked_for(build: Any, args: list[str], inverse: str) -> None:
    encoder = ["--model.encoder", "SoftVisionSpec", "--model.encoder.inverse", *args]
    cli = build("fit", *TINY, *encoder, "--trainer.fast_dev_run", "1")
    soft = next(module for module in cli.model.network.modules() if isinstance(module, SoftAttention))
    assert inverse in repr(soft.inverse)


def test_closed_choices_of_a_task_are_reached(build: Any) -> None:
    args = "--model.schedule.name linear --model.freeze_backbone true --model.optimizer.name lamb --model.mixup 0.2"
    args += " --model.cutmix 0.3 --model.optimizer.layer_decay 0.5 --model.optimizer.betas [0.5,0.6]"
    cli = build("fit", *TINY, *args.split())
    assert cli.model.schedule_spec.name == "linear"
    assert (cli.model.optimizer_spec.name, cli.model.optimizer_spec.layer_decay) == ("lamb", 0.5)
    assert cli.model.optimizer_spec.betas == (0.5, 0.6)
    assert (cli.model.mixup, cli.model.cutmix) == (0.2, 0.3)
    assert not cli.model.network.blocks[0].attn.qkv.weight.requires_grad
    assert cli.model.num_classes == 7  # from the data
    assert build("fit", *TINY, "--data.multi_label", "true").model.multi_label


def test_null_reaches_nested_options(build: Any) -> None:
    encoder = [
        "--model.encoder",
        "SoftVisionSpec",
        "--model.encoder.img_size",
        "32",
        "--model.encoder.img_size",
        "null",
    ]
    cli = build("fit", *TINY[:4], *encoder)
    assert cli.model.network.stages[0].pos_embed.shape[1:3] == (56, 56)


def test_everything_can_be_sent_to_another_process(build: Any) -> None:
    """As ddp_spawn does with the trainer, its callbacks, the task, and the data."""
    cli = build("fit", *TINY, "--run.test_after_fit", "true")
    trainer, model, data = pickle.loads(bytes(ForkingPickler.dumps((cli.trainer, cli.model, cli.datamodule))))
    assert [type(callback) for callback in trainer.callbacks] == [type(callback) for callback in cli.trainer.callbacks]
    assert model.num_classes == data.classes == 7
