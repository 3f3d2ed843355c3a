"""The GPU backend against its aims: parity, bandwidth, Newton's launch, CUDA graphs, and the nearest peers.

    python -m benchmarks.gpu_figures

Each row names a quantity, its value, and its aim. Times are times of the device, which waits until the host has
launched everything. Rows are written as they are measured, so a run that is cut off keeps them; a row that fails says
why, and the others follow. Writes benchmarks/results/gpu_figures_cuda_DATE.json and .md. Rows of an earlier run of the
same day stay there, with their commit, until they are measured again. The whole network is in `benchmarks.models`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.attention import TOLERANCES, parity_errors
from benchmarks.attention_methods import Problem, runner
from benchmarks.measure import Timer, copy_bandwidth
from benchmarks.report import describe_machine, markdown_table, results_file, with_new_rows, write_results
from softformer.ops import Newton
from softformer.ops.attention.landmark_stage import inverse_state, landmark_kernel
from softformer.ops.precision import full_precision

_BATCH, _TYPE = 64, "bfloat16"


class Measurement(NamedTuple):
    """One row before it is measured: the quantity, its sizes, unit, and aim, and a function that returns its value."""

    quantity: str
    sizes: str
    unit: str
    aim: str
    value: Callable[[], float]


Group = Callable[[Timer], Iterator[Measurement]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the groups of figures, and write each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="groups of rows")
    parser.add_argument("--seconds", type=float, default=10.0, help="longest time for one comparison")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu_figures: this machine has no CUDA device that torch can use")
    timer = Timer(torch.device("cuda"), seconds=options.seconds, ahead=True)
    file, machine = results_file("gpu_figures", "cuda"), describe_machine()
    failures = measure([GROUPS[name] for name in options.figures], timer, file, machine)
    if failures:
        sys.exit(f"{failures} rows failed; {file.with_suffix('.md')} gives the reasons")


def measure(groups: Sequence[Group], timer: Timer, file: Path, machine: dict[str, Any]) -> int:
    """Measure and write row after row; the number of rows that failed."""
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    failures = 0
    for group in groups:
        for measurement in group(timer):
            row = {**measurement._asdict(), "value": None, "error": None, "commit": machine["commit"]}
            try:
                row["value"] = measurement.value()
            except _errors() as error:
                row["error"] = f"{type(error).__name__}: {error}"
                failures += 1
            rows = with_new_rows(rows, [row], ("quantity", "sizes"))
            table = markdown_table(["quantity", "sizes", "measured", "aim", "commit"], [_cells(row) for row in rows])
            write_results(file, {**machine, "rows": rows}, f"{machine['text']}\n\n{table}")
            print(" | ".join(_cells(row)), flush=True)
        if group is parity and any(row["error"] for row in rows if row["sizes"].startswith(_TYPE)):
            break  # the speed of wrong numbers is no figure
    return failures


def _errors() -> tuple[type[Exception], ...]:
    """Errors of kernels that do not load, compile, fit, or run."""
    try:
        from softformer.ops.attention.triton.backend import ERRORS
    except ModuleNotFoundError:
        return RuntimeError, OSError
    return RuntimeError, OSError, *ERRORS


def _cells(row: dict[str, Any]) -> list[str]:
    measured = f"{row['value']:.3g} {row['unit']}" if row["error"] is None else row["error"].splitlines()[0]
    return [row["quantity"], row["sizes"], measured.replace("|", "/"), row["aim"], row["commit"]]


def _problem(length: int, *, backward: bool = False) -> Problem:
    return Problem(length, "cuda", _TYPE, backward, _BATCH)


def _sizes(problem: Problem) -> str:
    return (
        f"B={problem.batch} H={problem.heads} D={problem.width} M={problem.landmarks} "
        f"N={problem.length:,} {problem.dtype}"
    )


def _share(problem: Problem, seconds: float, timer: Timer) -> float:
    """The rate of reading queries twice and values once, and writing the output, in percent of that of a copy."""
    least_bytes = 4 * problem.batch * problem.heads * problem.length * problem.width * 2
    return 100 * least_bytes / seconds / copy_bandwidth(timer)


def parity(timer: Timer) -> Iterator[Measurement]:
    """Errors against the reference in float64, of all that is allowed, at landmarks far apart and at segment means."""

    def worst(dtype: str, name: str, landmark_scale: float) -> float:
        errors = parity_errors("cuda", dtype, name, landmark_scale)
        share = max(error / allowed if error == error else float("inf") for _, error, allowed in errors)
        if share > 1:
            raise RuntimeError(
                f"the results are wrong: {', '.join(f'{part} {error:.1e}' for part, error, _ in errors)}"
            )
        return 100 * share

    for dtype in TOLERANCES:
        for name in ("triton", "triton, Cholesky"):
            for landmark_scale, landmarks in ((2.0, "twice segment means"), (1.0, "segment means")):
                value = partial(worst, dtype, name, landmark_scale)
                yield Measurement(
                    f"largest error of {name}", f"{dtype}, {landmarks}", "% of allowed", "<= 100 %", value
                )


def bandwidth(timer: Timer) -> Iterator[Measurement]:
    """The rate of a copy, which the figures of `passes` and `whole` are compared with."""
    yield Measurement("copy", "256 MiB", "GB/s", "", lambda: copy_bandwidth(timer) / 1e9)


def passes(timer: Timer) -> Iterator[Measurement]:
    """The two passes over the tokens, without the stage between them."""

    def share(problem: Problem) -> float:
        from softformer.ops.attention.operands import empty_heads
        from softformer.ops.attention.triton import launch

        query, value, landmarks = problem.tensors()
        tokens, points = launch.Points(query, None), launch.Points(landmarks.contiguous(), None)
        out = empty_heads(query, problem.length, problem.width, value.dtype)
        weights = torch.randn_like(points.points, dtype=torch.float32)

        def run() -> None:
            launch.project(tokens, value, points)
            launch.expand(tokens, weights, points, out)

        return _share(problem, timer.medians({"passes": run})["passes"], timer)

    for length in (12544, 50176):
        problem = _problem(length)
        yield Measurement(
            "both passes over the tokens", _sizes(problem), "% of copy", ">= 60 %", partial(share, problem)
        )


def whole(timer: Timer) -> Iterator[Measurement]:
    """Forward, forward in a CUDA graph, and forward + backward against the published formula, plain and compiled."""

    def forward(problem: Problem) -> float:
        return _share(problem, timer.medians({"forward": runner("triton", problem)})["forward"], timer)

    def graph(problem: Problem) -> float:
        return 1e6 * timer.medians({"graph": graphed(runner("triton", problem))})["graph"]

    long, short, both = _problem(12544), _problem(3136), _problem(12544, backward=True)
    yield Measurement("forward", _sizes(long), "% of copy", ">= 50 %", partial(forward, long))
    yield Measurement("forward in a CUDA graph", _sizes(short), "us", "<= 120 us", partial(graph, short))
    for name, aim in (("published formula", ">= 8x"), ("compiled formula", ">= 3x")):
        quantity = f"forward + backward against the {name}"
        yield Measurement(quantity, _sizes(both), "x", aim, partial(_ratio, timer, name, both))


def softmax(timer: Timer) -> Iterator[Measurement]:
    """Forward + backward against the SDPA backend that is fastest at both together."""
    for length, aim in ((1024, "> 1x"), (4096, ">= 6x"), (65536, ">= 100x")):
        problem = Problem(length, "cuda", _TYPE, True, batch=64, heads=4, width=64, landmarks=64)
        value = partial(_ratio, timer, "SDPA", problem)
        yield Measurement("forward + backward against SDPA", _sizes(problem), "x", aim, value)


def _ratio(timer: Timer, peer: str, problem: Problem) -> float:
    times = timer.medians({name: runner(name, problem) for name in ("triton", peer)})
    return times[peer] / times["triton"]


def newton(timer: Timer) -> Iterator[Measurement]:
    """Newton's iterations in one launch, and as batched products in a CUDA graph."""

    def times(num_landmarks: int, width: int) -> dict[str, float]:
        from softformer.ops.attention.triton import launch

        points = torch.randn(64, 2, num_landmarks, width, device="cuda") / width**0.5
        state = torch.empty(64, 2, num_landmarks, num_landmarks, device="cuda")
        row_sums, options = state.new_empty(state.shape[:3]), Newton()

        def fused() -> None:
            landmarks = launch.Points(points, None)
            launch.newton(landmarks, None, options.iterations, options.ridge, state, row_sums)

        fused()
        with full_precision("cuda"):
            matrix = landmark_kernel(points, None)
            error = float((inverse_state(matrix, options) - state).norm() / state.norm())
            if not error <= 1e-3:
                raise RuntimeError(f"the two inverses differ by {error:.1e}")
            return timer.medians({"launch": fused, "products": graphed(lambda: inverse_state(matrix, options))})

    for num_landmarks, width in ((49, 32), (64, 64)):
        sizes = f"128 matrices of {num_landmarks} x {num_landmarks}, 20 iterations"

        def launch_time(num_landmarks: int = num_landmarks, width: int = width) -> float:
            return 1e6 * times(num_landmarks, width)["launch"]

        def gain(num_landmarks: int = num_landmarks, width: int = width) -> float:
            found = times(num_landmarks, width)
            return found["products"] / found["launch"]

        yield Measurement("Newton's launch", sizes, "us", "<= 100 us", launch_time)
        yield Measurement("Newton's launch against batched products in a graph", sizes, "x", ">= 4x", gain)


def graphed(run: Callable[[], Any]) -> Callable[[], None]:
    """The same launches, captured once and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


GROUPS: dict[str, Group] = {
    "parity": parity,
    "bandwidth": bandwidth,
    "passes": passes,
    "whole": whole,
    "softmax": softmax,
    "newton": newton,
}


if __name__ == "__main__":
    main()
