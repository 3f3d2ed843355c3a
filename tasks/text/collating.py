"""Rows of tokens as batches: padded to the longest row, and masked for masked language modelling."""

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
    """A text: its n tokens, their types or None, its class number or numbers, and the text or the pair of texts."""

    ids: np.ndarray
    types: np.ndarray | None
    label: Any
    texts: tuple[str, ...]

    def select(self, stays: np.ndarray) -> "TokenRow":
        """The row with the tokens where `stays` (n,) is True."""
        return self._replace(ids=self.ids[stays], types=None if self.types is None else self.types[stays])


class TokenReader:
    """Turns a row of tokens into a `TokenRow`, with the class numbers of `labels` and the columns `texts`."""

    def __init__(self, labels: Labels | None, texts: Sequence[str] = ()) -> None:
        self.labels = labels
        self.texts = texts
        self._logged = False

    def __call__(self, row: dict[str, Any]) -> TokenRow:
        """Read one row; a row without tokens raises `ReadError`."""
        if row.get("_fault") is not None:
            raise ReadError(row["_fault"])
        if row.get("_cut") and not self._logged:  # rows of streams alone have this column
            self._logged = True
            rank_zero_info(
                f"A text of the stream is longer than {len(row['_ids']):,} tokens (max_length); its end is cut off, as "
                "are the ends of other long texts, which are not counted in a stream"
            )
        types = row.get("_types")
        return TokenRow(
            np.asarray(row["_ids"]),
            None if types is None else np.asarray(types),
            None if self.labels is None else self.labels.encode_row(row[self.labels.column]),
            tuple(row[column] for column in self.texts),
        )


class TokenMasking:
    """BERT's masking: a share of the tokens becomes targets, of which 80 % are masked, 10 % replaced, and 10 % stay.

    Special tokens are never targets. The targets depend on (seed, epoch, row number) alone. In evaluation `seed` is
    None, and they depend on the row number alone, so that all runs are evaluated on the same targets.

    Source: J. Devlin et al. 2019 (arXiv 1810.04805), by `transformers.DataCollatorForLanguageModeling`.
    """

    def __init__(self, tokenizer: dict[str, Any], probability: float, seed: int | None) -> None:
        from transformers import DataCollatorForLanguageModeling

        made = tokenizer_from(tokenizer)
        self.collator = DataCollatorForLanguageModeling(made, mlm_probability=probability)
        self.special = torch.tensor(sorted(set(made.all_special_ids)))
        self.seed = seed

    def __call__(self, ids: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Masked tokens (n,), and targets (n,), which are -100 at the other tokens."""
        tokens = torch.from_numpy(ids.astype(np.int64))[None]
        self.collator.generator = torch.Generator().manual_seed(seed)
        masked, target = self.collator.torch_mask_tokens(tokens, special_tokens_mask=torch.isin(tokens, self.special))
        self.collator.generator = None  # generators cannot be sent to a worker
        return masked[0].numpy(), target[0].numpy()

    def seeds(self, rows: np.ndarray, epoch: int) -> list[int]:
        """A seed for each of the row numbers (B,)."""
        drawn = (0, 0, rows, _EVALUATION) if self.seed is None else (self.seed, epoch, rows, _TRAINING)
        return row_seeds(*drawn).tolist()


class TextCollator:
    """Turns rows of tokens into a batch, padded to its longest row of N tokens.

    A batch contains ids (B, N) int64; mask (B, N) bool, True at real tokens; index (B,) int64; and, where the rows have
    them, types (B, N) int64, label as `Labels.targets` returns it, target (B, N) int64 of masked tokens, and the lists
    text and text_pair. `pad` is the token at padding.
    """

    def __init__(
        self,
        pad: int,
        *,
        labels: Labels | None = None,
        masking: TokenMasking | None = None,
        dropout: TokenDropout | None = None,
    ) -> None:
        self.pad = pad
        self.labels = labels
        self.masking = masking
        self.dropout = dropout

    def __call__(self, examples: list[TokenRow], rows: np.ndarray, epoch: int) -> Batch:
        """A batch of rows, with their row numbers (B,), in an epoch."""
        if self.dropout is not None:
            seeds = self.dropout.seeds(rows, epoch)
            examples = [example.select(self.dropout(example.ids, seed)) for example, seed in zip(examples, seeds)]
        ids = [example.ids for example in examples]
        batch: Batch = {}
        if self.masking is not None:
            masked = [self.masking(tokens, seed) for tokens, seed in zip(ids, self.masking.seeds(rows, epoch))]
            ids = [tokens for tokens, _ in masked]
            batch["target"] = padded([target for _, target in masked], IGNORED)[0]
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
    """Rows of n numbers each, padded at the end to (B, N) int64, and the mask (B, N) bool, True at real numbers."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    filled = np.full(mask.shape, fill, dtype=np.int64)
    filled[mask] = np.concatenate(rows)
    return torch.from_numpy(filled), torch.from_numpy(mask)
