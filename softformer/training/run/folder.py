"""The folder of a run: what lies in it, who may write to it, and which run a checkpoint came from."""

import shutil
from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS = "checkpoints"
TOKENIZER = "tokenizer"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
RESULTS = "results.json"
BEST = "best.ckpt"
# Everything that a run writes beside its checkpoints.
_FILES = (
    CONFIG,
    METRICS,
    RESULTS,
    "results.md",
    "units.json",
    "learning_curves.png",
    *(f"class_report_{stage}.csv" for stage in ("val", "test")),
    *(f"confusion_matrix_{stage}.png" for stage in ("val", "test")),
)


@dataclass(frozen=True)
class RunFolder:
    """One folder holds everything of one run.

    Args:
        path: The folder, runs/NAME.
    """

    path: Path

    @classmethod
    def of_checkpoint(cls, checkpoint: str | Path) -> "RunFolder | None":
        """The run that a checkpoint lies in, or None if it lies elsewhere."""
        parent = Path(checkpoint).resolve().parent
        if parent.name == CHECKPOINTS and (parent.parent / CONFIG).is_file():
            return cls(parent.parent)
        return None

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / CHECKPOINTS

    def checkpoint(self, name: str) -> Path:
        """The checkpoint ``best`` or ``last`` of this run.

        Raises:
            FileNotFoundError: The run has none.
        """
        path = self.checkpoints / f"{name}.ckpt"
        if path.is_file():
            return path
        raise FileNotFoundError(
            f"ckpt_path={name!r}, but there is no checkpoint {path}. Leave ckpt_path out to start a run, give the file,"
            " or name the run with --run.name"
        )

    def stands_for(self, checkpoint: str | Path) -> bool:
        """Whether the figures of a checkpoint are those of the run: its best one, or any where none is called so."""
        best = self.checkpoints / BEST
        return not best.is_file() or best.resolve() == Path(checkpoint).resolve()

    def claim(self, *, overwrite: bool) -> None:
        """Make sure that a fresh run may write here; nothing is changed.

        Args:
            overwrite: Whether what an earlier run left may be deleted.

        Raises:
            ValueError: The folder holds something and overwrite is not set, or what it holds is not a run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"the run folder {self.path} is a file; choose another --run.name")
        if not self._holds_anything():
            return
        if not overwrite:
            raise ValueError(
                f"the run folder {self.path} is not empty. Go on with that run by --ckpt_path last, choose another"
                " --run.name, or delete what it holds by --run.overwrite true"
            )
        if not (self.path / CONFIG).is_file() and not self.checkpoints.is_dir():
            raise ValueError(
                f"--run.overwrite true deletes what an earlier run left, but {self.path} is not the folder of a run: it"
                f" has neither {CONFIG} nor {CHECKPOINTS}. Choose another --run.name, or empty the folder yourself"
            )

    def clear(self) -> None:
        """Delete what a run wrote, file by file; whatever else lies here stays."""
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)
        for path in (*self.checkpoints.glob("*.ckpt"), *self.checkpoints.glob("*.part")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()  # a sharded checkpoint is a folder
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (self.path / TOKENIZER / file).unlink(missing_ok=True)
        for folder in (self.checkpoints, self.path / TOKENIZER):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _holds_anything(self) -> bool:
        """Whether there is more than the configuration and tokenizer of a run that failed before it saved anything."""
        if not self.path.exists():
            return False
        first = {self.path / CONFIG, *(self.path / TOKENIZER).glob("*")}
        return any(file.is_file() and file not in first for file in self.path.rglob("*"))
