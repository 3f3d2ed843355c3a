"""Whether a batch of recordings suits the features of a network."""

from typing import Any

import torch

from softformer.models.audio.features import LogMel


def require_window(data: Any, features: LogMel) -> None:
    """Let a data module of recordings refuse those that are shorter than one window of the features."""
    if (require := getattr(data, "require_seconds", None)) is not None:
        require(features.window / features.sample_rate)


def check_recordings(batch: dict[str, Any], features: LogMel) -> None:
    """Accept recordings that have a frame, and all bits of their samples.

    Args:
        batch: It holds length (B,), and file or index (B,) to name a recording by.
        features: They tell what a frame takes.

    Raises:
        ValueError: One is shorter than a window, or samples are of half precision.
    """
    if batch["wave"].dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"samples must be float32, got {batch['wave'].dtype}, whose rounding is heard as noise: take "
            "--trainer.precision bf16-mixed or 16-mixed in place of bf16-true or 16-true"
        )
    short = (batch["length"] < features.window).nonzero().flatten().tolist()
    if short:
        place = short[0]
        file = batch["file"][place] if "file" in batch else ""
        name = f"the recording {file!r}" if file else f"row {int(batch['index'][place])}"
        rate = features.sample_rate
        raise ValueError(
            f"{name} lasts {1000 * int(batch['length'][place]) / rate:.1f} ms, less than one window of the features "
            f"({1000 * features.window / rate:.1f} ms), as do {len(short)} of the {len(batch['length'])} of its batch. "
            "Leave such recordings out, or make the window shorter by --model.features.window (ms)"
        )
