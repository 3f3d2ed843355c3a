"""The settings of a run that belong neither to the model nor to the data nor to the trainer."""

from pathlib import Path

from softformer.training.run.folder import CONFIG, RunFolder
from softformer.training.specs import Settings


class RunSettings(Settings):
    """The run.

    Args:
        name: Name of the run's folder; by default that of the first recipe. The figures of a run's best checkpoint go
            into the folder of that run, those of its other checkpoints into NAME-evaluation; a name on the command
            line overrides both.
        root: Folder that holds the folders of runs.
        overwrite: Delete the files of an earlier run of this name; without it, a folder that is not empty is an error.
        test_after_fit: Test the best checkpoint once after training.
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


def evaluation_folder(named: RunFolder, checkpoint: Path | None, *, by_command: bool) -> RunFolder:
    """The folder for the figures of an evaluation, which never overwrites the figures of another run.

    Args:
        named: The folder that the settings name.
        checkpoint: The file that is evaluated; None for other weights.
        by_command: Whether the command line names the folder, which then overrides that of the checkpoint.
    """
    source = RunFolder.of_checkpoint(checkpoint) if checkpoint else None
    if source is None or checkpoint is None or (by_command and source.path != named.path.resolve()):
        source = named
    elif source.stands_for(checkpoint):
        return source
    if not (source.path / CONFIG).is_file():
        return source
    return RunFolder(source.path.with_name(f"{source.path.name}-evaluation"))
