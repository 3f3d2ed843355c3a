"""Who may write into the folder of a run."""

from pathlib import Path

import pytest
from full_disk import largest_file

from softformer.training.run.folder import RunFolder


def finished(path: Path) -> RunFolder:
    (path / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "metrics.csv", "results.json", "results.md", "learning_curves.png"):
        (path / name).touch()
    for name in ("best.ckpt", "last.part"):
        (path / "checkpoints" / name).touch()
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
    (folder.path / "results.txt").touch()
    (folder.path / "cat.png").touch()
    (folder.path / "checkpoints" / "sharded.ckpt").mkdir()
    folder.claim(overwrite=True)
    assert folder.checkpoint("best").is_file()  # asking deletes nothing
    folder.clear()
    assert sorted(path.name for path in folder.path.iterdir()) == ["cat.png", "notes.txt", "results.txt"]


def test_overwriting_keeps_what_stands_beside_checkpoints(tmp_path: Path) -> None:
    folder = finished(tmp_path / "old")
    (folder.checkpoints / "notes.txt").touch()
    folder.clear()
    assert [path.name for path in folder.path.rglob("*")] == ["checkpoints", "notes.txt"]


def test_only_the_folder_of_a_run_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(ValueError, match=r"photos is not the folder of a run: it has neither config.yaml nor checkpoi"):
        RunFolder(tmp_path / "photos").claim(overwrite=True)
    finished(tmp_path / "run").claim(overwrite=True)


def test_the_run_of_a_checkpoint(tmp_path: Path) -> None:
    folder = finished(tmp_path / "old")
    assert folder.checkpoint("best") == tmp_path / "old" / "checkpoints" / "best.ckpt"
    found = RunFolder.of_checkpoint(folder.checkpoint("best"))
    assert found is not None
    assert found.path == folder.path.resolve()
    assert RunFolder.of_checkpoint(tmp_path / "elsewhere.ckpt") is None
    assert folder.stands_for(folder.checkpoint("best"))
    assert not folder.stands_for(folder.checkpoints / "last.ckpt")
    folder.checkpoint("best").unlink()
    assert folder.stands_for(folder.checkpoints / "last.ckpt")
    with pytest.raises(FileNotFoundError, match=r"ckpt_path='last', but there is no checkpoint .*last.ckpt"):
        folder.checkpoint("last")


def test_files_of_the_data_on_a_full_disk_name_the_folder(tmp_path: Path) -> None:
    refused = pytest.raises(OSError, match=f"File too large: '{tmp_path}'")
    with largest_file(5), refused, RunFolder(tmp_path).recording() as folder:
        (folder / "units.json").write_text("longer than that")
