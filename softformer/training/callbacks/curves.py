"""The figure of the learning curves of a run."""

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from softformer.models.checkpoint_keys import STEP_KEY
from softformer.training.run.folder import RunFolder
from softformer.training.run.logger import RunLogger, read_metrics

_SECONDS_BETWEEN = 60.0


class LearningCurves(Callback):
    """Draws learning_curves.png from metrics.csv: at the end of training, and at most once a minute before.

    Args:
        logger: The logger whose file is drawn; its earlier rows are taken over when a run resumes.
    """

    def __init__(self, logger: RunLogger) -> None:
        self._logger = logger
        self._drawn = 0.0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the earlier rows of a resumed run, also where it has ended and no training follows."""
        if trainer.state.fn == "fit":
            self._logger.resume(checkpoint[STEP_KEY])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the drawings."""
        self._drawn = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the run so far, at most once a minute."""
        if time.monotonic() - self._drawn > _SECONDS_BETWEEN:
            self._draw(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Draw the whole run."""
        if stage == "fit":
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            return
        self._logger.save()
        with RunFolder(self._logger.path.parent).writing("learning_curves.png") as path:
            draw_learning_curves(read_metrics(self._logger.path), path)
        self._drawn = time.monotonic()


def draw_learning_curves(rows: list[dict[str, float]], path: Path) -> None:
    """Draw each metric of a metrics.csv over the steps, its stages in one plot; nothing if there are no rows."""
    curves: dict[str, dict[str, tuple[list[float], list[float]]]] = defaultdict(dict)
    for row in rows:
        for name, value in row.items():
            metric, stage = _metric_and_stage(name)
            if metric is not None:
                steps, values = curves[metric].setdefault(stage, ([], []))
                steps.append(row["step"])
                values.append(value)
    if not curves:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(curves), 3.6), layout="constrained")
    axes: Any = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, (metric, stages) in zip(axes, sorted(curves.items(), key=lambda item: (item[0] == "lr", item[0]))):
        for stage, (steps, values) in sorted(stages.items()):
            # A single point is invisible as a line.
            axis.plot(steps, values, label=stage or None, marker="." if len(steps) < 50 else None)
        axis.set(title="learning rate" if metric == "lr" else metric.replace("_", " "), xlabel="optimizer step")
        axis.grid(alpha=0.3)
        if any(stages):
            axis.legend()
    figure.savefig(path, dpi=120)


def _metric_and_stage(name: str) -> tuple[str | None, str]:
    """``val/loss`` -> ``loss``, ``val``; the learning rate has no stage, and the noisy loss of a step is left out."""
    if name in ("lr", "lr/pg1"):
        return "lr", ""
    stage, _, metric = name.partition("/")
    if stage not in ("train", "val") or not metric or metric.endswith("_step"):
        return None, ""
    return metric.removesuffix("_epoch"), stage
