"""The folder of a run: its files, the claim on it, and the run that a checkpoint belongs to."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
RESULTS = "results.json"
BEST = "best.ckpt"
MANIFEST = "manifest.txt"
LOCK = ".lock"
# Files of every run; the runs of earlier versions have no manifest.
_FILES = (
    *(CONFIG, METRICS, RESULTS, "results.md", "learning_curves.png"),
    *(f"class_report_{stage}.csv" for stage in ("val", "test")),
    *(f"confusion_matrix_{stage}.png" for stage in ("val", "test")),
)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an OSError of the block that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@dataclass(frozen=True)
class RunFolder:
    """The folder that holds everything of one run.

    Files outside its checkpoints are written within `writing` or `recording`, which list them in manifest.txt.

    Args:
        path: The folder, runs/NAME.
    """

    path: Path

    @classmethod
    def of_checkpoint(cls, checkpoint: str | Path) -> "RunFolder | None":
        """The run of a checkpoint; None for a checkpoint outside a run."""
        parent = Path(checkpoint).resolve().parent
        return cls(parent.parent) if parent.name == CHECKPOINTS and (parent.parent / CONFIG).is_file() else None

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS

    def checkpoint(self, name: str) -> Path:
        """The checkpoint ``best`` or ``last`` of this run; a FileNotFoundError if there is none."""
        path = self.checkpoints / f"{name}.ckpt"
        if path.is_file():
            return path
        others = sorted(str(file) for file in self.checkpoints.glob("*.ckpt"))
        remedy = "Leave ckpt_path out to start a run, give the file, or name the run with --run.name"
        if others:
            remedy = (
                f"It has {', '.join(others)}: give one of these files. A ModelCheckpoint with a metric in"
                " trainer.callbacks takes the place of best.ckpt, and a run without validation has none"
            )
        raise FileNotFoundError(f"ckpt_path={name!r}, but there is no checkpoint {path}. {remedy}")

    def stands_for(self, checkpoint: str | Path) -> bool:
        """Whether the figures of a checkpoint are those of the run: its best one, or any of a run without best.ckpt."""
        best = self.checkpoints / BEST
        return not best.is_file() or best.resolve() == Path(checkpoint).resolve()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """The path of a file that the block writes; it is listed in the manifest, and errors name it."""
        path = self.path / name
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._list(name)
            yield path

    @contextmanager
    def recording(self) -> Iterator[Path]:
        """The folder, for a block that writes files of its own; those are listed in the manifest."""
        self.path.mkdir(parents=True, exist_ok=True)
        before = self._files()
        with naming(self.path):
            yield self.path
        self._list(*(self._files() - before))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for this process: a ValueError if another run has locked it, or the folder is a file.

        The lock of a process that died does not block. At the end, a folder without files is removed.
        """
        self._check_no_file()
        path, file = self.path / LOCK, self._lock()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(file)
            with suppress(OSError):  # it holds files
                self.path.rmdir()

    def _lock(self) -> int:
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                file = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # a run that ended has just removed the folder
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(file)
                raise ValueError(
                    f"the run folder {self.path} must not be in use, but another run writes to it. Wait for its end, or"
                    " choose another --run.name"
                ) from error
            except OSError as error:
                rank_zero_warn(f"{self.path}: a second run of this name would not be refused, as locks fail ({error})")
            if os.fstat(file).st_nlink:
                return file
            os.close(file)  # a run that ended has just removed the file

    def claim(self, *, overwrite: bool) -> None:
        """Raise a ValueError if the folder has files, unless they are those of a run that may be overwritten."""
        self._check_no_file()
        # The configuration of a run that failed before its first step does not count.
        start = {CONFIG, MANIFEST, LOCK, *self._listed()} - {METRICS, RESULTS}
        if self._files() <= start:
            return
        if not overwrite:
            raise ValueError(
                f"the run folder {self.path} is not empty. Go on with that run by --ckpt_path last, choose another"
                " --run.name, or delete what it holds by --run.overwrite true"
            )
        if not (self.path / CONFIG).is_file() and not self.checkpoints.is_dir():
            raise ValueError(
                f"--run.overwrite true deletes the files of an earlier run, but {self.path} is not the folder of a run:"
                f" it has neither {CONFIG} nor {CHECKPOINTS}. Choose another --run.name, or empty the folder yourself"
            )

    def clear(self) -> list[str]:
        """Delete the files that a run wrote; returns the names of all others, which stay."""
        for path in (*self.checkpoints.glob("*.ckpt"), *self.checkpoints.glob("*.part")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()  # a sharded checkpoint is a folder
        written = [self.path / name for name in (*_FILES, *self._listed(), MANIFEST)]
        for path in written:
            if path.resolve().is_relative_to(self.path.resolve()):
                path.unlink(missing_ok=True)
        for folder in {self.checkpoints, *(path.parent for path in written)} - {self.path}:
            with suppress(OSError):  # it holds files
                folder.rmdir()
        return sorted(self._files() - {LOCK})

    def _check_no_file(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"the run folder {self.path} is a file; choose another --run.name")

    def _files(self) -> set[str]:
        return {str(file.relative_to(self.path)) for file in self.path.rglob("*") if file.is_file()}

    def _listed(self) -> list[str]:
        path = self.path / MANIFEST
        return path.read_text().splitlines() if path.is_file() else []

    def _list(self, *names: str) -> None:
        new = sorted({*names} - {*self._listed()})
        path = self.path / MANIFEST
        with naming(path), path.open("a") as file:
            file.writelines(f"{name}\n" for name in new)
