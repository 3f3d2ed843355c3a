"""Recordings that are left out of the loss of CTC, as they are too short for their transcripts: named and counted."""

import logging
from collections.abc import Sequence

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from softformer.training.module import Stage
from tasks.rows import MOST_TOLD

logger = logging.getLogger(__name__)


class LeftOut:
    """Row numbers of recordings, by stage."""

    def __init__(self) -> None:
        self.rows: dict[Stage, set[int]] = {}

    def add(self, stage: Stage, rows: Sequence[int]) -> None:
        """Count recordings; the first of each stage are named in the log, each once."""
        known = self.rows.setdefault(stage, set())
        told = [row for row in rows if row not in known][: max(0, MOST_TOLD - len(known))]
        known.update(rows)
        if told:
            numbers = f"row {told[0]}" if len(told) == 1 else f"rows {', '.join(map(str, told))}"
            logger.warning("%s: too short for the transcript, left out of the loss: %s", stage, numbers)

    def tell(self) -> None:
        """Say how many there were, and forget them."""
        for stage, rows in self.rows.items():
            if rows:
                rank_zero_info(f"Too short for their transcripts and left out of the loss: {len(rows)} of {stage}")
        self.rows = {}
