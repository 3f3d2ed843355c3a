"""A user's own data module on the command line."""

from pathlib import Path
from typing import Any

import yaml
from command_line import TINY, softformer
from lightning.pytorch import LightningDataModule
from tiny_images import TinyImages

from softformer.training.checkpoints.loading import load


class OtherData(LightningDataModule):
    """A user's data module, which tells nothing of its classes."""

    def train_dataloader(self) -> Any:
        """Eleven images."""
        return TinyImages(rows=11).train_dataloader()

    def val_dataloader(self) -> Any:
        """A few more."""
        return TinyImages().val_dataloader()


def test_a_users_data_module_and_the_classes_of_the_network(tmp_path: Path) -> None:
    args = [*TINY, "--data", f"{__name__}.OtherData", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    outcome = softformer(tmp_path, "fit", *args)
    assert outcome.code == 0, outcome.err
    assert load(tmp_path / "runs/run/checkpoints/last.ckpt").num_classes == 1000


def test_a_users_data_module_and_a_given_number_of_classes(tmp_path: Path) -> None:
    """What the data do not tell can be given; config.yaml and the checkpoint then know it."""
    data = ["--data", f"{__name__}.OtherData"]
    options = ["--model.num_classes", "7", "--run.name", "first", "--trainer.max_epochs", "1"]
    outcome = softformer(tmp_path, "fit", *TINY, *data, *options)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs/first"
    assert load(run / "checkpoints/last.ckpt").num_classes == 7
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["num_classes"] == 7
    outcome = softformer(tmp_path, "fit", "--config", str(run / "config.yaml"), "--run.name", "second")
    assert outcome.code == 0, outcome.err
    assert load(tmp_path / "runs/second/checkpoints/last.ckpt").num_classes == 7
    outcome = softformer(
        tmp_path, "fit", "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--trainer.max_epochs", "2"
    )
    assert outcome.code == 0, outcome.err
    checkpoint = str(run / "checkpoints/best.ckpt")
    outcome = softformer(tmp_path, "validate", "--ckpt_path", checkpoint, *data, "--trainer.accelerator", "cpu")
    assert outcome.code == 0, outcome.err
