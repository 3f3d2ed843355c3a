"""Audio classification, single-label or multi-label, with any encoder of frames."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softformer.layers.pooling import PoolingKind
from softformer.models.audio.augment import AudioAugment
from softformer.models.audio.network import AudioBackbone, AudioClassifierNetwork
from softformer.models.audio.windows import Windows
from softformer.training.encoders.spec import EncoderSpec
from softformer.training.module import Stage
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import ScheduleSpec
from tasks.audio.base import AudioTask, check_recordings
from tasks.audio.features import FeatureSpec
from tasks.audio.processor import MAX_SECONDS, AudioProcessor, Recording, known_sample_rate
from tasks.classification.classifier import Classifier, given_classes
from tasks.classification.metrics import check_labels, check_num_classes
from tasks.classification.predictions import TOP_K, Prediction, prediction_rows
from tasks.classification.weights import ClassWeights

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()


class AudioClassifier(AudioTask, Classifier[AudioProcessor]):
    """Classifies recordings of any length. Time and memory are linear in the length.

    Args:
        encoder: The network: a SoftEncoderSpec, or your own, called as ``encoder(x, mask)`` with frames x (B, N, C) and
            their mask (B, N), and with its width C as the attribute ``dim``.
        processor: Sample rate and classes of the data; the command line takes it from the data.
        num_classes: Number of classes. None for the classes of the processor.
        multi_label: Whether a recording has any number of labels, as (B, K) zeros and ones, instead of one; a processor
            with class names decides.
        sample_rate: Sample rate of the recordings (Hz). None for the rate of the processor.
        features: Options of the log-mel features.
        subsampling: Number of frames that make one token: 1, 2, 4, or 8.
        augment: Augmentation of the recordings in training.
        windows: Overlapping windows for recordings that are longer than all recordings of the training; by default a
            window is as long as the longest of these. None computes each recording in one pass.
        pooling: Vector of a recording: the "mean" of its tokens, its first token ("cls"), or "attention", a learned
            weighted mean of its tokens.
        class_weights: Weights of the classes in the loss, in the order of their numbers; with multi_label, weights of
            the positive targets. "balanced" weights classes inversely to their frequency in the training split.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.
        weights: File of pretrained weights: a checkpoint of this class or of SpeechRecognizer, or safetensors.
        freeze_backbone: Whether only the pooling and the head train; the backbone is then in evaluation mode, without
            augmentation.
    """

    network: AudioClassifierNetwork

    def __init__(
        self,
        encoder: EncoderSpec,
        *,
        processor: AudioProcessor | None = None,
        num_classes: int | None = None,
        multi_label: bool = False,
        sample_rate: int | None = None,
        features: FeatureSpec = FeatureSpec(),  # noqa: B008  (never changes, and recipes read it here)
        subsampling: int = 4,
        augment: AudioAugment = AudioAugment(),  # noqa: B008
        windows: Windows | None = Windows(),  # noqa: B008
        pooling: PoolingKind = "mean",
        class_weights: ClassWeights = None,
        label_smoothing: float = 0.0,
        optimizer: OptimizerSpec = _OPTIMIZER,
        schedule: ScheduleSpec = _SCHEDULE,
        weights: str | None = None,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule)
        _check_no_units(processor)
        num_classes, multi_label = given_classes(num_classes, multi_label, processor)
        num_classes = check_num_classes(num_classes)
        self.processor, self.features = processor, features
        log_mel = features.build(known_sample_rate(sample_rate, processor))
        self.sample_rate = log_mel.sample_rate
        backbone = AudioBackbone(log_mel, encoder.build(), subsampling=subsampling, augment=augment, windows=windows)
        self.network = AudioClassifierNetwork(backbone, num_classes, pooling=pooling)
        self.set_classes(
            num_classes, multi_label, second="f1", label_smoothing=label_smoothing, class_weights=class_weights
        )
        head = torch.nn.ModuleList([self.network.pooling, self.network.head])
        self.begin(weights=weights, head=head, freeze_backbone=freeze_backbone)

    def forward(self, wave: Tensor, length: Tensor) -> Tensor:
        """Logits (B, K) of waveforms (B, T) in [-1, 1], padded after `length` (B,) samples."""
        return self.network(wave, length)

    def check_processor(self, processor: Any) -> None:
        """Raise ValueError unless a processor has the sample rate of the network, and no units."""
        super().check_processor(processor)
        _check_no_units(processor)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Cross entropy, binary with multi_label; smoothed and weighted only in training."""
        logits, target = self(batch["wave"], batch["length"]).float(), batch["label"]
        self.count(stage, logits, target)
        return self.loss(logits, target, stage)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check recordings and labels of a batch while it is on the CPU, where a check does not wait for a GPU."""
        if "units" in batch:
            raise ValueError(
                "a batch must have labels, got transcripts; use an AudioDataModule, or train a SpeechRecognizer"
            )
        check_recordings(batch, self.network.backbone.features)
        if "label" in batch:
            check_labels(batch["label"], self.num_classes, self.multi_label)
        return batch

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each recording: its file, then the top classes and their probabilities (`listed`)."""
        return prediction_rows(batch, self.predictions(self(batch["wave"], batch["length"]), self.listed))

    def predict(
        self, sounds: Recording | Sequence[Recording], *, top_k: int = TOP_K, max_seconds: float = MAX_SECONDS
    ) -> list[list[Prediction]]:
        """The top-k classes of recordings of any length, and their probabilities, best first.

        Args:
            sounds: One recording or a list: files of any sample rate, or arrays or tensors (T,) in [-1, 1] at the
                sample rate of the network.
            top_k: Number of classes.
            max_seconds: Maximum seconds of a batch, padding included; a longer recording is a batch by itself.

        Raises:
            ValueError: A recording cannot be read, or is shorter than one window of the features.
        """
        processor = self.known_processor() or AudioProcessor(self.sample_rate)
        found: list[list[Prediction]] = []
        with self.predicting():
            for batch in self.batches(processor, sounds, max_seconds):
                found += self.predictions(self(batch["wave"], batch["length"]), top_k)
        return found


def _check_no_units(processor: AudioProcessor | None) -> None:
    if processor is not None and processor.unit_settings is not None:
        raise ValueError(
            "the data must have class labels, got transcripts; train a classifier on an AudioDataModule, or train a "
            "SpeechRecognizer"
        )
