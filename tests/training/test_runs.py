"""Who may write into the folder of a run."""

from pathlib import Path

import pytest

from softformer.training.runs import RunFolder


def finished(path: Path) -> RunFolder:
    (path / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "metrics.csv", "results.json", "results.md", "curve.png", "checkpoints/best.ckpt"):
        (path / name).touch()
    return RunFolder(path)


def test_a_fresh_run_needs_an_empty_folder(tmp_path: Path) -> None:
    RunFolder(tmp_path / "new").claim(overwrite=False)
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    RunFolder(tmp_path / "empty").claim(overwrite=False)
    failed = RunFolder(tmp_path / "failed")
    failed.path.mkdir()
    (failed.path / "config.yaml").touch()  # of a run that ended before it saved anything
    failed.claim(overwrite=False)
    with pytest.raises(
        ValueError, match=r"is not empty. Go on with that run by --ckpt_path last, .*run.overwrite true"
    ):
        finished(tmp_path / "old").claim(overwrite=False)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"foreign is not empty"):
        RunFolder(tmp_path / "foreign").claim(overwrite=False)
    with pytest.raises(ValueError, match=r"is a file"):
        RunFolder(tmp_path / "foreign" / "notes.txt").claim(overwrite=True)


def test_overwriting_deletes_what_runs_write_alone(tmp_path: Path) -> None:
    folder = finished(tmp_path / "old")
    (folder.path / "notes.txt").touch()
    folder.claim(overwrite=True)
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_the_run_of_a_checkpoint(tmp_path: Path) -> None:
    folder = finished(tmp_path / "old")
    assert folder.checkpoint("best") == tmp_path / "old" / "checkpoints" / "best.ckpt"
    found = RunFolder.of_checkpoint(folder.checkpoint("best"))
    assert found is not None
    assert found.path == folder.path.resolve()
    assert RunFolder.of_checkpoint(tmp_path / "elsewhere.ckpt") is None
    with pytest.raises(FileNotFoundError, match=r"ckpt_path='last', but there is no checkpoint .*last.ckpt"):
        folder.checkpoint("last")
