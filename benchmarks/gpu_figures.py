"""The GPU backend against its aims: bandwidth of the passes, Newton's launch, CUDA graphs, and the nearest peers.

    python -m benchmarks.gpu_figures

Each row names what was measured, the figure and its aim. The whole network is in `benchmarks.models`. Writes
benchmarks/results/gpu_figures_cuda_DATE.json and .md.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.attention import check_parity
from benchmarks.attention_methods import Problem, runner
from benchmarks.measure import Timer, copy_bandwidth
from benchmarks.report import describe_machine, markdown_table, results_file, write_results
from softformer.ops import Newton
from softformer.ops.attention.reference import landmark_kernel

_BATCH = 64


class Figure(NamedTuple):
    """One row: what was measured, on what, the value with its unit, and the aim."""

    what: str
    sizes: str
    value: float
    unit: str
    aim: str


def main() -> None:
    """Check, measure, write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu_figures: this machine has no CUDA device that torch can use")
    check_parity("cuda", "bfloat16", ["triton", "triton, Cholesky"])
    machine, timer = describe_machine(), Timer(torch.device("cuda"))
    bandwidth = copy_bandwidth(timer)
    figures = [*passes(timer, bandwidth), *whole(timer, bandwidth), *against_softmax(timer), *newton(timer)]
    text = f"{machine['text']} Measured copy bandwidth: {bandwidth / 1e9:.0f} GB/s.\n\n" + markdown_table(
        ["what", "sizes", "measured", "aim"],
        [[figure.what, figure.sizes, f"{figure.value:.3g} {figure.unit}", figure.aim] for figure in figures],
    )
    rows = [figure._asdict() for figure in figures]
    write_results(results_file("gpu_figures", "cuda"), {**machine, "copy_bandwidth": bandwidth, "rows": rows}, text)
    print(text)


def _problem(length: int, *, backward: bool = False) -> Problem:
    return Problem(length, "cuda", "bfloat16", backward, _BATCH)


def _sizes(problem: Problem) -> str:
    return (
        f"B={problem.batch} H={problem.heads} D={problem.width} M={problem.landmarks} "
        f"N={problem.length:,} {problem.dtype}"
    )


def _least_bytes(problem: Problem) -> int:
    """Queries read twice, values once, the output written once."""
    return 4 * problem.batch * problem.heads * problem.length * problem.width * 2


def passes(timer: Timer, bandwidth: float) -> list[Figure]:
    """The two passes over the tokens, without the stage between them."""
    from softformer.ops.attention.operands import empty_heads
    from softformer.ops.attention.triton import launch

    found = []
    for length in (12544, 50176):
        problem = _problem(length)
        query, value, landmarks = problem.tensors()
        tokens, points = launch.Points(query, None), launch.Points(landmarks, None)
        out = empty_heads(query, length, problem.width, value.dtype)
        weights = torch.randn_like(landmarks, dtype=torch.float32)

        def run(
            tokens: Any = tokens,
            value: Tensor = value,
            points: Any = points,
            weights: Tensor = weights,
            out: Tensor = out,
        ) -> None:
            launch.project(tokens, value, points)
            launch.expand(tokens, weights, points, out)

        seconds = timer.medians({"passes": run})["passes"]
        share = 100 * _least_bytes(problem) / seconds / bandwidth
        found.append(Figure("both passes over the tokens", _sizes(problem), share, "% of copy", ">= 60 %"))
    return found


def whole(timer: Timer, bandwidth: float) -> list[Figure]:
    """Forward, forward in a CUDA graph, and forward + backward against the published formula, plain and compiled."""
    problem = _problem(12544)
    seconds = timer.medians({"forward": runner("triton", problem)})["forward"]
    share = 100 * _least_bytes(problem) / seconds / bandwidth
    found = [Figure("forward", _sizes(problem), share, "% of copy", ">= 50 %")]
    short = _problem(3136)
    seconds = timer.medians({"graph": graphed(runner("triton", short))})["graph"]
    found.append(Figure("forward in a CUDA graph", _sizes(short), seconds * 1e6, "us", "<= 120 us"))
    both = _problem(12544, backward=True)
    names = ["triton", "published formula", "compiled formula"]
    times = timer.medians({name: runner(name, both) for name in names})
    for name, aim in (("published formula", ">= 8x"), ("compiled formula", ">= 3x")):
        ratio = times[name] / times["triton"]
        found.append(Figure(f"forward + backward against the {name}", _sizes(both), ratio, "x", aim))
    return found


def against_softmax(timer: Timer) -> list[Figure]:
    """Forward + backward against the fastest SDPA backend."""
    found = []
    for length, aim in ((1024, "> 1x"), (4096, ">= 6x"), (65536, ">= 100x")):
        problem = Problem(length, "cuda", "bfloat16", True, batch=64, heads=4, width=64, landmarks=64)
        times = timer.medians({name: runner(name, problem) for name in ("triton", "SDPA")})
        ratio = times["SDPA"] / times["triton"]
        found.append(Figure("forward + backward against SDPA", _sizes(problem), ratio, "x", aim))
    return found


def newton(timer: Timer) -> list[Figure]:
    """Twenty iterations in one launch, and as forty batched products in a CUDA graph."""
    from softformer.ops.attention.triton import launch

    points = torch.randn(64, 2, 49, 32, device="cuda") / 32**0.25
    state = torch.empty(64, 2, 49, 49, device="cuda")
    row_sums = torch.empty(64, 2, 49, device="cuda")
    matrix = landmark_kernel(points, None).flatten(0, 1)
    options = Newton()

    def fused() -> None:
        landmarks = launch.Points(points, None)
        launch.newton(landmarks, None, options.iterations, options.ridge, state, row_sums)

    def products() -> Tensor:
        x = matrix
        for _ in range(options.iterations):
            x = torch.baddbmm(x, x @ matrix, x, beta=2, alpha=-1)
        return x

    times = timer.medians({"launch": fused, "products": graphed(products)})
    sizes = "128 matrices of 49 x 49, 20 iterations"
    return [
        Figure("Newton's launch", sizes, times["launch"] * 1e6, "us", "<= 100 us"),
        Figure(
            "Newton's launch against 40 products in a graph", sizes, times["products"] / times["launch"], "x", ">= 4x"
        ),
    ]


def graphed(run: Callable[[], Any]) -> Callable[[], None]:
    """The same launches, captured once and replayed."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


if __name__ == "__main__":
    main()
