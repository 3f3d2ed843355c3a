"""The folder of a run: what lies in it, who may write to it, and which run a checkpoint came from."""

import shutil
from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
RESULTS = "results.json"
_PATTERNS = (CONFIG, METRICS, "results.*", "*.png", "class_report_*.csv")


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

    def claim(self, *, overwrite: bool) -> None:
        """Make sure that a fresh run may write here.

        Args:
            overwrite: Delete what an earlier run left; files that no run writes stay.

        Raises:
            ValueError: The folder is not empty and overwrite is not set, or it is no folder.
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
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for pattern in _PATTERNS:
            for file in self.path.glob(pattern):
                file.unlink()

    def _holds_anything(self) -> bool:
        """Whether there is more than the configuration of a run that failed before it saved anything."""
        if not self.path.exists():
            return False
        files = [file for file in self.path.rglob("*") if file.is_file()]
        return files not in ([], [self.path / CONFIG])
