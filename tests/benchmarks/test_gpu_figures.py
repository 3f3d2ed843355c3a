"""The benchmark of the GPU backend as far as it goes without a GPU: arguments, rows, failures, and the parity."""

import json
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import attention_methods, gpu_figures, report
from benchmarks.attention import TOLERANCES, parity_errors
from benchmarks.gpu_figures import Measurement
from benchmarks.measure import Timer

MACHINE = {"text": "A machine.", "commit": "abc", "versions": {}}
TIMER = Timer(torch.device("cpu"))


def rows_of(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text())["rows"]


def test_arguments(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        gpu_figures.main(["--figures", "speed"])
    assert "choose from" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu_figures.main(["--figures", "parity", "newton"])


def test_rows_are_written_as_they_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    written = []

    def group(timer: Timer) -> Iterator[Measurement]:
        for number in range(3):
            yield Measurement(f"figure {number}", "N=1", "x", "> 1x", lambda number=number: 1.5 + number)
            written.append([row["value"] for row in rows_of(file)])

    assert gpu_figures.measure([group], TIMER, file, MACHINE) == 0
    assert written == [[1.5], [1.5, 2.5], [1.5, 2.5, 3.5]]
    assert "| figure 2 | N=1 | 3.5 x | > 1x | abc |" in file.with_suffix(".md").read_text()


def test_a_failure_is_a_row_and_the_others_follow(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"

    def fail() -> float:
        raise torch.OutOfMemoryError("CUDA out of memory | tried 1 GiB\nmore")

    def group(timer: Timer) -> Iterator[Measurement]:
        yield Measurement("large", "N=1", "x", "", fail)
        yield Measurement("small", "N=1", "x", "", lambda: 1.0)

    assert gpu_figures.measure([group], TIMER, file, MACHINE) == 1
    large, small = rows_of(file)
    assert large["value"] is None
    assert large["error"].startswith("OutOfMemoryError: CUDA out of memory")
    assert small["value"] == 1.0
    assert "| OutOfMemoryError: CUDA out of memory / tried 1 GiB |" in file.with_suffix(".md").read_text()


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(
    "error", [subprocess.CalledProcessError(1, "gcc"), AssertionError("libcuda.so"), OSError("gone")]
)
def test_errors_that_the_backend_may_raise_are_rows(tmp_path: Path, error: Exception) -> None:
    def fail() -> float:
        raise error

    rows = [Measurement("first", "", "x", "", fail), Measurement("second", "", "x", "", lambda: 1.0)]
    assert gpu_figures.measure([lambda timer: iter(rows)], TIMER, tmp_path / "f.json", MACHINE) == 1
    assert [row["value"] for row in rows_of(tmp_path / "f.json")] == [None, 1.0]


def test_rows_of_an_earlier_run_stay_until_they_are_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"

    def group(**values: float) -> gpu_figures.Group:
        return lambda timer: (Measurement(name, "", "x", "", lambda x=x: x) for name, x in values.items())

    gpu_figures.measure([group(one=1.0, two=2.0)], TIMER, file, MACHINE)
    gpu_figures.measure([group(two=3.0)], TIMER, file, MACHINE | {"commit": "def"})
    assert [(row["quantity"], row["value"], row["commit"]) for row in rows_of(file)] == [
        ("one", 1.0, "abc"),
        ("two", 3.0, "def"),
    ]


@pytest.mark.parametrize("broken", ["bfloat16", "float16"])
def test_no_speed_of_wrong_numbers(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are those of bfloat16, so wrong numbers in another type do not hold them back."""
    seen = []

    def errors(device: str, dtype: str, name: str, landmark_scale: float) -> list[tuple[str, float, float]]:
        seen.append((dtype, name, landmark_scale))
        return [("output", float("nan") if dtype == broken else 1e-6, 1e-5)]

    monkeypatch.setattr(gpu_figures, "parity_errors", errors)
    speed = [Measurement("speed", "", "x", "", lambda: 1.0)]
    failures = gpu_figures.measure([gpu_figures.parity, lambda timer: iter(speed)], TIMER, tmp_path / "f.json", MACHINE)
    assert failures == 4
    assert len(seen) == len(set(seen)) == 12
    assert {dtype for dtype, _, _ in seen} == set(TOLERANCES)
    assert (rows_of(tmp_path / "f.json")[-1]["quantity"] == "speed") == (broken == "float16")


@pytest.mark.parametrize("name", list(gpu_figures.GROUPS))
def test_every_group_lists_its_rows_without_a_device(name: str) -> None:
    rows = list(gpu_figures.GROUPS[name](TIMER))
    assert rows
    assert len({(row.quantity, row.sizes) for row in rows}) == len(rows)


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("landmark_scale", [1.0, 2.0])
def test_parity_errors(dtype: str, landmark_scale: float) -> None:
    for part, error, allowed in parity_errors("cpu", dtype, "eager, Cholesky", landmark_scale):
        assert 0 < error <= allowed < 0.1, part


def test_softmax_is_chosen_by_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend may be the fastest forward and the slowest with its backward."""
    chosen = []

    def medians(self: Timer, functions: dict[str, Any]) -> dict[str, float]:
        chosen.append(
            {name: len(result) if isinstance(result := run(), tuple) else 1 for name, run in functions.items()}
        )
        return dict.fromkeys(functions, 1.0)

    monkeypatch.setattr(attention_methods.Timer, "medians", medians)
    monkeypatch.setattr(attention_methods, "Timer", lambda device, rounds: Timer(torch.device("cpu")))
    for backward, results in ((False, 1), (True, 2)):
        problem = attention_methods.Problem(32, "meta", "float32", backward, batch=1)
        monkeypatch.setattr(
            attention_methods.Problem,
            "tensors",
            lambda self: [torch.randn(1, 1, 4, 8, requires_grad=self.backward) for _ in range(3)],
        )
        attention_methods._sdpa(problem)
        assert set(chosen[-1].values()) == {results}


def test_the_device_waits_for_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device was ahead of the host, the run is repeated with a longer wait."""
    waits: list[int] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            pass

        def record(self) -> None:
            pass

        def synchronize(self) -> None:
            pass

        def query(self) -> bool:
            return waits[-1] < 1 << 22

        def elapsed_time(self, other: object) -> float:
            return 5.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", waits.append)
    timer = Timer(torch.device("cpu"), ahead=True)
    timer._flush = torch.empty(1)
    assert timer._once(lambda: None) == 5e-3
    assert waits == [1 << 20, 1 << 21, 1 << 22]
    timer._once(lambda: None)
    assert waits[-1] == 1 << 22


def test_versions_of_a_gpu_name_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    assert {"torch", "triton", "CUDA"} <= set(report.describe_machine()["versions"])
