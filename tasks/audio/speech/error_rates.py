"""Rates of wrong words and characters, for texts of hours too."""

from collections.abc import Hashable, Sequence

import numpy as np
from torchmetrics.text import CharErrorRate, WordErrorRate


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that make one sequence the other.

    Row by row of the table d[i, j] = min(d[i - 1, j] + 1, d[i - 1, j - 1] + (a_i != b_j), d[i, j - 1] + 1), whose last
    term makes d[i, j] - j a running minimum. Memory grows with one length; torchmetrics, in Python, keeps the table.
    """
    number_of: dict[Hashable, int] = {}
    numbers, others = (np.array([number_of.setdefault(x, len(number_of)) for x in xs], int) for xs in (first, second))
    places = np.arange(len(others) + 1)
    row = places
    for count, number in enumerate(numbers.tolist(), start=1):
        best = np.minimum(row[1:] + 1, row[:-1] + (others != number))
        row = np.minimum.accumulate(np.concatenate([[count], best]) - places) + places
    return int(row[-1])


class WordErrors(WordErrorRate):
    """Wrong words over words that were said, (substitutions + deletions + insertions) / words."""

    def update(self, preds: Sequence[str], target: Sequence[str]) -> None:
        """Add what was heard, and what was said."""
        for heard, spoken in zip(preds, target):
            words = spoken.split()
            self.errors += edit_distance(heard.split(), words)
            self.total += len(words)


class CharacterErrors(CharErrorRate):
    """Wrong characters over characters that were said, spaces included."""

    def update(self, preds: Sequence[str], target: Sequence[str]) -> None:
        """Add what was heard, and what was said."""
        for heard, spoken in zip(preds, target):
            self.errors += edit_distance(heard, spoken)
            self.total += len(spoken)
