"""Attention alone: time, memory and bandwidth against peers over the length of the sequence.

    python -m benchmarks.attention --device cpu
    python -m benchmarks.attention --device cuda

Every backend is first held to the float64 reference; the program ends without a figure if one is off. Writes
benchmarks/results/attention_DEVICE_DATE.json, .md and .png; rows of an earlier run of the same day are kept, with their
commit, unless they are measured again.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.attention_methods import METHODS, Problem, extra_memory, obstacle, runner
from benchmarks.measure import Timer, copy_bandwidth, exponential_rate, product_rate
from benchmarks.report import (
    describe_machine,
    device_parser,
    markdown_table,
    parse_device,
    results_file,
    write_results,
)
from softformer.ops.attention import reference
from softformer.ops.attention.operands import Inputs
from softformer.ops.inverse import Cholesky, Newton

LENGTHS = [256, 1024, 4096, 12544, 50176, 65536, 262144]
TOLERANCES = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
# Softmax and the published formula stop where one matrix would take longer, or more memory, than it is worth.
_MOST_PAIRS = {"cpu": 1 << 32, "cuda": 1 << 40}
_MOST_KERNEL_BYTES = {"cpu": 6 << 30, "cuda": 40 << 30}


def main() -> None:
    """Check, measure, write."""
    parser = device_parser(__doc__)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="tokens")
    parser.add_argument("--types", nargs="+", choices=list(TOLERANCES), default=["float32", "bfloat16"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--batch", type=int, help="samples; 4 on a CPU, 64 on a GPU")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for one comparison")
    arguments = parse_device(parser)
    batch = arguments.batch or (64 if arguments.device == "cuda" else 4)
    for dtype in arguments.types:
        check_parity(arguments.device, dtype, arguments.methods)
    machine = describe_machine()
    timer = Timer(torch.device(arguments.device), seconds=arguments.seconds)
    bandwidth = copy_bandwidth(timer)
    rates = _rates(timer) if arguments.device == "cpu" else {}
    file = results_file("attention", arguments.device)
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    for dtype in arguments.types:
        for length in arguments.lengths:
            for backward in (False, True):
                problem = Problem(length, arguments.device, dtype, backward, batch)
                found = measure(problem, arguments.methods, timer, bandwidth, rates)
                rows = [row for row in rows if not _is_of(row, problem)]
                rows += [{**row, "commit": machine["commit"], "copy_bandwidth": bandwidth, **rates} for row in found]
                rows.sort(key=lambda row: (list(TOLERANCES).index(row["dtype"]), row["length"], row["backward"]))
                print(markdown_table(_HEADER, [_cells(row) for row in rows if _is_of(row, problem)]), flush=True)
                write_results(file, {**machine, "command": sys.argv[1:], "rows": rows}, report(machine, rows))
    draw(rows, file.with_suffix(".png"))
    print(f"written: {file.with_suffix('')}.json, .md, .png")


def check_parity(device: str, dtype: str, names: Sequence[str]) -> None:
    """Outputs and gradients of all softmax-free methods against the reference in float64.

    The bound is the stated tolerance, or twice the error of the reference at the same type. The published formula in
    half precision is not held to it: its error is part of what it is.

    Raises:
        SystemExit: One is off; no speed is printed for wrong numbers.
    """
    for name in names:
        half_formula = name.endswith("formula") and dtype != "float32"
        if not METHODS[name].is_soft or half_formula or obstacle(name, _parity_problem(device, dtype)):
            continue
        for part, error, allowed in parity_errors(device, dtype, name):
            if not error <= allowed:
                raise SystemExit(f"{name} is wrong in {dtype}: {part} is off by {error:.1e}, allowed are {allowed:.1e}")


def _parity_problem(device: str, dtype: str) -> Problem:
    return Problem(251, device, dtype, backward=True, batch=2)


def parity_errors(device: str, dtype: str, name: str, landmark_scale: float = 2.0) -> list[tuple[str, float, float]]:
    """The relative error of the output and of every gradient of a softmax-free method, and the error that is allowed.

    Landmarks are segment means times `landmark_scale`; at 1 they lie so close together that rounding shows.
    """
    inverse = Cholesky() if name.endswith("Cholesky") else Newton()
    problem = _parity_problem(device, dtype)
    tensors = problem.tensors(landmark_scale)
    cotangent = torch.randn_like(tensors[1])

    def law(*inputs: Tensor) -> Tensor:
        return reference.soft_attention(Inputs(*inputs), inverse, False)

    def values(function: Any, inputs: list[Tensor]) -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        out = function(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, cotangent.to(out.dtype))]

    exact = values(law, [x.double() for x in tensors])
    plain = [x.to(tensors[0].dtype) for x in values(law, [x.float() for x in tensors])]
    ours = values(METHODS[name].make(problem), tensors)
    return [
        (part, _error(x, right), max(TOLERANCES[dtype], 2 * _error(same_type, right)))
        for part, x, same_type, right in zip(("output", "dq", "dv", "dlandmarks"), ours, plain, exact)
    ]


def _error(ours: Tensor, right: Tensor) -> float:
    return float((ours.double() - right).norm() / right.norm())


def measure(
    problem: Problem, names: Sequence[str], timer: Timer, bandwidth: float, rates: dict[str, float]
) -> list[dict[str, Any]]:
    """One row for each method that can take the problem."""
    able = [name for name in names if obstacle(name, problem) is None and _affordable(name, problem)]
    seconds = timer.medians({name: runner(name, problem) for name in able})
    peaks = extra_memory(problem, able)
    size = getattr(torch, problem.dtype).itemsize
    tokens = problem.batch * problem.heads * problem.length
    # Forward: q twice, v and out once. Backward: q and dOut twice, v once, dq and dv written.
    least_bytes = tokens * problem.width * size * (11 if problem.backward else 4)
    floor = None
    if rates and problem.dtype == "float32":
        pairs = tokens * problem.landmarks
        products = pairs * problem.width * (12 if problem.backward else 4)
        exponentials = pairs * (4 if problem.backward else 2)
        floor = products / rates["products_per_second"] + exponentials / rates["exponentials_per_second"]
    return [
        {
            **problem._asdict(),
            "method": name,
            "seconds": seconds[name],
            "extra_bytes": peaks[name],
            "effective_bandwidth": least_bytes / seconds[name],
            "share_of_copy": least_bytes / seconds[name] / bandwidth,
            "floor_seconds": floor if METHODS[name].is_soft else None,
            "speedup": seconds["published formula"] / seconds[name] if "published formula" in seconds else None,
        }
        for name in able
    ]


def _affordable(name: str, problem: Problem) -> bool:
    matrices = problem.batch * problem.heads
    if not METHODS[name].linear:
        return matrices * problem.length**2 <= _MOST_PAIRS[problem.device]
    if name.endswith("formula"):
        kernels = 5 if problem.backward else 3
        return matrices * problem.length * problem.landmarks * 4 * kernels <= _MOST_KERNEL_BYTES[problem.device]
    return True


def _is_of(row: dict[str, Any], problem: Problem) -> bool:
    return all(row[name] == value for name, value in problem._asdict().items())


def _rates(timer: Timer) -> dict[str, float]:
    """What this CPU does of products and exponentials on tiles of the kernel matrix that stay in cache."""
    landmarks, tokens = torch.randn(2, 49, 32), torch.randn(2, 32, 2672)
    return {
        "products_per_second": product_rate(timer, landmarks, tokens),
        "exponentials_per_second": exponential_rate(timer, -(landmarks @ tokens).abs()),
    }


_HEADER = ["type", "N", "direction", "method", "time", "against published", "of copy", "extra memory", "of floor"]
_HEADER += ["commit"]


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["dtype"],
        f"{row['length']:,}",
        "forward + backward" if row["backward"] else "forward",
        row["method"],
        f"{row['seconds'] * 1e3:.3g} ms",
        f"{row['speedup']:.2f}x" if row["speedup"] else "",
        f"{row['share_of_copy']:.1%}",
        f"{row['extra_bytes'] / 2**20:.1f} MiB",
        f"{row['seconds'] / row['floor_seconds']:.2f}x" if row["floor_seconds"] else "",
        row["commit"],
    ]


def report(machine: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The table, and what it was measured on."""
    first = rows[0]
    sizes = f"B={first['batch']} H={first['heads']} D={first['width']} M={first['landmarks']}"
    copies = sorted({row["copy_bandwidth"] / 1e9 for row in rows})
    measured = ", ".join(f"{value:.1f}" for value in copies)
    head = f"{machine['text']} {sizes}. Copy bandwidth, by run: {measured} GB/s."
    return f"{head}\n\n{markdown_table(_HEADER, [_cells(row) for row in rows])}"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time over length, log-log, a panel for each type and direction."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys((row["dtype"], row["backward"]) for row in rows))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.6), sharey=True, squeeze=False)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for axis, (dtype, backward) in zip(axes[0], panels):
        for number, method in enumerate(methods):
            found = [row for row in rows if (row["dtype"], row["backward"], row["method"]) == (dtype, backward, method)]
            line = [row["length"] for row in found], [row["seconds"] * 1e3 for row in found]
            axis.loglog(*line, marker="o", markersize=4, color=f"C{number}", label=method)
        axis.set_title(f"{dtype}, {'forward + backward' if backward else 'forward'}")
        axis.set_xlabel("tokens N")
        axis.grid(True, which="both", alpha=0.25)
    axes[0][0].set_ylabel("time (ms)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
