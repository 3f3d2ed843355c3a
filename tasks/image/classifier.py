"""Image classification: one label or several, with any encoder."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from softformer.training.encoders import EncoderSpec
from softformer.training.module import SoftformerModule, Stage
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import ScheduleSpec
from softformer.training.seeding import seeded
from tasks.image.guesses import BEST, Guess, Picture, as_list, best_guesses, columns, prepared
from tasks.image.metrics import check_labels, class_counter, classification_metrics
from tasks.image.mixing import mix_batch
from tasks.image.network import input_channels, only_size, with_head
from tasks.labels import shortened

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()


class ImageClassifier(SoftformerModule):
    """Classifies images.

    Args:
        encoder: The network.
        num_classes: Number of classes; a data module on the command line sets it. None for those the network has.
        multi_label: Whether an image has any number of labels, as (B, K) zeros and ones, instead of one; set likewise.
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
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if mixup < 0 or cutmix < 0:
            raise ValueError(f"mixup and cutmix must be zero or positive, got {mixup} and {cutmix}")
        self.network, head = with_head(encoder.build(), num_classes)
        self.num_classes = int(self.network.num_classes)  # type: ignore[arg-type]
        self.multi_label = multi_label
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.cutmix = cutmix
        self.input_settings: dict[str, Any] | None = None
        self.monitor, self.monitor_mode = ("val/f1" if multi_label else "val/accuracy"), "max"
        self.make_metrics(classification_metrics(self.num_classes, multi_label))
        self.val_counts = class_counter(self.num_classes, multi_label)
        self.test_counts = class_counter(self.num_classes, multi_label)
        self._channels, self._size = input_channels(self.network), only_size(self.network)
        self.begin(weights=weights, head=head, freeze_backbone=freeze_backbone)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) that `tasks.image.transforms` has prepared."""
        return self.network(images)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Cross entropy, binary for several labels; smoothed in training alone."""
        logits, target = self(batch["image"]).float(), batch["label"]
        mixed = stage == "train" and (self.mixup or self.cutmix)
        if not mixed:  # a mixed image has no right answer to be counted
            # Told logits that happen to lie in [0, 1], torchmetrics takes them for probabilities.
            scores = logits.detach().sigmoid() if self.multi_label else logits.detach()
            self.log_metrics(stage, scores, target.long())
            if stage != "train" and (counts := self._counts(stage)) is not None:
                counts.update(scores, target.long())
        smoothing = self.label_smoothing if stage == "train" else 0.0
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits, target.float() * (1 - smoothing) + smoothing / 2)
        return F.cross_entropy(logits, target, label_smoothing=smoothing)

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

    def on_validation_start(self) -> None:
        """Agree with the data on the classes."""
        if self.trainer.state.fn != "fit":
            self._meet_data()

    def on_test_start(self) -> None:
        """Agree with the data on the classes."""
        self._meet_data()

    def _meet_data(self) -> None:
        """Learn from the data of an evaluation what no checkpoint told; else check that both mean the same classes.

        Raises:
            ValueError: They do not.
        """
        told = self._told_by_data()
        self.input_settings = self.input_settings or told
        ours, theirs = ((settings or {}).get("class_names") for settings in (self.input_settings, told))
        if ours and theirs and ours != theirs:
            raise ValueError(
                f"the data must have the classes that the task was trained on, {shortened(ours)},"
                f" got {shortened(theirs)}"
            )
        count = getattr(getattr(self.trainer, "datamodule", None), "num_classes", None)
        if count not in (None, self.num_classes):
            raise ValueError(f"the data must have the {self.num_classes} classes of the network, got {count}")

    def _told_by_data(self) -> dict[str, Any] | None:
        describe = getattr(getattr(self.trainer, "datamodule", None), "input_settings", None)
        return None if describe is None else describe()

    def on_validation_epoch_start(self) -> None:
        """Count anew."""
        self._reset_counts("val")

    def on_test_epoch_start(self) -> None:
        """Count anew."""
        self._reset_counts("test")

    def _reset_counts(self, stage: Stage) -> None:
        if (counts := self._counts(stage)) is not None:
            counts.reset()

    def _counts(self, stage: Stage) -> Metric | None:
        return self.val_counts if stage == "val" else self.test_counts

    def class_labels(self) -> list[str]:
        """Names of the classes; their numbers where nothing is known."""
        names = (self.input_settings or {}).get("class_names")
        return list(names) if names and len(names) == self.num_classes else [str(i) for i in range(self.num_classes)]

    def class_counts(self, stage: Stage) -> Tensor | None:
        """Which class was taken for which in an evaluation (see `softformer.training.callbacks.class_report`)."""
        return None if (counts := self._counts(stage)) is None else counts.compute()

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each image: file, then class and probability of the best five."""
        guesses, indices = self._guesses(self(batch["image"]), BEST), batch["index"].tolist()
        files = batch.get("file", indices)
        return [{"index": index, "file": file, **columns(best)} for index, file, best in zip(indices, files, guesses)]

    @torch.inference_mode()
    def predict(
        self, images: Picture | Sequence[Picture], *, top_k: int = BEST, batch_size: int = 32
    ) -> list[list[Guess]]:
        """The likeliest classes of images, which are prepared as those of the validation were.

        Args:
            images: One or several: paths, PIL images, or tensors (C, H, W), uint8 or float in [0, 1]; also a tensor
                (B, C, H, W).
            top_k: How many classes; at most as many as there are.
            batch_size: Images in the network at a time.

        Returns:
            For each image, its best classes and their probabilities, best first.

        Raises:
            ValueError: The task does not know how its images are prepared, as it never met a data module; or an image
                cannot be decoded.
        """
        if self.input_settings is None:
            raise ValueError(
                "the task does not know how to prepare images: load it with softformer.load(checkpoint), train it with"
                " an ImageDataModule, or set task.input_settings = data.input_settings()"
            )
        pictures, training = as_list(images), self.training
        self.eval()
        guesses: list[list[Guess]] = []
        for start in range(0, len(pictures), batch_size):
            batch = prepared(pictures[start : start + batch_size], self.input_settings)
            guesses += self._guesses(self(batch.to(self.device)), top_k)
        self.train(training)
        return guesses

    def _guesses(self, logits: Tensor, top_k: int) -> list[list[Guess]]:
        logits = logits.float()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(-1)
        return best_guesses(probabilities, self.class_labels(), top_k)

    def setup(self, stage: str) -> None:
        """Learn from the data that is trained on how images are prepared and what the classes are called."""
        if stage == "fit":
            self.input_settings = self._told_by_data() or self.input_settings

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how images are prepared."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["input_settings"] = self.input_settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over how images are prepared; a run that trains learned it from its own data."""
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint.get("input_settings")
        trains = self._trainer is not None and self.trainer.state.fn == "fit"
        if self.input_settings is None or not trains:
            self.input_settings = stored
        elif stored is not None and stored.get("class_names") != self.input_settings.get("class_names"):
            rank_zero_warn("the classes of the checkpoint have other names than those of the data; check their order")
