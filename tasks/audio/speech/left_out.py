"""Recordings that are left out of the loss of CTC, as they are too short for their transcripts: named and counted."""

import logging
from collections import Counter
from collections.abc import Sequence

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from softformer.training.module import Stage
from tasks.data.examples import MOST_TOLD

logger = logging.getLogger(__name__)


class LeftOut:
    """Recordings by stage: those that were left out, by their row numbers, and how many there were in an epoch."""

    def __init__(self) -> None:
        self.rows: dict[Stage, set[int]] = {}
        self._told: Counter[Stage] = Counter()
        self._kept: Counter[Stage] = Counter()

    def add(self, stage: Stage, rows: Sequence[int], names: Sequence[str], *, kept: int) -> None:
        """Count recordings; the first of each stage are named in the log, each once.

        Args:
            stage: Of the batch.
            rows: Row numbers of those that are left out.
            names: Their files; empty where a row tells none.
            kept: How many of the batch are not left out.
        """
        known = self.rows.setdefault(stage, set())
        new = [(row, name) for row, name in zip(rows, names) if row not in known][: max(0, MOST_TOLD - len(known))]
        known.update(rows)
        self._kept[stage] += kept
        if new:
            several = ", ".join(f"{row} ({name})" if name else str(row) for row, name in new)
            what = f"row{'s' if len(new) > 1 else ''} {several}"
            logger.warning("%s: too short for the transcript, left out of the loss: %s", stage, what)

    def end_epoch(self, stage: Stage) -> int | None:
        """Say how many were left out so far, where there are more than before.

        Returns:
            How many of the epoch were not; None where it had no batch, as when a run goes on at the end of an epoch.
        """
        count = len(self.rows.get(stage, ()))
        if count > self._told[stage]:
            rank_zero_info(f"Too short for their transcripts and left out of the loss: {count} of {stage}")
        self._told[stage] = count
        return self._kept.pop(stage, None)
