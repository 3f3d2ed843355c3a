"""Image classification: one label or several, with any encoder."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from softformer.training.encoders.spec import EncoderSpec
from softformer.training.module import Stage
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import ScheduleSpec
from softformer.training.seeding import seeded
from tasks.classification.classifier import Classifier, given_classes
from tasks.classification.metrics import check_labels
from tasks.classification.predictions import TOP_K, Prediction, prediction_rows
from tasks.image.mixing import mix_batch
from tasks.image.network import input_channels, only_size, with_head
from tasks.image.processor import ImageProcessor, RawImage, as_images

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()


class ImageClassifier(Classifier[ImageProcessor]):
    """Classifies images.

    Args:
        encoder: The network.
        processor: How images become tensors, and the classes; the command line takes it from the data.
        num_classes: Number of classes. None for those of the processor, or of the network.
        multi_label: Whether an image has any number of labels, as (B, K) zeros and ones, instead of one; a processor
            with class names decides.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        mixup: Parameter of mixup's Beta distribution, 0.8 in most recipes for ImageNet; 0 for off.
        cutmix: Parameter of cutmix's Beta distribution; 0 for off. With both, each batch takes one of them.
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.
        weights: File of weights to start from: published, our own checkpoint, timm's or safetensors.
        freeze_backbone: Whether only the head trains.
    """

    def __init__(
        self,
        encoder: EncoderSpec,
        *,
        processor: ImageProcessor | None = None,
        num_classes: int | None = None,
        multi_label: bool = False,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        optimizer: OptimizerSpec = _OPTIMIZER,
        schedule: ScheduleSpec = _SCHEDULE,
        weights: str | None = None,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule)
        if mixup < 0 or cutmix < 0:
            raise ValueError(f"mixup and cutmix must be zero or positive, got {mixup} and {cutmix}")
        self.processor = processor
        num_classes, multi_label = given_classes(num_classes, multi_label, processor)
        self.network, head = with_head(encoder.build(), num_classes)
        num_classes = int(self.network.num_classes)  # type: ignore[arg-type]
        self.set_classes(num_classes, multi_label, second="top5_accuracy", label_smoothing=label_smoothing)
        self.mixup = mixup
        self.cutmix = cutmix
        self._channels, self._size = input_channels(self.network), only_size(self.network)
        self.begin(weights=weights, head=head, freeze_backbone=freeze_backbone)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) that an `ImageProcessor` made."""
        return self.network(images)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Cross entropy, binary with multi_label; smoothed in training alone."""
        logits, target = self(batch["image"]).float(), batch["label"]
        mixed = stage == "train" and (self.mixup or self.cutmix)
        if not mixed:  # a mixed image has no single class to count
            self.count(stage, logits, target)
        return self.loss(logits, target, stage)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check a batch while it is on the CPU, where a check does not wait for the device."""
        channels, size = batch["image"].shape[1], tuple(batch["image"].shape[2:])
        if self._channels is not None and channels != self._channels:
            raise ValueError(
                f"images must have the {self._channels} channels of the network, got {channels}; set "
                f"--model.encoder.in_chans {channels}, or --data.channels {self._channels}"
            )
        if self._size is not None and size != self._size:
            raise ValueError(
                f"images must have the {self._size[0]} x {self._size[1]} pixels of the network, got {size[0]} x "
                f"{size[1]}; set --model.encoder.img_size {size[0]}, or --data.image_size {self._size[0]}"
            )
        if "label" in batch:
            check_labels(batch["label"], self.num_classes, self.multi_label)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Mix a training batch, with random numbers that depend on its number in the run alone."""
        if not self.trainer.training or not (self.mixup or self.cutmix):
            return batch
        batch_idx = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        with seeded(self.batch_seed(batch_idx, purpose=1)):
            images, labels = mix_batch(
                batch["image"], batch["label"], num_classes=self.num_classes, mixup=self.mixup, cutmix=self.cutmix
            )
        return {**batch, "image": images, "label": labels}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each image: its file, then the top classes and their probabilities (`listed`)."""
        return prediction_rows(batch, self.predictions(self(batch["image"]), self.listed))

    def predict(
        self, images: RawImage | Sequence[RawImage], *, top_k: int = TOP_K, batch_size: int = 32
    ) -> list[list[Prediction]]:
        """The top-k classes of images.

        Args:
            images: An image or a sequence of images: paths, PIL images, arrays, or tensors, as `ImageProcessor` takes
                them; or an array or a tensor of four axes.
            top_k: Number of classes to return; at most the number of classes of the task.
            batch_size: Number of images in a batch.

        Returns:
            The top-k classes and their probabilities for each image, best first.

        Raises:
            ValueError: The task has no processor, or an image cannot be read.
        """
        processor, images = self.needed_processor(), as_images(images)
        found: list[list[Prediction]] = []
        with self.predicting():
            for start in range(0, len(images), batch_size):
                batch = processor(images[start : start + batch_size])
                found += self.predictions(self(batch.to(self.device)), top_k)
        return found
