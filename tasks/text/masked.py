"""Masked language modelling: an encoder learns a language by filling gaps in texts."""

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
from tasks.text.processor import TextProcessor, known_vocab_size
from tasks.text.tokens.agreement import check_ids, check_token_weights

logger = logging.getLogger(__name__)

_OPTIMIZER = OptimizerSpec()
_SCHEDULE = ScheduleSpec()


class GapPerplexity(Perplexity):
    """exp of the mean cross entropy of gaps: logits (P, V), tokens (P,)."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the gaps of a batch."""
        super().update(preds.unsqueeze(0), target.unsqueeze(0))


class MaskedLanguageModel(Task[TextProcessor]):
    """Learns to name masked tokens. Its checkpoint is a start for `TextClassifier` by ``--model.weights``.

    Args:
        encoder: The network: a SoftEncoderSpec, an AutoModelSpec, or your own.
        processor: How texts become tokens; the command line takes it from the data.
        vocab_size: Number of tokens. None for those of the processor; encoders with embeddings of their own need none.
        optimizer: Optimizer and its options.
        schedule: Learning rate over the run.
        weights: File of weights to start from: our own checkpoint, or safetensors.
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
        backbone = text_backbone(encoder.build(), known_vocab_size(vocab_size, processor))
        self.network = MaskedLanguageNetwork(backbone)
        self.vocab_size = backbone.token_weight.shape[0]
        accuracy = MulticlassAccuracy(self.vocab_size, average="micro")
        self.make_metrics(MetricCollection({"accuracy": accuracy, "perplexity": GapPerplexity()}))
        self.begin(weights=weights, head=self.network.head, freeze_backbone=False)
        check_token_weights(self.weight_report, self.network, backbone.token_weight)

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Logits (B, N, V) of token ids (B, N); mask (B, N) is True at real tokens."""
        return self.network(ids, mask, types)

    def step(self, batch: dict[str, Any], stage: Stage) -> Tensor:
        """Cross entropy of the gaps, which target marks by other numbers than -100."""
        gaps = batch["target"] != -100
        logits, target = self._logits(batch, gaps), batch["target"][gaps]
        if not len(target):
            return logits.sum()  # a batch of very short texts may have no gap: zero, and no gradient
        self.log_metrics(stage, logits.detach(), target)
        return F.cross_entropy(logits, target)

    def _logits(self, batch: dict[str, Any], places: Tensor) -> Tensor:
        return self.network(batch["ids"], batch["mask"], batch.get("types"), places=places).float()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check a batch while it is on the CPU.

        Raises:
            ValueError: It has labels in place of gaps, or tokens that the network does not know.
        """
        check_ids(batch["ids"], self.vocab_size)
        if "target" not in batch and "text" not in batch:
            raise ValueError(
                "the data has labels and no gaps: set --data.label_column null for masked language modelling"
            )
        return batch

    def on_predict_start(self) -> None:
        """Reset the number of texts that have masked tokens."""
        self._gaps = 0

    def on_predict_end(self) -> None:
        """Warn where no text had a masked token."""
        if not self._gaps:
            processor = self.needed_processor()
            logger.warning(
                "no text has a gap within its first %s tokens (max_length); write %s for a missing token",
                f"{processor.max_length:,}",
                processor.tokenizer.mask_token,
            )

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """A row for each text: the text, the same with its masks filled, and the tokens with their probabilities."""
        rows = self._filled(batch)
        self._gaps += sum(row["tokens"] != "[]" for row in rows)
        return [
            {"index": index, "text": text, **row}
            for index, text, row in zip(batch["index"].tolist(), batch["text"], rows)
        ]

    def predict(self, texts: str | Sequence[str], *, batch_size: int = 32) -> list[dict[str, str]]:
        """Texts with their masks filled.

        Args:
            texts: One or several strings that hold the tokenizer's mask token, "[MASK]".
            batch_size: Texts in the network at a time.

        Returns:
            For each text: filled, the text; tokens and probabilities, lists in JSON of what stands for its masks.

        Raises:
            ValueError: The task has no processor, or a text is empty.
        """
        processor, found = self.needed_processor(), dict[int, dict[str, str]]()
        with self.predicting():
            for batch in processor.batches(texts, batch_size):
                moved = {name: value.to(self.device) for name, value in batch.items()}
                found |= zip(moved["index"].tolist(), self._filled(moved))
        return [found[place] for place in range(len(found))]

    def _filled(self, batch: dict[str, Any]) -> list[dict[str, str]]:
        tokenizer = self.needed_processor().tokenizer
        masked = batch["ids"] == tokenizer.mask_token_id
        logits = self._logits(batch, masked)
        probabilities, best = logits.softmax(-1).max(-1)
        filled = batch["ids"].masked_scatter(masked, best)
        roles = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
        around = torch.tensor([number for role in roles if (number := getattr(tokenizer, role)) is not None])
        rows = []
        ends = masked.sum(1).cumsum(0).tolist()
        for number, (begin, end) in enumerate(zip([0, *ends], ends)):
            ids = filled[number][batch["mask"][number]].cpu()
            found = [tokenizer.decode([token]) for token in best[begin:end].tolist()]
            rows.append(
                {
                    # What a tokenizer does not know stays as it says that, such as [UNK].
                    "filled": tokenizer.decode(ids[~torch.isin(ids, around)]),
                    "tokens": json.dumps(found, ensure_ascii=False),
                    "probabilities": json.dumps([round(value, 6) for value in probabilities[begin:end].tolist()]),
                }
            )
        return rows
