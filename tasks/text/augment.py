"""What chance does to texts that a classifier trains on."""

from typing import Any

import numpy as np

from tasks.data.batches import row_seeds
from tasks.text.tokens.tokenizers import tokenizer_from

_DROPOUT = 2  # the gaps of masked language modelling draw for purposes 0 and 1


class TokenDropout:
    """Leaves tokens of a text out, each with the same probability; the rest moves together.

    Special tokens stay; where no other token would, all do. What is left out follows from (seed, epoch, row number)
    alone, so it differs from epoch to epoch, and a run that is resumed leaves out the same.

    Args:
        tokenizer: Its settings, as `tasks.text.tokens.tokenizers.tokenizer_settings` gives them.
        probability: That of a token to be left out, in [0, 1).
        seed: The data seed.

    Source: M. Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", ACL 2015,
    section 3.1 (word dropout).
    """

    def __init__(self, tokenizer: dict[str, Any], probability: float, seed: int) -> None:
        self.special = np.array(sorted(set(tokenizer_from(tokenizer).all_special_ids)))
        self.probability = probability
        self.seed = seed

    def __call__(self, ids: np.ndarray, seed: int) -> np.ndarray:
        """Which tokens stay: (n,) bool for ids (n,)."""
        special = np.isin(ids, self.special)
        kept = special | (np.random.default_rng(seed).random(len(ids)) >= self.probability)
        return kept if (kept & ~special).any() else np.ones_like(kept)

    def seeds(self, rows: np.ndarray, epoch: int) -> list[int]:
        """A seed for each of the row numbers (B,)."""
        return row_seeds(self.seed, epoch, rows, _DROPOUT).tolist()
