"""Predictions as a table on disk."""

import csv
from pathlib import Path
from typing import Any

import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from softformer.training.run.folder import naming

TABLE = "predictions.csv"


class PredictionTable(Callback):
    """Writes the rows that `predict_step` returns for each batch as one CSV file.

    Each row is a dictionary; its key ``index`` orders the rows of several processes. It is not written, nor are keys
    that begin with an underscore. A task with a method ``write_predictions(rows, folder)`` also writes files of its
    own. Where predicting stops early, the rows so far are written.

    Args:
        output: A CSV file, or a folder for the table predictions.csv and the files of the task: one that exists, or a
            name without ending. With a table NAME.csv, the files of the task go into the folder NAME_files.

    Raises:
        ValueError: The file has another ending: it may be an input.

    Attributes:
        path: The table.
        written: Number of rows that were written.
        folder: The folder of the files of the task; None without such files.
    """

    def __init__(self, output: Path) -> None:
        self._is_folder = output.is_dir() or not (output.suffix or output.exists())
        if not self._is_folder and output.suffix.lower() != ".csv":
            raise ValueError(
                f"output must be the name of a table, such as {output.stem}.csv, or of a folder (one that exists, or a "
                f"name without ending), got {str(output)!r}"
            )
        self.path = output / TABLE if self._is_folder else output
        self.written = 0
        self.folder: Path | None = None
        self._rows: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder, so that a place that cannot be written to shows before anything is predicted."""
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Collect the rows of a batch."""
        self._rows.extend(outputs)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write all rows, each once, in the order of the data."""
        gathered = [self._rows]
        if trainer.world_size > 1:
            gathered = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(gathered, self._rows)
        if trainer.is_global_zero:
            self._write([row for part in gathered for row in part], pl_module)
        self._rows = []

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the rows of this process so far, which may have taken hours."""
        if trainer.is_global_zero and self._rows:
            self._write(self._rows, pl_module)
            rank_zero_info(f"predicting stopped early; the {self.written} predictions until then are in {self.path}")

    def _write(self, found: list[dict[str, Any]], task: LightningModule) -> None:
        by_index = {row["index"]: row for row in found}
        rows = [by_index[index] for index in sorted(by_index)]
        write_rows(rows, self.path)
        self.written = len(rows)
        if write_files := getattr(task, "write_predictions", None):
            self.folder = self.path.parent if self._is_folder else self.path.with_name(f"{self.path.stem}_files")
            write_files(rows, self.folder)


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """Write dictionaries of the same keys as CSV, without their ``index`` and keys that begin with an underscore."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name in (rows[0] if rows else {}) if name != "index" and name[0] != "_"]
    with naming(path), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
