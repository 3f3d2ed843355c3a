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
        found = int(self.network.num_classes)  # type: ignore[arg-type]
        self.set_classes(found, multi_label, second="top5_accuracy", label_smoothing=label_smoothing)
        self.mixup = mixup
        self.cutmix = cutmix
        self._channels, self._size = input_channels(self.network), only_size(self.network)
        self.begin(weights=weights, head=head, freeze_backbone=freeze_backbone)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) that an `ImageProcessor` made."""
        return self.network(images)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Cross entropy, binary for several labels; smoothed in training alone."""
        logits, target = self(batch["image"]).float(), batch["label"]
        mixed = stage == "train" and (self.mixup or self.cutmix)
        if not mixed:  # a mixed image has no right answer to be counted
            self.count(stage, logits, target)
        return self.loss(logits, target, stage)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check a batch while it is on the CPU, where that costs nothing.

        Raises:
            ValueError: Channels, size or labels do not fit the network.
        """
        channels, size = batch["image"].shape[1], tuple(batch["image"].shape[2:])
        if self._channels is not None and channels != self._channels:
            raise ValueError(
                f"the images have {channels} channels, but the network takes {self._channels}:"
                f" set --model.encoder.in_chans {channels}, or --data.channels {self._channels}"
            )
        if self._size is not None and size != self._size:
            raise ValueError(
                f"the images have {size[0]} x {size[1]} pixels, but the network takes {self._size[0]} x {self._size[1]}"
                f" alone: set --model.encoder.img_size {size[0]}, or --data.image_size {self._size[0]}"
            )
        if "label" in batch:
            check_labels(batch["label"], self.num_classes, self.multi_label)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Mix a training batch, with random numbers that depend on its place in the run alone."""
        if not self.trainer.training or not (self.mixup or self.cutmix):
            return batch
        batch_idx = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        with seeded(self.batch_seed(batch_idx, purpose=1)):
            images, labels = mix_batch(
                batch["image"], batch["label"], num_classes=self.num_classes, mixup=self.mixup, cutmix=self.cutmix
            )
        return {**batch, "image": images, "label": labels}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each image: file, then the best classes and their probabilities (`listed`)."""
        return prediction_rows(batch, self.predictions(self(batch["image"]), self.listed))

    def predict(
        self, images: RawImage | Sequence[RawImage], *, top_k: int = TOP_K, batch_size: int = 32
    ) -> list[list[Prediction]]:
        """The top-k classes of images.

        Args:
            images: One or several: paths, PIL images, arrays, or tensors, as `ImageProcessor` takes them; also an array
                or a tensor of four axes.
            top_k: Number of classes; at most as many as there are.
            batch_size: Images in the network at a time.

        Returns:
            For each image, its best classes and their probabilities, best first.

        Raises:
            ValueError: The task has no processor, or an image cannot be read.
        """
        processor, several = self.needed_processor(), as_images(images)
        found: list[list[Prediction]] = []
        with self.predicting():
            for start in range(0, len(several), batch_size):
                batch = processor(several[start : start + batch_size])
                found += self.predictions(self(batch.to(self.device)), top_k)
        return found
