"""Masked language modelling: an encoder learns a language by predicting masked tokens."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.text import Perplexity

from softformer.models.text import MaskedLanguageNetwork, text_backbone
from softformer.training.encoders.spec import EncoderSpec
from softformer.training.module import Stage
from softformer.training.optimizer import OptimizerSpec
from softformer.training.schedule import ScheduleSpec
from tasks.base import Task
from tasks.text.processor import Text, TextProcessor, known_vocab_size
from tasks.text.tokens.agreement import check_ids, check_token_weights

logger = logging.getLogger(__name__)

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()


class MaskedPerplexity(Perplexity):
    """exp of the mean cross entropy of masked tokens: logits (P, V), tokens (P,)."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the masked tokens of a batch."""
        super().update(preds.unsqueeze(0), target.unsqueeze(0))


class MaskedLanguageModel(Task[TextProcessor]):
    """Predicts masked tokens. `TextClassifier` can start from its checkpoint by ``--model.weights``.

    Args:
        encoder: The network: a SoftEncoderSpec, an AutoModelSpec, or your own.
        processor: How texts become tokens; the command line takes it from the data.
        vocab_size: Number of tokens. None for those of the processor; encoders with embeddings of their own need none.
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.
        weights: File of weights to start from: a checkpoint of our own, or safetensors.
    """

    network: MaskedLanguageNetwork
    monitor = "val/perplexity"
    monitor_mode = "min"

    def __init__(
        self,
        encoder: EncoderSpec,
        *,
        processor: TextProcessor | None = None,
        vocab_size: int | None = None,
        optimizer: OptimizerSpec = _OPTIMIZER,
        schedule: ScheduleSpec = _SCHEDULE,
        weights: str | None = None,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule)
        self.processor = processor
        self._num_filled = self._num_cut = 0  # masked tokens that were predicted, or cut off, since the last warning
        backbone = text_backbone(encoder.build(), known_vocab_size(vocab_size, processor))
        self.network = MaskedLanguageNetwork(backbone)
        self.vocab_size = backbone.token_weight.shape[0]
        accuracy = MulticlassAccuracy(self.vocab_size, average="micro")
        self.make_metrics(MetricCollection({"accuracy": accuracy, "perplexity": MaskedPerplexity()}))
        self.begin(weights=weights, head=self.network.head, freeze_backbone=False)
        check_token_weights(self.weight_report, self.network, backbone.token_weight)

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Logits (B, N, V) of token ids (B, N); mask (B, N) is True at real tokens."""
        return self.network(ids, mask, types)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Cross entropy of the masked tokens, whose targets are not -100."""
        masked = batch["target"] != -100
        logits, target = self._logits(batch, masked), batch["target"][masked]
        if not len(target):
            return logits.sum()  # a batch of very short texts may have no masked token: zero, and no gradient
        self.log_metrics(stage, logits.detach(), target)
        return F.cross_entropy(logits, target)

    def _logits(self, batch: dict[str, Any], places: Tensor) -> Tensor:
        return self.network(batch["ids"], batch["mask"], batch.get("types"), places=places).float()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check a batch while it is on the CPU, where a check does not wait for the device."""
        check_ids(batch["ids"], self.vocab_size)
        if "target" not in batch and "text" not in batch:
            raise ValueError(
                "the data must have masked tokens, got labels; set --data.label_column null for masked language "
                "modelling"
            )
        return batch

    def on_predict_end(self) -> None:
        """Warn of masked tokens that were cut off, or if there were no masked tokens."""
        processor = self.needed_processor()
        if self._num_cut:
            logger.warning(
                "masked tokens beyond the first %s tokens of a text (max_length) were not predicted: %s; shorten these "
                "texts, or set a larger max_length",
                *(f"{number:,}" for number in (processor.max_length, self._num_cut)),
            )
        elif not self._num_filled:
            logger.warning(
                "no text has a masked token; write %s for a token to predict", processor.tokenizer.mask_token
            )
        self._num_filled = self._num_cut = 0

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each text: the text, the same with its masks filled, and the tokens with their probabilities."""
        columns = [name for name in ("text", "text_pair") if name in batch]
        given = [dict(zip(columns, texts)) for texts in zip(*(batch[name] for name in columns))]
        tokenizer = self.needed_processor().tokenizer
        masked = batch["ids"] == tokenizer.mask_token_id
        num_masked = sum(text.count(tokenizer.mask_token) for texts in given for text in texts.values())
        self._num_filled += int(masked.sum())
        self._num_cut += max(0, num_masked - int(masked.sum()))
        return [
            {"index": index, **texts, **row}
            for index, texts, row in zip(batch["index"].tolist(), given, self._filled(batch, masked))
        ]

    def predict(self, texts: Text | Sequence[Text], *, batch_size: int = 32) -> list[dict[str, str]]:
        """Texts with their masked tokens filled.

        Args:
            texts: A string or a sequence of strings, or pairs of strings as tuples, with the mask token of the
                tokenizer, such as "[MASK]".
            batch_size: Number of texts in a batch.

        Returns:
            For each text: filled, the text; tokens and probabilities, JSON lists of the predicted tokens.

        Raises:
            ValueError: The task has no processor, or a text is empty.
        """
        processor, rows = self.needed_processor(), list[dict[str, Any]]()
        with self.predicting():
            for batch in processor.batches(texts, batch_size):
                rows += self.predict_step(self.transfer_batch_to_device(batch, self.device, 0), 0)
        self.on_predict_end()
        rows.sort(key=lambda row: row["index"])
        return [{name: row[name] for name in ("filled", "tokens", "probabilities")} for row in rows]

    def _filled(self, batch: dict[str, Any], masked: Tensor) -> list[dict[str, str]]:
        tokenizer = self.needed_processor().tokenizer
        probabilities, best = self._logits(batch, masked).softmax(-1).max(-1)
        filled = batch["ids"].masked_scatter(masked, best)
        roles = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
        special = torch.tensor([number for role in roles if (number := getattr(tokenizer, role)) is not None])
        rows = []
        ends = masked.sum(1).cumsum(0).tolist()
        for number, (begin, end) in enumerate(zip([0, *ends], ends)):
            ids = filled[number][batch["mask"][number]].cpu()
            tokens = [tokenizer.decode([token]) for token in best[begin:end].tolist()]
            row = {"filled": tokenizer.decode(ids[~torch.isin(ids, special)])}  # unknown tokens stay, such as [UNK]
            row["tokens"] = json.dumps(tokens, ensure_ascii=False)
            row["probabilities"] = json.dumps([round(value, 6) for value in probabilities[begin:end].tolist()])
            rows.append(row)
        return rows
