"""Sound classification: one label or several, with any encoder of frames."""

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
from tasks.audio.features import FeatureSpec, check_features
from tasks.audio.processor import MAX_SECONDS, AudioProcessor, Recording, known_sample_rate
from tasks.audio.recordings import check_recordings, require_window
from tasks.classification.classifier import Classifier, given_classes
from tasks.classification.metrics import check_labels, check_num_classes
from tasks.classification.predictions import TOP_K, Prediction, prediction_rows
from tasks.classification.weights import ClassWeights

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()


class AudioClassifier(Classifier[AudioProcessor]):
    """Classifies recordings of any length; time and memory grow with it alone.

    Args:
        encoder: The network: a SoftEncoderSpec, or your own, called as ``encoder(x, mask)`` with frames x (B, N, C) and
            their mask (B, N), and with its width C as the attribute ``dim``.
        processor: How recordings become waveforms, and the classes; the command line takes it from the data.
        num_classes: Number of classes. None for those of the processor.
        multi_label: Whether a recording has any number of labels, as (B, K) zeros and ones, instead of one; a processor
            with class names decides.
        sample_rate: Sample rate of the recordings (Hz). None for that of the processor.
        features: How sound becomes frames.
        subsampling: How many frames become one token: 1, 2, 4 or 8.
        augment: What chance changes in training.
        windows: How recordings are heard that are longer than those of the training: in overlapping windows, as long as
            the longest of these where `seconds` says nothing else. None hears each in one pass.
        pooling: What stands for a recording: "mean" of its tokens, its first token ("cls"), or "attention", a learned
            mean.
        class_weights: Weights of the classes in the loss, in the order of their numbers; with several labels the
            weights of the presence of each. "balanced" weighs them against their frequency in the training split.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.
        weights: File of weights to start from: our own checkpoint, of a SpeechRecognizer too, or safetensors.
        freeze_backbone: Whether only the pooling and the head train; the rest is then as in evaluation, so nothing is
            augmented.
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
        self.processor = processor
        num_classes, multi_label = given_classes(num_classes, multi_label, processor)
        num_classes = check_num_classes(num_classes)
        self.features = features
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
        """Logits (B, K) of waveforms (B, T) in [-1, 1], the first `length` (B,) samples of which are sound."""
        return self.network(wave, length)

    def setup(self, stage: str) -> None:
        """Let the data refuse recordings that are shorter than one window of the features."""
        require_window(self.data, self.network.backbone.features)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Cross entropy, binary for several labels; smoothed and weighted in training alone."""
        logits, target = self._logits(batch).float(), batch["label"]
        self.count(stage, logits, target)
        return self.loss(logits, target, stage)

    def _logits(self, batch: dict[str, Any]) -> Tensor:
        return self(batch["wave"], batch["length"])

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check a batch while it is on the CPU, where that costs nothing.

        Raises:
            ValueError: It has transcripts in place of labels, labels that do not fit the network, or a recording that
                is shorter than a window.
        """
        if "units" in batch:
            raise ValueError(
                "the data has transcripts and no labels: use an AudioDataModule, or train a SpeechRecognizer"
            )
        check_recordings(batch, self.network.backbone.features)
        if "label" in batch:
            check_labels(batch["label"], self.num_classes, self.multi_label)
        return batch

    def meet(self, data: Any) -> None:
        """Compare processors.

        Raises:
            ValueError: As in `Classifier.meet`; or the data has another sample rate than the network.
        """
        known_sample_rate(self.sample_rate, getattr(data, "processor", None))
        super().meet(data)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the processor of the checkpoint.

        Raises:
            ValueError: The features differ.
        """
        super().on_load_checkpoint(checkpoint)
        check_features(self.features, self.sample_rate, checkpoint)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each recording: file, then the best classes and their probabilities (`listed`)."""
        return prediction_rows(batch, self.predictions(self._logits(batch), self.listed))

    def predict(
        self, sounds: Recording | Sequence[Recording], *, top_k: int = TOP_K, max_seconds: float = MAX_SECONDS
    ) -> list[list[Prediction]]:
        """The top-k classes of recordings of any length.

        Args:
            sounds: One or several: files of any sample rate, or arrays or tensors (T,) at the network's sample
                rate, in [-1, 1].
            top_k: Number of classes; at most as many as there are.
            max_seconds: Maximum seconds in the network at a time, padding included; a longer recording is alone.

        Returns:
            For each recording, its best classes and their probabilities, best first.

        Raises:
            ValueError: A recording cannot be read, or is shorter than a window.
        """
        processor, found = self.processor or AudioProcessor(self.sample_rate), list[list[Prediction]]()
        with self.predicting():
            for batch in processor.batches(sounds, max_seconds):
                check_recordings(batch, self.network.backbone.features)
                logits = self(batch["wave"].to(self.device), batch["length"].to(self.device))
                found += self.predictions(logits, top_k)
        return found
