"""Precision, recall and F1 of each class, and a figure of the confusion matrix."""

import csv
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from softformer.training.run.folder import RunFolder

_NUMBERED = 20
_NAMED = 60


@runtime_checkable
class Classifies(Protocol):
    """A task whose stages count predicted by true classes."""

    def class_labels(self) -> list[str]:
        """Name of each class."""

    def class_counts(self, stage: str) -> Tensor | None:
        """(K, K), true classes in rows; with several labels (K, 2, 2), a matrix for each; None for too many classes."""


class ClassReport(Callback):
    """Writes class_report_STAGE.csv and confusion_matrix_STAGE.png after evaluations, and for the last epoch of a fit.

    Args:
        folder: The folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._latest: Tensor | None = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the counts; inside a fit they are drawn once, at the end."""
        if trainer.sanity_checking or not isinstance(pl_module, Classifies):
            return
        self._latest = pl_module.class_counts("val")
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module, "val", self._latest)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last validation."""
        if isinstance(pl_module, Classifies):
            self._write(trainer, pl_module, "val", self._latest)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test."""
        if isinstance(pl_module, Classifies):
            self._write(trainer, pl_module, "test", pl_module.class_counts("test"))

    def _write(self, trainer: Trainer, task: Classifies, stage: str, counts: Tensor | None) -> None:
        if counts is None or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        with self._folder.writing(f"class_report_{stage}.csv") as path:
            write_class_report(counts.cpu(), task.class_labels(), path)
        with self._folder.writing(f"confusion_matrix_{stage}.png") as path:
            draw_confusion(counts.cpu(), task.class_labels(), path)


def class_figures(counts: Tensor) -> Tensor:
    """Precision, recall, F1 and support of each class, (K, 4), by counts (K, K) or (K, 2, 2); 0 where undefined."""
    if counts.ndim == 3:
        hits, predicted, support = counts[:, 1, 1], counts[:, :, 1].sum(1), counts[:, 1].sum(1)
    else:
        hits, predicted, support = counts.diagonal(), counts.sum(0), counts.sum(1)
    hits, predicted, support = hits.double(), predicted.double(), support.double()
    totals = torch.stack((predicted, support, (predicted + support) / 2)).clamp(min=0.5)
    return torch.cat((hits / totals, support[None])).float().T


def write_class_report(counts: Tensor, names: list[str], path: Path) -> None:
    """Write the figures of each class as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "precision", "recall", "f1", "support"])
        for name, (*ratios, support) in zip(names, class_figures(counts).tolist()):
            writer.writerow([name, *(f"{ratio:.4f}" for ratio in ratios), int(support)])


def draw_confusion(counts: Tensor, names: list[str], path: Path) -> None:
    """Draw the shares of each true class; numbers and names only where there is room for them.

    With several labels, which have no common matrix, precision and recall of each class are drawn instead. (The plot of
    torchmetrics colors counts, so small classes vanish, and writes all names and numbers in one size.)
    """
    from matplotlib.figure import Figure

    size = min(14.0, max(4.0, 0.45 * len(names) + 2))
    figure = Figure(figsize=(size, size), layout="constrained")
    axis: Any = figure.subplots()
    if counts.ndim == 3:
        image, columns = class_figures(counts)[:, :2], ["precision", "recall"]
    else:
        image, columns = counts.double() / counts.sum(1, keepdim=True).clamp(min=1), names
        axis.set(xlabel="predicted", ylabel="true")
    axis.imshow(image.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto" if counts.ndim == 3 else "equal")
    if len(columns) <= _NAMED:
        axis.set_xticks(range(len(columns)), columns, rotation=90)
    if len(names) <= _NAMED:
        axis.set_yticks(range(len(names)), names)
    if len(names) <= _NUMBERED:
        for row, values in enumerate(image.tolist()):
            for column, value in enumerate(values):
                text = f"{value:.2f}" if counts.ndim == 3 else f"{int(counts[row, column])}"
                axis.text(column, row, text, ha="center", va="center", color="white" if value > 0.5 else "black")
    figure.savefig(path, dpi=120)
