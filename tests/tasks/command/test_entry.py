"""The entry point: its help is light, and it limits how long the threads of OpenMP spin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.cli import SPIN_COUNT

ROOT = Path(__file__).parents[3]


def _python(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**kept, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("program", [["-c", "from tasks.cli import main; main()"], ["-m", "softformer"]])
@pytest.mark.parametrize(("args", "code"), [(["--help"], 0), ([], 2), (["trian"], 2)])
def test_the_top_level_imports_no_torch(program: list[str], args: list[str], code: int) -> None:
    done = _python("-X", "importtime", *program, *args)
    assert done.returncode == code, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "tasks.cli" in imported
    assert not {"torch", "timm", "lightning", "jsonargparse", "yaml"} & imported


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (SPIN_COUNT, None)),
        ({"GOMP_SPINCOUNT": "7"}, ("7", None)),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, (None, "PASSIVE")),
    ],
)
@pytest.mark.parametrize("module", [False, True])
def test_spinning_is_limited_before_torch_loads_unless_the_user_chose(
    tmp_path: Path, module: bool, variables: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    """A stand-in for torch tells the variables that it finds when it loads."""
    (tmp_path / "torch.py").write_text(
        "import os; print((os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))); raise SystemExit"
    )
    program = ["-m", "softformer"] if module else ["-c", "from tasks.cli import main; main(['fit'])"]
    done = _python(*program, "fit", PYTHONPATH=f"{tmp_path}:{ROOT}", **variables)
    assert done.stdout == f"{expected}\n", done.stderr


def test_nothing_is_set_where_torch_is_loaded_already(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.cli import limit_spinning

    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    limit_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ
