"""Checks that recordings suit the features of a network."""

from typing import Any

import torch

from softformer.models.audio.features import LogMel
from tasks.audio.features import FeatureSpec
from tasks.audio.processor import check_sample_rate
from tasks.audio.recording_data import RecordingDataModule


def check_recording_data(data: Any, features: FeatureSpec, sample_rate: int) -> None:
    """Check the sample rate of a data module, and let it treat recordings shorter than one window as bad.

    Args:
        data: A data module, or None. One that is not a data module of recordings is not checked here.
        features: Features of the network.
        sample_rate: Sample rate of the network (Hz).

    Raises:
        ValueError: The sample rates differ.
        ReadError: A recording is shorter than one window of the features, and `on_bad_sound` is "error".
    """
    if isinstance(data, RecordingDataModule):
        check_sample_rate(sample_rate, data.sample_rate)
        data.require_seconds(features.window / 1000)


def check_recordings(batch: dict[str, Any], features: LogMel) -> None:
    """Accept a batch of float32 recordings, each at least as long as one window of the features.

    Args:
        batch: It holds wave (B, T), length (B,), and file or index (B,), which messages name recordings by.
        features: Features of the network.

    Raises:
        ValueError: A recording is shorter than a window, or samples have half precision.
    """
    if batch["wave"].dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"samples must be float32, got {batch['wave'].dtype}, whose rounding is audible noise; use "
            "--trainer.precision bf16-mixed or 16-mixed instead of bf16-true or 16-true"
        )
    short = (batch["length"] < features.window).nonzero().flatten().tolist()
    if short:
        place = short[0]
        file = batch["file"][place] if "file" in batch else ""
        name = f"the recording {file!r}" if file else f"the recording of row {int(batch['index'][place])}"
        rate = features.sample_rate
        raise ValueError(
            f"{name} must last at least one window of the features, {1000 * features.window / rate:.1f} ms, got "
            f"{1000 * int(batch['length'][place]) / rate:.1f} ms; leave out such recordings ({len(short)} of the "
            f"{len(batch['length'])} of its batch), or set a shorter window by --model.features.window (ms)"
        )
