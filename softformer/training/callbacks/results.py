"""The result table of a run: results.json, results.md and the console."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size

from softformer.training.run.folder import METRICS, RESULTS, RunFolder
from softformer.training.run.logger import read_metrics


class ResultTable(Callback):
    """Writes the figures of a run: validation at its best epoch, and test.

    results.json holds ``{"val": {...}, "test": {...}, "run": {...}}``; an evaluation replaces its own part only. In the
    folder of a run it is one of the best checkpoint, so the number of the best epoch stays.

    Args:
        folder: The folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path / RESULTS
        self._seconds_before = 0.0
        self._examples = 0
        self._validation_seconds = 0.0
        self._started: float | None = None
        self._validation_started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The counts so far, to which a resumed run adds its own."""
        seconds, validation_seconds = self._seconds(), self._validation_seconds
        return {"seconds": seconds, "validation_seconds": validation_seconds, "examples": self._examples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts of the earlier part of the run."""
        self._seconds_before = state_dict["seconds"]
        self._validation_seconds = state_dict["validation_seconds"]
        self._examples = state_dict["examples"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the examples."""
        # Lightning would look for the number of rows in every value, and warn where they differ.
        rows = len(batch["index"]) if "index" in batch else extract_batch_size(batch)
        self._examples += rows * trainer.world_size

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the validation, which is not training time."""
        self._validation_started = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the best epoch."""
        seconds, self._seconds_before, self._started = self._seconds(), self._seconds(), None
        for logger in trainer.loggers:
            logger.save()
        monitor, mode = getattr(pl_module, "monitor", "val/loss"), getattr(pl_module, "monitor_mode", "min")
        run = {
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "training_seconds": round(seconds, 1),
            "examples_per_second": round(self._examples / max(seconds - self._validation_seconds, 1e-9), 1),
            "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
            "device": device_name(pl_module.device),
        }
        if pl_module.device.type == "cuda":
            run["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated(pl_module.device) / 2**20)
        best = best_epoch(self._path.with_name(METRICS), monitor, mode)
        self._write(trainer, {"val": {**best, **_skipped(trainer, "validation")} if best else {}, "run": run})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add an evaluation on the validation split; inside training the best epoch is added at the end."""
        if self._started is not None:
            self._validation_seconds += time.monotonic() - self._validation_started
        if trainer.state.fn == "validate":
            before = read_results(self._path).get("val", {})
            epoch = {"epoch": before["epoch"]} if "epoch" in before else {}
            self._write(trainer, {"val": {**stage_metrics(trainer, "val"), **epoch, **_skipped(trainer, "validation")}})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add an evaluation on the test split."""
        self._write(trainer, {"test": {**stage_metrics(trainer, "test"), **_skipped(trainer, "test")}})

    def _seconds(self) -> float:
        return self._seconds_before + (0.0 if self._started is None else time.monotonic() - self._started)

    def _write(self, trainer: Trainer, part: dict[str, Any]) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        results = {**read_results(self._path), **{name: figures for name, figures in part.items() if figures}}
        for name, text in ((RESULTS, json.dumps(results, indent=2) + "\n"), ("results.md", _markdown(results))):
            with RunFolder(self._path.parent).writing(name) as path:
                path.write_text(text)


def print_results(folder: RunFolder) -> None:
    """Show the result table of a run, if it has one."""
    results = read_results(folder.path / RESULTS)
    if not results:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", *_stages(results))
    for row in _rows(results):
        table.add_row(*row)
    print(f"results of {folder.path}:")
    Console().print(table)


def read_results(path: Path) -> dict[str, Any]:
    """The results written so far; empty if there are none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def best_epoch(metrics_file: Path, monitor: str, mode: str) -> dict[str, float]:
    """The validation metrics of the epoch of the best checkpoint (`BestCheckpoint`); empty without validation."""
    rows = [row for row in read_metrics(metrics_file) if row.get(monitor, float("nan")) == row.get(monitor)]
    if not rows:
        return {}
    sign = -1 if mode == "max" else 1
    best = min(rows, key=lambda row: (sign * row[monitor], row.get("val/loss", float("inf"))))
    figures = {name.removeprefix("val/"): value for name, value in best.items() if name.startswith("val/")}
    return {**figures, "epoch": best["epoch"]}


def stage_metrics(trainer: Trainer, stage: str) -> dict[str, float]:
    """The metrics that were just logged for a stage, without the stage's name."""
    logged = trainer.callback_metrics.items()
    return {name.partition("/")[2]: float(value) for name, value in logged if name.startswith(f"{stage}/")}


def _skipped(trainer: Trainer, role: str) -> dict[str, int]:
    """The number of unreadable rows that were skipped, if there are any."""
    count = getattr(getattr(trainer, "datamodule", None), "skipped", {}).get(role, 0)
    return {"skipped": count} if count else {}


def device_name(device: torch.device) -> str:
    """Name of the device on which the figures were measured."""
    cuda = device.type == "cuda"
    return torch.cuda.get_device_name(device) if cuda else f"{device.type}, {torch.get_num_threads()} threads"


def _stages(results: dict[str, Any]) -> list[str]:
    """The evaluated stages; a run without one shows its own figures alone."""
    return [stage for stage in ("val", "test") if stage in results] or ["run"]


def _rows(results: dict[str, Any]) -> list[list[str]]:
    stages = _stages(results)
    names = sorted({name for stage in stages if stage != "run" for name in results[stage]} - {"epoch"})
    rows = [[name, *(_cell(results[stage].get(name)) for stage in stages)] for name in names]
    best = {"best epoch": int(results["val"]["epoch"])} if "epoch" in results.get("val", {}) else {}
    run = {**best, **results.get("run", {})}
    return rows + [[name.replace("_", " "), str(value), *[""] * (len(stages) - 1)] for name, value in run.items()]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _markdown(results: dict[str, Any]) -> str:
    stages = _stages(results)
    lines = [["metric", *stages], ["---"] * (len(stages) + 1), *_rows(results)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
