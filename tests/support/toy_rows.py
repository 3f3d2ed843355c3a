"""A data module of plain numbers, for tests of what all data modules share."""

from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from tasks.data.batches import row_uniforms
from tasks.data.examples import Batch, ReadError
from tasks.data.module import Role, TaskDataModule


def numbers(**splits: int) -> datasets.DatasetDict:
    """Splits of so many rows; row i holds the value i."""
    return datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"value": [float(i) for i in range(rows)]}) for name, rows in splits.items()}
    )


def _three_splits() -> datasets.DatasetDict:
    return numbers(train=23, validation=7, test=11)


class ReadValue:
    """The value of a row; those in `bad` cannot be read."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad = bad

    def __call__(self, row: dict[str, Any]) -> float:
        if row["value"] in self.bad:
            raise ReadError(f"the value {row['value']:g} is broken")
        return row["value"]


class CollateValues:
    """Values plus a number drawn from (seed, epoch, row)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, examples: list[float], rows: np.ndarray, epoch: int) -> Batch:
        noise = torch.from_numpy(row_uniforms(self.seed, epoch, rows, 0))
        return {
            "value": (torch.tensor(examples) + noise).float()[:, None],
            "index": torch.from_numpy(rows),
            "epoch": epoch,
        }


class ToyData(TaskDataModule):
    """Numbers; `path` is "numbers", or anything that load_dataset reads with a column `value`."""

    built_in: ClassVar = {"numbers": _three_splits}
    bad: tuple[int, ...] = ()

    @property
    def processor(self) -> None:
        return None

    def columns(self) -> dict[str, str]:
        return {"value_column": "value"}

    def prepare_rows(self, rows: Any) -> Any:
        return rows

    def reader(self, role: Role) -> ReadValue:
        return ReadValue(self.bad)

    def collator(self, role: Role) -> CollateValues:
        return CollateValues(self.seed)


class ToyNet(LightningModule):
    """A linear map that writes down what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)
        self.seen: list[tuple[int, list[int], list[float]]] = []
        self.evaluated: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append((batch["epoch"], batch["index"].tolist(), batch["value"].flatten().tolist()))
        return self.linear(batch["value"]).pow(2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-4)


class ToyNetWithValidation(ToyNet):
    """The same, validated and tested."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluated += batch["index"].tolist()

    test_step = validation_step


def quiet_trainer(**options: Any) -> Trainer:
    """A trainer on the CPU that prints nothing and writes nothing but the checkpoints it is given callbacks for."""
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": bool(options.get("callbacks")),
        "num_sanity_val_steps": 0,
    }
    return Trainer(**{**settings, **options})
