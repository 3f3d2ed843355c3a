"""Short runs of a small classifier, for tests of training."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from tiny_images import TinyImages

from softformer.training.encoders import EncoderSpec, SoftVisionSpec, TimmSpec
from tasks.image import ImageClassifier

VIT = TimmSpec("test_vit", img_size=32, drop_rate=0.2, drop_path_rate=0.1)
SOFT = SoftVisionSpec(
    img_size=32, embed_dims=[6, 10], depths=[1, 1], num_heads=[2, 1], stem_stride=2, stem_width=3, drop_rate=0.2
)


def quiet_trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    """A trainer on the CPU that prints and draws nothing."""
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": any(hasattr(callback, "path") for callback in callbacks),
        "num_sanity_val_steps": 0,
    }
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **{**defaults, **options},
    )


def classifier(encoder: EncoderSpec = VIT, **options: Any) -> ImageClassifier:
    """A task of seven classes with fixed weights."""
    seed_everything(3)
    return ImageClassifier(encoder, **{"num_classes": 7, **options})


def trained_checkpoint(folder: Path, encoder: EncoderSpec = VIT, **options: Any) -> Path:
    """The checkpoint of a task after one epoch on tiny images."""
    trainer = quiet_trainer(folder)
    trainer.fit(classifier(encoder, **options), datamodule=TinyImages(rows=23, channels=3))
    path = folder / "one.ckpt"
    trainer.save_checkpoint(path, weights_only=False)
    return path
