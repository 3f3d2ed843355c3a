"""Classification of texts, or of pairs of texts, with one label or a list of labels, by any encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softformer.layers.pooling import PoolingKind
from softformer.models.text import TextClassifierNetwork, text_backbone
from softformer.training.encoders.spec import EncoderSpec
from softformer.training.module import Stage
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import ScheduleSpec
from tasks.classification.classifier import Classifier, given_classes
from tasks.classification.metrics import check_labels, check_num_classes
from tasks.classification.predictions import TOP_K, Prediction, prediction_rows
from tasks.classification.weights import ClassWeights
from tasks.text.processor import Text, TextProcessor, known_vocab_size
from tasks.text.tokens.agreement import check_ids, check_token_weights

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()


class TextClassifier(Classifier[TextProcessor]):
    """Classifies texts, or pairs of texts.

    Args:
        encoder: The network: a SoftEncoderSpec, an AutoModelSpec, or your own.
        processor: How texts become tokens, and the classes; the command line takes it from the data.
        vocab_size: Number of tokens. None for those of the processor; encoders with embeddings of their own need none.
        num_classes: Number of classes. None for those of the processor.
        multi_label: Whether a text has any number of labels, as (B, K) zeros and ones, instead of one; a processor with
            class names decides.
        pooling: The features of a text: the "mean" of its tokens, its first token ("cls"), or "attention", a learned
            weighted mean.
        class_weights: Weights of the classes in the loss, in the order of their numbers; with multi_label the weights
            of positive labels. "balanced" weighs classes by the inverse of their frequency in the training split.
        label_smoothing: Share of the target that is spread over all classes in training, in [0, 1).
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.
        weights: File of weights to start from: a checkpoint of our own, also of masked language modelling, or
            safetensors.
        freeze_backbone: Whether only the pooling and the head train.
    """

    network: TextClassifierNetwork

    def __init__(
        self,
        encoder: EncoderSpec,
        *,
        processor: TextProcessor | None = None,
        vocab_size: int | None = None,
        num_classes: int | None = None,
        multi_label: bool = False,
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
        backbone = text_backbone(encoder.build(), known_vocab_size(vocab_size, processor))
        self.network = TextClassifierNetwork(backbone, num_classes, pooling=pooling)
        self.set_classes(
            num_classes, multi_label, second="f1", label_smoothing=label_smoothing, class_weights=class_weights
        )
        head = torch.nn.ModuleList([self.network.pooling, self.network.head])
        self.begin(weights=weights, head=head, freeze_backbone=freeze_backbone)
        check_token_weights(self.weight_report, self.network, backbone.token_weight)

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Logits (B, K) of token ids (B, N); mask (B, N) is True at real tokens."""
        return self.network(ids, mask, types)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Cross entropy, binary with multi_label; smoothed and weighted in training alone."""
        logits, target = self._logits(batch).float(), batch["label"]
        self.count(stage, logits, target)
        return self.loss(logits, target, stage)

    def _logits(self, batch: dict[str, Any]) -> Tensor:
        return self(batch["ids"], batch["mask"], batch.get("types"))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check a batch while it is on the CPU, where a check does not wait for the device."""
        if "target" in batch:
            raise ValueError(
                "the data must have labels, got masked tokens; set --data.label_column to the column of the classes"
            )
        check_ids(batch["ids"], self.network.backbone.token_weight.shape[0])
        if "label" in batch:
            check_labels(batch["label"], self.num_classes, self.multi_label)
        return batch

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each text: the text or the pair, then the top classes and their probabilities (`listed`)."""
        return prediction_rows(batch, self.predictions(self._logits(batch), self.listed), ("text", "text_pair"))

    def predict(
        self, texts: Text | Sequence[Text], *, top_k: int = TOP_K, batch_size: int = 32
    ) -> list[list[Prediction]]:
        """The top-k classes of texts.

        Args:
            texts: One or several strings, or pairs of strings as tuples.
            top_k: Number of classes to return; at most the number of classes of the task.
            batch_size: Number of texts in a batch.

        Returns:
            The top-k classes and their probabilities for each text, best first.

        Raises:
            ValueError: The task has no processor, or a text is empty.
        """
        processor, found = self.needed_processor(), dict[int, list[Prediction]]()
        with self.predicting():
            for batch in processor.batches(texts, batch_size):
                moved = self.transfer_batch_to_device(batch, self.device, 0)
                found |= zip(moved["index"].tolist(), self.predictions(self._logits(moved), top_k))
        return [found[place] for place in range(len(found))]
