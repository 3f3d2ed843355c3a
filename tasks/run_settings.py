"""The settings of a run that belong neither to the model nor to the data nor to the trainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softformer.training.runs import RunFolder


@dataclass
class RunSettings:
    """The run.

    Args:
        name: Name of the run's folder; by default that of the first recipe.
        root: The folder that holds the folders of runs.
        overwrite: Delete what an earlier run of this name left; else a folder that is not empty is an error.
        test_after_fit: After training, test the best checkpoint once.
    """

    name: str | None = None
    root: str = "runs"
    overwrite: bool = False
    test_after_fit: bool = False

    def folder(self) -> RunFolder:
        """The folder of the run."""
        return RunFolder(Path(self.root) / (self.name or "run"))


def default_name(recipes: Sequence[Path]) -> str:
    """Name of a run whose settings give none."""
    return recipes[0].stem if recipes else "run"
