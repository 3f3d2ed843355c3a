"""Token dropout: a classifier trains on texts without some of their tokens."""

from typing import Any

import numpy as np

from tasks.data.batches import row_seeds
from tasks.text.tokens.tokenizers import tokenizer_from

_DROPOUT = 2  # token masking draws for purposes 0 and 1


class TokenDropout:
    """Drops each token of a text with the same probability.

    Special tokens always stay, and all tokens stay in a text that would lose all others. The dropped tokens depend on
    (seed, epoch, row number) alone.

    Source: M. Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", ACL 2015,
    section 3.1 (word dropout).
    """

    def __init__(self, tokenizer: dict[str, Any], probability: float, seed: int) -> None:
        self.special = np.array(sorted(set(tokenizer_from(tokenizer).all_special_ids)))
        self.probability = probability
        self.seed = seed

    def __call__(self, ids: np.ndarray, seed: int) -> np.ndarray:
        """Mask (n,) of the tokens that stay, for ids (n,)."""
        special = np.isin(ids, self.special)
        stays = special | (np.random.default_rng(seed).random(len(ids)) >= self.probability)
        return stays if (stays & ~special).any() else np.ones_like(stays)

    def seeds(self, rows: np.ndarray, epoch: int) -> list[int]:
        """A seed for each of the row numbers (B,)."""
        return row_seeds(self.seed, epoch, rows, _DROPOUT).tolist()
