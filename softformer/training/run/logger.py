"""metrics.csv of a run, which a resumed run continues."""

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from softformer.training.run.folder import METRICS, RunFolder, naming


class RunLogger(Logger):
    """Writes metrics.csv into the folder of the run, one row a logging step.

    Lightning's CSVLogger deletes the rows of an earlier run in the folder; this one appends to them.

    Args:
        folder: The folder of the run.
    """

    version = ""  # a run folder has no versions

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._written = 0
        self._header: list[str] = []

    @property
    def name(self) -> str:
        """Name of the run."""
        return self._folder.name

    @property
    def save_dir(self) -> str:
        """The folder that holds the run's folder."""
        return str(self._folder.parent)

    @property
    def log_dir(self) -> str:
        """The folder of the run."""
        return str(self._folder)

    @property
    def path(self) -> Path:
        """The file."""
        return self._folder / METRICS

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml holds these."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row."""
        self._rows.append({"step": step, **metrics})

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Read the rows of the file up to a step; later ones will be logged again."""
        if self.path.is_file():
            with self.path.open(newline="") as file:
                rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]
            self._rows = [row for row in rows if int(row["step"]) < step]
        self._written = 0

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that came since the last call (Lightning calls this at every logging step)."""
        if self._written == len(self._rows):
            return
        names = sorted({name for row in self._rows for name in row} - {"step", "epoch"})
        header = ["step", "epoch", *names]
        rewrite = not self._written or header != self._header
        opening = RunFolder(self._folder).writing(METRICS) if rewrite else naming(self.path)
        with opening, self.path.open("w" if rewrite else "a", newline="") as file:
            writer = csv.DictWriter(file, header)
            if rewrite:
                writer.writeheader()
            writer.writerows(self._rows if rewrite else self._rows[self._written :])
        self._header, self._written = header, len(self._rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last rows."""
        self.save()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv, empty cells left out; no rows if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
