"""How the Triton kernels are launched and compiled, and what they need; no kernel runs."""

import json
import os
import subprocess
import sys
import weakref
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attention_cases import make_case

from softformer.ops import Newton, soft_attention
from softformer.ops.attention.backends import choose_backend, missing_requirement
from softformer.ops.attention.operands import Inputs

SIZES = (1, 1, 8, 8, 4, 4, 4)


def test_sizes_of_the_batch_select_no_kernel() -> None:
    """B, H, N, and strides leave the key alone by which compiled kernels are found, with masks or without."""
    selected = defaultdict(set)
    for line in _in_a_process_without_interpreter("keys"):
        call = json.loads(line)
        selected[call["network"]].add(str(call["keys"]))
    assert len(selected) == 24
    for network, keys in selected.items():
        assert len(keys) == 1, network
    assert len(set.union(*selected.values())) == 24


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(capability: int) -> None:
    """The compiler needs no GPU. Shared memory has to fit the smallest devices, and operands of half types tf32 not."""
    for line in _in_a_process_without_interpreter("compile", str(capability)):
        kernel = json.loads(line)
        assert kernel["shared"] <= 99 * 1024, kernel
        half = kernel["dtype"] != "torch.float32" and kernel["kernel"] != "newton_kernel"
        assert kernel["operands"], kernel
        assert half != ("f32" in kernel["operands"]), kernel


class Stream:
    """A CUDA stream that writes down for which stream it waited."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: "Stream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def __enter__(self) -> None:
        self.log.append(f"on {self.name}")

    def __exit__(self, *error: object) -> None:
        self.log.append(f"off {self.name}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The order of what happens on streams, as if tensors were on a CUDA device."""
    from softformer.ops.attention.triton import backend, launch

    log: list[str] = []
    main, side = Stream(log, "main"), Stream(log, "side")
    on_side_stream = backend._on_side_stream
    monkeypatch.setattr(backend, "_side_stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: main)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(backend, "_on_side_stream", lambda device, run: on_side_stream(torch.device("cuda"), run))
    for name, result in (("newton", None), ("project", torch.ones(1, 1, 4, 4)), ("expand", None)):
        monkeypatch.setattr(launch, name, lambda *a, name=name, result=result, **k: log.append(name) or result)
    return log


def attend(**options: Any) -> None:
    soft_attention(**make_case(sizes=SIZES, dtype=torch.float32).tensors, backend="triton", **options)


interpreted = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="Triton's interpreter is off")


@interpreted
def test_newton_overlaps_with_the_first_pass(log: list[str]) -> None:
    attend()
    assert log == ["side waits for main", "on side", "newton", "off side", "project", "main waits for side", "expand"]


@interpreted
@pytest.mark.parametrize("failing", ["newton", "project"])
def test_streams_join_when_a_launch_fails(failing: str, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture into a CUDA graph cannot end before; and memory would be given away that is still written."""
    from softformer.ops.attention.triton import launch

    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(launch, failing, fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        attend()
    assert log[-1] == "main waits for side"


@interpreted
def test_steps_live_until_the_streams_join(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from softformer.ops.attention.triton import launch

    steps: list[Any] = []
    monkeypatch.setattr(launch, "newton", lambda landmarks, step, *rest: steps.append(weakref.ref(step)))
    monkeypatch.setattr(Stream, "wait_stream", lambda self, other: steps and log.append(str(steps[0]() is not None)))
    attend(inverse=Newton(ridge=0.0, start="halving"))
    assert "True" in log
    assert "False" not in log


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A machine with a compiler, as far as requirements go."""
    missing_requirement.cache_clear()
    machine = SimpleNamespace(programs={"gcc"}, setenv=monkeypatch.setenv)
    monkeypatch.setattr("shutil.which", lambda name: name if name in machine.programs else None)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.version, "hip", None)
    yield machine
    missing_requirement.cache_clear()


def test_nothing_is_missing(machine: SimpleNamespace) -> None:
    assert missing_requirement() is None


def test_rocm_is_no_cuda(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "ROCm" in str(missing_requirement())


@pytest.mark.parametrize(("programs", "cc"), [(set(), None), ({"gcc"}, "/opt/bin/cc")])
def test_a_missing_compiler_is_named(machine: SimpleNamespace, programs: set[str], cc: str | None) -> None:
    machine.programs = programs
    if cc is not None:
        machine.setenv("CC", cc)
    assert "C compiler" in str(missing_requirement())


@pytest.mark.parametrize(("programs", "cc"), [({"clang"}, None), ({"/opt/bin/cc"}, "/opt/bin/cc")])
def test_any_compiler_will_do(machine: SimpleNamespace, programs: set[str], cc: str | None) -> None:
    machine.programs = programs
    if cc is not None:
        machine.setenv("CC", cc)
    assert missing_requirement() is None


def test_a_missing_requirement_is_the_reason_of_the_backend(machine: SimpleNamespace) -> None:
    machine.programs = set()
    x = SimpleNamespace(is_cuda=True)
    with pytest.raises(ValueError, match=r"backend='triton' cannot run here: .* a C compiler"):
        choose_backend("triton", Inputs(x, x, x), Newton(), False)  # type: ignore[arg-type]


def _in_a_process_without_interpreter(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "triton_offline", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()
