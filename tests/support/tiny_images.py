"""A data module of tiny generated images, for tests of training and of the command line."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tasks.data.batches import Draw, EvalBatches, TrainBatches, row_uniforms
from tasks.data.loaders import ResumableLoader
from tasks.image.processor import ImageProcessor


class TinyRows(Dataset[dict[str, Tensor]]):
    """Noise with a bright column whose place is the class; in training with noise drawn from (epoch, row)."""

    def __init__(self, rows: int, classes: int, channels: int, size: int, multi_label: bool, noise: float) -> None:
        self.rows, self.classes, self.channels, self.size = rows, classes, channels, size
        self.multi_label, self.noise = multi_label, noise

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        index = torch.tensor(draw.positions)
        label = index % self.classes
        generator = torch.Generator().manual_seed(self.rows)
        image = torch.rand(self.rows, self.channels, self.size, self.size, generator=generator)[index] * 0.3
        for row, number in enumerate(label.tolist()):
            image[row, :, :, number] = 1.0
        shift = torch.from_numpy(row_uniforms(0, draw.epoch, index.numpy(), 0)).float()
        image = image + self.noise * shift[:, None, None, None]
        target = torch.nn.functional.one_hot(label, self.classes).float() if self.multi_label else label
        return {"image": image, "label": target, "index": index}


class TinyImages(LightningDataModule):
    """Generated images.

    Args:
        rows: Training images.
        classes: Classes.
        channels: Channels.
        size: Side in pixels.
        batch_size: Images in a batch.
        num_workers: Reading processes.
        multi_label: Whether labels are (B, K).
        broken_label: A label that is put into every training batch.
        broken_step: Batch of each epoch whose images are infinite.
    """

    def __init__(
        self,
        rows: int = 47,
        classes: int = 7,
        channels: int = 3,
        size: int = 32,
        batch_size: int = 11,
        num_workers: int = 0,
        multi_label: bool = False,
        broken_label: int | None = None,
        broken_step: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.rows, self.classes, self.channels, self.size = rows, classes, channels, size
        self.batch_size, self.num_workers, self.multi_label = batch_size, num_workers, multi_label
        self.broken_label, self.broken_step = broken_label, broken_step

    @property
    def processor(self) -> ImageProcessor:
        """As an ImageDataModule makes it."""
        return ImageProcessor(
            (self.size, self.size),
            self.channels,
            mean=[0.0] * self.channels,
            std=[1.0] * self.channels,
            class_names=[f"column {number}" for number in range(self.classes)],
            multi_label=self.multi_label,
        )

    def _rows(self, rows: int, noise: float) -> TinyRows:
        return TinyRows(rows, self.classes, self.channels, self.size, self.multi_label, noise)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches whose order depends on the epoch."""
        rows = _Broken(self._rows(self.rows, 0.5), self.broken_label, self.broken_step)
        return ResumableLoader(
            rows,
            trainer=self.trainer,
            layout={},
            sampler=TrainBatches(self.rows, self.batch_size),
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def _eval_loader(self, rows: int) -> DataLoader[Any]:
        return DataLoader(self._rows(rows, 0.0), sampler=EvalBatches(rows, self.batch_size), batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches in order."""
        return self._eval_loader(23)

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches in order."""
        return self._eval_loader(19)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches in order."""
        return self._eval_loader(13)


class _Broken(Dataset[dict[str, Tensor]]):
    """Rows, with a wrong label or an infinite batch if asked for."""

    def __init__(self, rows: TinyRows, label: int | None, step: int | None) -> None:
        self.rows, self.label, self.step, self.read = rows, label, step, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        batch = self.rows[draw]
        if self.label is not None:
            batch["label"][0] = self.label
        if self.step == self.read:
            batch["image"] += torch.inf
        self.read += 1
        return batch
