"""What a run leaves behind: tables, pictures, and figures that agree with scikit-learn."""

import csv
import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from sklearn.metrics import multilabel_confusion_matrix, precision_recall_fscore_support
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassConfusionMatrix
from training_runs import quiet_trainer

from softformer.training.callbacks.best import BestCheckpoint
from softformer.training.callbacks.class_report import class_figures, draw_confusion, write_class_report
from softformer.training.callbacks.curves import draw_learning_curves
from softformer.training.callbacks.predictions import write_rows
from softformer.training.callbacks.results import best_epoch, print_results
from softformer.training.run.folder import RunFolder
from softformer.training.run.logger import RunLogger, read_metrics


def test_class_figures_are_those_of_scikit_learn() -> None:
    truth, guess = torch.randint(5, (97,)), torch.randint(4, (97,))  # one class is never guessed
    counts = MulticlassConfusionMatrix(7)(guess, truth)  # and two never occur
    expected = precision_recall_fscore_support(truth, guess, labels=range(7), zero_division=0)
    assert torch.allclose(class_figures(counts), torch.tensor([list(map(float, row)) for row in expected]).T)
    several, guessed = torch.randint(2, (53, 3)), torch.randint(2, (53, 3))
    counts = torch.from_numpy(multilabel_confusion_matrix(several, guessed))
    expected = precision_recall_fscore_support(several, guessed, zero_division=0)
    assert torch.allclose(class_figures(counts), torch.tensor([list(map(float, row)) for row in expected]).T)


def test_class_report_and_pictures(tmp_path: Path) -> None:
    counts = torch.tensor([[3, 1], [0, 2]])
    write_class_report(counts, ["cat", "dog, small"], tmp_path / "report.csv")
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert rows[1] == {"class": "dog, small", "precision": "0.6667", "recall": "1.0000", "f1": "0.8000", "support": "2"}
    for number, shape in enumerate([(2, 2), (70, 70), (3, 2, 2)]):
        path = tmp_path / f"{number}.png"
        draw_confusion(torch.randint(5, shape), [f"class {place}" for place in range(shape[0])], path)
        assert min(Image.open(path).size) > 300


def test_learning_curves(tmp_path: Path) -> None:
    rows = [
        {"step": 1.0, "lr": 0.1, "train/loss_step": 3.0},
        {"step": 2.0, "train/loss_epoch": 2.0, "epoch": 0.0},
        {"step": 2.0, "val/loss": 2.5, "val/accuracy": 0.5},
    ]
    draw_learning_curves(rows, tmp_path / "curves.png")
    width, height = Image.open(tmp_path / "curves.png").size
    assert width > 2.5 * height  # three frames: accuracy, loss, learning rate
    draw_learning_curves([{"step": 1.0, "test/loss": 1.0}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_best_epoch(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path)
    for step, accuracy in enumerate([0.2, 0.9, float("nan"), 0.7]):
        logger.log_metrics({"val/accuracy": accuracy, "val/loss": 1.0 + step, "epoch": step}, step)
        logger.log_metrics({"train/loss": 2.0}, step)
    logger.save()
    file = logger.path
    assert best_epoch(file, "val/accuracy", "max") == {"accuracy": 0.9, "loss": 2.0, "epoch": 1.0}
    assert best_epoch(file, "val/loss", "min") == {"accuracy": 0.2, "loss": 1.0, "epoch": 0.0}
    assert best_epoch(file, "val/f1", "max") == {}
    assert best_epoch(tmp_path / "none.csv", "val/f1", "max") == {}


# Accuracy and loss of five validations; the third is kept, as its loss is the lowest of those of equal accuracy.
_ACCURACIES, _LOSSES = (0.5, 0.75, 0.75, 0.75, 0.25), (0.9, 0.4, 0.2, 0.3, 0.1)


class _Scripted(LightningModule):
    """Logs the figures above."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.weight.sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        figures = {"val/accuracy": _ACCURACIES[self.current_epoch], "val/loss": _LOSSES[self.current_epoch]}
        self.log_dict(figures, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("stop_after", [None, 2, 3])
def test_of_equal_epochs_that_with_the_lowest_loss_is_kept(tmp_path: Path, stop_after: int | None) -> None:
    """A resumed run knows the loss of what it kept before."""
    rows, kept = DataLoader(torch.zeros(1)), tmp_path / "best.ckpt"  # type: ignore[arg-type]

    def fit(epochs: int, start: Path | None) -> Trainer:
        best = BestCheckpoint(tmp_path, "val/accuracy", "max")
        trainer = quiet_trainer(tmp_path, best, max_epochs=epochs, enable_checkpointing=True)
        trainer.fit(_Scripted(), rows, rows, ckpt_path=start)
        return trainer

    if stop_after is not None:
        fit(stop_after, None).save_checkpoint(tmp_path / "last.ckpt")
    fit(5, tmp_path / "last.ckpt" if stop_after else None)
    assert torch.load(kept)["epoch"] == 2
    logger = RunLogger(tmp_path)
    for epoch, (accuracy, loss) in enumerate(zip(_ACCURACIES, _LOSSES)):
        logger.log_metrics({"val/accuracy": accuracy, "val/loss": loss, "epoch": epoch}, epoch)
    logger.save()
    assert best_epoch(logger.path, "val/accuracy", "max")["epoch"] == 2


def test_the_logger_goes_on_after_earlier_rows(tmp_path: Path) -> None:
    first = RunLogger(tmp_path / "run")
    for step in range(5):
        first.log_metrics({"a": step / 8}, step)
        first.save()
    first.log_metrics({"b": 1.0}, 5)
    first.finalize("success")
    rows = [*({"step": float(step), "a": step / 8} for step in range(5)), {"step": 5.0, "b": 1.0}]
    assert read_metrics(first.path) == rows
    second = RunLogger(tmp_path / "run")
    assert (second.name, second.version, Path(second.save_dir)) == ("run", "", tmp_path)
    second.resume(3)
    second.log_metrics({"a": 7.0, "epoch": 1}, 3)
    second.save()
    assert read_metrics(second.path) == [*rows[:3], {"step": 3.0, "a": 7.0, "epoch": 1.0}]


def test_prediction_rows(tmp_path: Path) -> None:
    write_rows([{"index": 3, "file": "a,b.png", "class_1": "cat"}], tmp_path / "new" / "p.csv")
    assert (tmp_path / "new" / "p.csv").read_text().splitlines() == ["file,class_1", '"a,b.png",cat']
    write_rows([], tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").read_text().strip()


def test_result_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_results(RunFolder(tmp_path))
    assert not capsys.readouterr().out
    results = {"val": {"accuracy": 0.25, "epoch": 3.0}, "test": {"accuracy": 0.5, "loss": 1.0}, "run": {"epochs": 7}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    print_results(RunFolder(tmp_path))
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("val", "test", "0.2500", "0.5000", "1.0000", "best epoch", "7"))
