"""Rows of tokens as batches: padded to the longest, and with gaps for masked language modelling."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from tasks.data.batches import row_seeds
from tasks.data.examples import Batch, ReadError
from tasks.data.labels import Labels
from tasks.text.augment import TokenDropout
from tasks.text.tokens.tokenizers import tokenizer_from

IGNORED = -100
_TRAINING, _EVALUATION = 0, 1


class TokenRow(NamedTuple):
    """One text: n tokens, their types where there are such, the class number or numbers, and the texts themselves."""

    ids: np.ndarray
    types: np.ndarray | None
    label: Any
    texts: tuple[str, ...]

    def kept(self, which: np.ndarray) -> "TokenRow":
        """The row with some of its tokens alone: which (n,) bool."""
        return self._replace(ids=self.ids[which], types=None if self.types is None else self.types[which])


class TokenReader:
    """A row of tokens as a `TokenRow`.

    Args:
        labels: How the label column is read; None for rows without labels.
        texts: Columns of texts that a batch is to hold.
    """

    def __init__(self, labels: Labels | None, texts: Sequence[str] = ()) -> None:
        self.labels = labels
        self.texts = texts
        self._told = False

    def __call__(self, row: dict[str, Any]) -> TokenRow:
        """Read one row.

        Raises:
            ReadError: It has no tokens.
        """
        if row.get("_fault") is not None:
            raise ReadError(row["_fault"])
        if row.get("_cut") and not self._told:  # only streams have the column left: nobody counted before
            self._told = True
            rank_zero_info(
                f"A text of the stream is longer than {len(row['_ids']):,} tokens (max_length): its end is left out, "
                "as are those of others (a stream does not count them)"
            )
        types = row.get("_types")
        return TokenRow(
            np.asarray(row["_ids"]),
            None if types is None else np.asarray(types),
            None if self.labels is None else self.labels.encode_row(row[self.labels.column]),
            tuple(row[column] for column in self.texts),
        )


class Gaps:
    """BERT's masking: a share of the tokens is asked for; 80 % of these are masked, 10 % replaced, 10 % left.

    Special tokens are never asked for. Which ones are follows from (seed, epoch, row number) alone; in evaluation from
    the row number alone, so that all runs are asked the same.

    Args:
        tokenizer: Its settings, as `tasks.text.tokens.tokenizers.tokenizer_settings` gives them.
        probability: The share.
        seed: The data seed; None in evaluation.

    Source: J. Devlin et al. 2019 (arXiv 1810.04805), by `transformers.DataCollatorForLanguageModeling`.
    """

    def __init__(self, tokenizer: dict[str, Any], probability: float, seed: int | None) -> None:
        from transformers import DataCollatorForLanguageModeling

        made = tokenizer_from(tokenizer)
        self.collator = DataCollatorForLanguageModeling(made, mlm_probability=probability)
        self.special = torch.tensor(sorted(set(made.all_special_ids)))
        self.seed = seed

    def __call__(self, ids: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (n,) with gaps, and what belongs there: (n,), -100 where nothing is asked."""
        tokens = torch.from_numpy(ids.astype(np.int64))[None]
        self.collator.generator = torch.Generator().manual_seed(seed)
        masked, target = self.collator.torch_mask_tokens(tokens, special_tokens_mask=torch.isin(tokens, self.special))
        self.collator.generator = None  # it cannot be sent to a worker
        return masked[0].numpy(), target[0].numpy()

    def seeds(self, rows: np.ndarray, epoch: int) -> list[int]:
        """A seed for each of the row numbers (B,)."""
        if self.seed is None:
            return row_seeds(0, 0, rows, _EVALUATION).tolist()
        return row_seeds(self.seed, epoch, rows, _TRAINING).tolist()


class TextCollator:
    """Rows of tokens as a batch, padded to the longest N of them.

    It holds ids (B, N) int64, mask (B, N) bool, True at real tokens, index (B,) int64, and, where there are such, types
    (B, N) int64, label as `Labels.targets` gives it, target (B, N) int64 of gaps, and the lists text and text_pair.

    Args:
        pad: Token that fills up ids; the mask tells it apart.
        labels: Gives the labels.
        gaps: Makes gaps.
        dropout: Leaves tokens out.
    """

    def __init__(
        self,
        pad: int,
        *,
        labels: Labels | None = None,
        gaps: Gaps | None = None,
        dropout: TokenDropout | None = None,
    ) -> None:
        self.pad = pad
        self.labels = labels
        self.gaps = gaps
        self.dropout = dropout

    def __call__(self, examples: list[TokenRow], rows: np.ndarray, epoch: int) -> Batch:
        """Rows, their numbers and the epoch to a batch."""
        if self.dropout is not None:
            seeds = self.dropout.seeds(rows, epoch)
            examples = [example.kept(self.dropout(example.ids, seed)) for example, seed in zip(examples, seeds)]
        ids = [example.ids for example in examples]
        batch: Batch = {}
        if self.gaps is not None:
            gaps = [self.gaps(tokens, seed) for tokens, seed in zip(ids, self.gaps.seeds(rows, epoch))]
            ids = [tokens for tokens, _ in gaps]
            batch["target"] = padded([target for _, target in gaps], IGNORED)[0]
        batch["ids"], batch["mask"] = padded(ids, self.pad)
        if examples[0].types is not None:
            batch["types"] = padded([example.types for example in examples], 0)[0]  # type: ignore[misc]
        if self.labels is not None:
            batch["label"] = self.labels.targets([example.label for example in examples])
        for name, texts in zip(("text", "text_pair"), zip(*(example.texts for example in examples))):
            batch[name] = list(texts)
        batch["index"] = torch.from_numpy(rows)
        return batch


def padded(rows: Sequence[np.ndarray], fill: int) -> tuple[Tensor, Tensor]:
    """Rows of n numbers each, filled up at the end: (B, N) int64, and the mask (B, N) bool of what is real."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    filled = np.full(mask.shape, fill, dtype=np.int64)
    filled[mask] = np.concatenate(rows)
    return torch.from_numpy(filled), torch.from_numpy(mask)
