"""The log of recordings that are too short for their transcripts, which the CTC loss leaves out."""

import logging
from collections import Counter
from collections.abc import Sequence

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from softformer.training.module import Stage
from tasks.data.examples import MOST_LOGGED

logger = logging.getLogger(__name__)


class LeftOut:
    """Row numbers of the recordings that were left out of the loss, by stage."""

    def __init__(self) -> None:
        self.rows: dict[Stage, set[int]] = {}
        self._logged: Counter[Stage] = Counter()
        self._used: Counter[Stage] = Counter()

    def add(self, stage: Stage, rows: Sequence[int], names: Sequence[str], *, used: int) -> None:
        """Count the recordings of a batch, and log the first that are left out, each once.

        Args:
            stage: Stage of the batch.
            rows: Row numbers of the recordings that are left out.
            names: Files of these recordings; empty for rows without a file.
            used: Number of the other recordings of the batch.
        """
        known = self.rows.setdefault(stage, set())
        new = [(row, name) for row, name in zip(rows, names) if row not in known][: max(0, MOST_LOGGED - len(known))]
        known.update(rows)
        self._used[stage] += used
        if new:
            shown = ", ".join(f"{row} ({name})" if name else str(row) for row, name in new)
            rows_shown = f"row{'s' if len(new) > 1 else ''} {shown}"
            logger.warning("%s: too short for the transcript, left out of the loss: %s", stage, rows_shown)

    def end_epoch(self, stage: Stage) -> int | None:
        """Log the number of recordings that were left out so far if it has grown; return the number of the others.

        The number is None without batches, as when a run resumes at the end of an epoch.
        """
        count = len(self.rows.get(stage, ()))
        if count > self._logged[stage]:
            rank_zero_info(f"Too short for their transcripts and left out of the loss: {count} of {stage}")
        self._logged[stage] = count
        return self._used.pop(stage, None)
