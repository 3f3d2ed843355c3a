"""The base of the audio tasks: agreement of network, data, and checkpoints on sample rate and features."""

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
        """Raise ValueError unless the network can use a processor: an AudioProcessor of its sample rate."""
        if not isinstance(processor, AudioProcessor):
            raise ValueError(
                f"the data must be recordings, got {type(processor).__name__}; use an AudioDataModule or a "
                "SpeechDataModule"
            )
        check_sample_rate(self.sample_rate, processor.sample_rate)

    def setup(self, stage: str) -> None:
        """Check the sample rate of the data, and make recordings shorter than one window of the features bad."""
        if isinstance(self.data, RecordingDataModule):
            check_sample_rate(self.sample_rate, self.data.sample_rate)
            self.data.require_seconds(self.features.init_args["window"] / 1000)

    def meet(self, data: Any) -> None:
        """As in `Task.meet`, after `check_processor`."""
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
        """Take the processor of the checkpoint, whose features must equal those of the task."""
        super().on_load_checkpoint(checkpoint)
        check_features(self.features, self.sample_rate, checkpoint)

    def batches(
        self, processor: AudioProcessor, sounds: Recording | Sequence[Recording], max_seconds: float = MAX_SECONDS
    ) -> Iterator[Batch]:
        """Batches as in `AudioProcessor.batches`, checked and on the device of the task."""
        for batch in processor.batches(sounds, max_seconds):
            check_recordings(batch, self.network.backbone.features)
            yield {**batch, "wave": batch["wave"].to(self.device), "length": batch["length"].to(self.device)}


def check_recordings(batch: dict[str, Any], features: LogMel) -> None:
    """Raise ValueError unless a batch has float32 samples and each recording lasts one window of the features.

    The batch holds wave (B, T), length (B,), and file or index (B,), which messages name recordings by.
    """
    if batch["wave"].dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"samples must be float32, got {batch['wave'].dtype}, whose rounding is audible noise; use "
            "--trainer.precision bf16-mixed or 16-mixed instead of bf16-true or 16-true"
        )
    lengths = batch["length"].tolist()
    if short := [position for position, length in enumerate(lengths) if length < features.window]:
        file = batch["file"][short[0]] if "file" in batch else ""
        name = repr(file) if file else f"of row {int(batch['index'][short[0]])}"
        window, length = (1000 * samples / features.sample_rate for samples in (features.window, lengths[short[0]]))
        raise ValueError(
            f"the recording {name} must last at least one window of the features, {window:.1f} ms, got {length:.1f} "
            f"ms; leave out such recordings ({len(short)} of the {len(lengths)} of its batch), or set a shorter window "
            "by --model.features.window (ms)"
        )
