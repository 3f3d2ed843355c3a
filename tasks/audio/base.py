"""The base of the audio tasks: data and checkpoints must have the sample rate and the features of the network."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from softformer.models.audio.features import LogMel
from softformer.models.audio.network import AudioClassifierNetwork, SpeechNetwork
from tasks.audio.features import FeatureSpec, check_features
from tasks.audio.processor import MAX_SECONDS, AudioProcessor, Recording, check_sample_rate
from tasks.audio.recording_data import RecordingDataModule
from tasks.base import Task
from tasks.data.examples import Batch
from tasks.processor import Processor


class AudioTask(Task[AudioProcessor]):
    """Base of the audio tasks.

    Attributes:
        features: Options of the log-mel features.
        sample_rate: Sample rate of the network (Hz).
    """

    network: AudioClassifierNetwork | SpeechNetwork
    features: FeatureSpec
    sample_rate: int

    def check_processor(self, processor: Any) -> None:
        """Accept a processor that the network can use: an AudioProcessor of its sample rate, here.

        Raises:
            ValueError: The processor is that of other data, or the sample rate is another.
        """
        if not isinstance(processor, AudioProcessor):
            raise ValueError(
                f"the data must be recordings, got {type(processor).__name__}; use an AudioDataModule or a "
                "SpeechDataModule"
            )
        check_sample_rate(self.sample_rate, processor.sample_rate)

    def setup(self, stage: str) -> None:
        """Check the sample rate of the data, and let it treat recordings shorter than one window as bad.

        Raises:
            ValueError: The data has another sample rate.
            ReadError: A recording is shorter than one window of the features, and `on_bad_sound` is "error".
        """
        if isinstance(self.data, RecordingDataModule):
            check_sample_rate(self.sample_rate, self.data.sample_rate)
            self.data.require_seconds(self.features.init_args["window"] / 1000)

    def meet(self, data: Any) -> None:
        """Compare processors.

        Raises:
            ValueError: As in `Task.meet` and `check_processor`.
        """
        if (processor := getattr(data, "processor", None)) is not None:
            self.check_processor(processor)
        super().meet(data)

    def accepts(self, processor: Processor) -> bool:
        """Whether `check_processor` accepts a processor."""
        try:
            self.check_processor(processor)
        except ValueError:
            return False
        return True

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the processor of the checkpoint.

        Raises:
            ValueError: As in `Task.on_load_checkpoint`; or the features of the checkpoint differ.
        """
        super().on_load_checkpoint(checkpoint)
        check_features(self.features, self.sample_rate, checkpoint)

    def batches(
        self, processor: AudioProcessor, sounds: Recording | Sequence[Recording], max_seconds: float = MAX_SECONDS
    ) -> Iterator[Batch]:
        """Batches of a processor, checked and on the device of the task.

        Raises:
            ValueError: As in `AudioProcessor.batches`; or a recording is shorter than one window of the features.
        """
        for batch in processor.batches(sounds, max_seconds):
            check_recordings(batch, self.network.backbone.features)
            yield {**batch, "wave": batch["wave"].to(self.device), "length": batch["length"].to(self.device)}


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
