"""Batches of rows of similar length: little padding, and no batch above a number of tokens or seconds.

A row costs its length, in any unit. A batch costs the length of its longest row, to which all are padded, times its
number of rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from tasks.data.batches import Draw, EvalBatches, TrainBatches

# A window gives several batches, so that rows share batches with others in each epoch. There are several windows, as
# the lengths of rows in one window must be similar.
_MOST_STEPS, _FEWEST_STEPS, _WINDOWS = 8, 2, 16


@dataclass(frozen=True)
class RowCosts:
    """The costs of rows, and the rules by which they make batches.

    Args:
        values: (R,) positive numbers: tokens, seconds.
        most: Limit of the cost of a batch; None for no limit.
        grouped: Put rows of similar length together.
        argument: The user's name of `most`.
        longer_alone: Whether a row that costs more than `most` is a batch by itself, and not an error.
    """

    values: np.ndarray
    most: float | None = None
    grouped: bool = True
    argument: str = "max_cost"
    longer_alone: bool = False

    def __post_init__(self) -> None:
        longest = self.values.max()
        if self.most is not None and longest > self.most and not self.longer_alone:
            raise ValueError(
                f"{self.argument} must be at least {longest:g}, the length of the longest row, got {self.most:g}; "
                "raise it, or shorten such rows or leave them out"
            )

    def rows_within(self, longest: float, batch_size: int) -> int:
        """Number of rows of a batch with a given longest row; at most `batch_size`."""
        return batch_size if self.most is None else min(batch_size, max(1, int(self.most // longest)))

    @property
    def layout(self) -> dict[str, int]:
        """Figures that decide which rows a batch holds."""
        return {
            self.argument: int(self.most or 0),
            "grouped by length": int(self.grouped),
            "sum of lengths": int(self.values.sum()),
        }


class Window(NamedTuple):
    """A stretch of the rows, longest first, from row `start` on: `steps` batches of `rows` rows on each rank."""

    start: int
    steps: int
    rows: int


def windows(costs: RowCosts, batch_size: int, num_replicas: int) -> list[Window]:
    """Divide rows, longest first, into windows; the same for any order of rows of the same lengths.

    Any batch of a window's rows costs at most `costs.most`. The last rows, fewer than half a batch on each rank, may be
    in no window.
    """
    longest_first = np.sort(costs.values)[::-1]
    num_rows, start = len(longest_first), 0
    found: list[Window] = []
    while start < num_rows:
        rows = costs.rows_within(longest_first[start], batch_size)
        left = num_rows - start
        if left < rows * num_replicas:
            if found and 2 * left < rows * num_replicas:
                break
            rows = left // num_replicas
        each = rows * num_replicas
        if not each:
            break
        steps = left // each
        if costs.grouped:
            steps = min(steps, max(_FEWEST_STEPS, min(_MOST_STEPS, num_rows // _WINDOWS // each)))
        found.append(Window(start, steps, rows))
        start += steps * each
    return found


class LengthBatches(TrainBatches):
    """Batches of rows of similar cost, in random order.

    An epoch's batches follow from (seed, epoch). Their number and sizes are the same in each epoch and on each rank;
    the ranks' batches of a step are alike. Each epoch draws anew the rows that share a batch, and the rows that are
    left out where some fit into no batch on every rank.

    Args:
        costs: Costs of the rows.
        batch_size: Most rows in a batch, on one rank.
        options: As in `TrainBatches`.
    """

    def __init__(self, costs: RowCosts, batch_size: int, **options: int) -> None:
        super().__init__(len(costs.values), batch_size, **options)
        self.costs = costs
        self.windows = windows(costs, batch_size, self.num_replicas)

    def __len__(self) -> int:
        return sum(window.steps for window in self.windows)

    def shuffled_batches(self, generator: torch.Generator) -> list[list[int]]:
        """As in `TrainBatches`."""

        def shuffled(count: int) -> np.ndarray:
            return torch.randperm(count, generator=generator).numpy()

        last = self.windows[-1]
        order = shuffled(self.num_rows)[: last.start + last.steps * last.rows * self.num_replicas]
        if self.costs.grouped:
            # With some rows left out, the row at each place is at most as long as that for which the window was made.
            order = order[np.argsort(-self.costs.values[order], kind="stable")]
        batches: list[list[int]] = []
        for start, steps, rows in self.windows:
            count = steps * rows * self.num_replicas
            drawn = order[start : start + count][shuffled(count)].reshape(steps, self.num_replicas, rows)
            batches += drawn[:, self.rank].tolist()
        return [batches[place] for place in shuffled(len(batches))]


class LengthEvalBatches(EvalBatches):
    """Batches of rows of similar cost, every row once, with the same number of batches on each rank.

    The longest come first, so that a batch that does not fit into memory fails at once. The order of the others never
    changes, so a part of the batches is a fair part of the rows. Arguments as in `LengthBatches`.
    """

    def __init__(self, costs: RowCosts, batch_size: int, *, rank: int = 0, num_replicas: int = 1) -> None:
        super().__init__(len(costs.values), batch_size, rank=rank, num_replicas=num_replicas)
        self.order = np.argsort(-costs.values, kind="stable")
        self.steps: list[slice] = []
        start = 0
        while start < self.num_rows:
            rows = costs.rows_within(costs.values[self.order[start]], batch_size)
            self.steps.append(slice(start, start + rows * num_replicas))
            start += rows * num_replicas
        # The last batch stays last: only there may ranks lack rows.
        middle = torch.randperm(max(0, len(self.steps) - 2), generator=torch.Generator().manual_seed(0)).tolist()
        self.steps[1:-1] = [self.steps[1 + place] for place in middle]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Draw]:
        shares = (self.order[step][self.rank :: self.num_replicas].tolist() for step in self.steps)
        return self.draws([share for share in shares if share] or [[int(self.order[-1])]])
