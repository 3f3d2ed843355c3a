"""The settings of a run that belong neither to the model nor to the data nor to the trainer."""

from collections.abc import Sequence
from pathlib import Path

from softformer.training.run.folder import CONFIG, RunFolder
from softformer.training.specs import Settings


class RunSettings(Settings):
    """The run.

    Args:
        name: Name of the run's folder; by default that of the first recipe. A test or validation of a run's best
            checkpoint adds its figures to that run, one of its other checkpoints to NAME-evaluation beside it; a name
            given on the command line wins.
        root: The folder that holds the folders of runs.
        overwrite: Delete what an earlier run of this name left; else a folder that is not empty is an error.
        test_after_fit: After training, test the best checkpoint once.
    """

    def __init__(
        self, name: str | None = None, root: str = "runs", overwrite: bool = False, test_after_fit: bool = False
    ) -> None:
        self.name = name
        self.root = root
        self.overwrite = overwrite
        self.test_after_fit = test_after_fit

    def folder(self) -> RunFolder:
        """The folder of the run."""
        return RunFolder(Path(self.root) / (self.name or "run"))


def evaluation_folder(named: RunFolder, checkpoint: str | None, *, by_command: bool) -> RunFolder:
    """Where an evaluation puts its figures: never among those of a run that they do not stand for.

    Args:
        named: The folder that the settings name.
        checkpoint: The file that is evaluated; None for other weights.
        by_command: Whether the command line names the folder, which then wins over that of the checkpoint.
    """
    source = RunFolder.of_checkpoint(checkpoint) if checkpoint else None
    if source is None or checkpoint is None or (by_command and source.path != named.path.resolve()):
        source = named
    elif source.stands_for(checkpoint):
        return source
    if not (source.path / CONFIG).is_file():
        return source
    return RunFolder(source.path.with_name(f"{source.path.name}-evaluation"))


def default_name(recipes: Sequence[Path]) -> str:
    """Name of a run whose settings give none."""
    return recipes[0].stem if recipes else "run"
