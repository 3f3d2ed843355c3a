"""How time and memory of the attention grow with the sequence: 4,096 tokens to a million, forward and backward.

    python -m benchmarks.growth --device cpu

One sample of two heads of 32, 64 landmarks. Prints the log-log slope of the time, and writes
benchmarks/results/growth_DEVICE_DATE.json and .md.
"""

import sys
from math import log
from typing import Any

import torch

from benchmarks.attention import check_parity
from benchmarks.attention_methods import Problem, extra_memory, result_bytes, runner
from benchmarks.measure import Timer
from benchmarks.report import describe_machine, device_parser, markdown_table, parse_device, results_file, write_results

LENGTHS = [4096 * 4**step for step in range(5)]
METHODS = {"cpu": ["eager", "eager, Cholesky"], "cuda": ["triton", "triton, Cholesky"]}


def main() -> None:
    """Check, measure, write."""
    parser = device_parser(__doc__)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="tokens")
    parser.add_argument("--seconds", type=float, default=20.0, help="time for one length")
    arguments = parse_device(parser)
    names = METHODS[arguments.device]
    check_parity(arguments.device, "float32", names)
    machine = describe_machine()
    timer = Timer(torch.device(arguments.device), seconds=arguments.seconds)
    rows: list[dict[str, Any]] = []
    for length in arguments.lengths:
        problem = Problem(length, arguments.device, backward=True, batch=1, landmarks=64)
        seconds = timer.medians({name: runner(name, problem) for name in names})
        extra = extra_memory(problem, names)
        rows += [
            {
                **problem._asdict(),
                "method": name,
                "seconds": seconds[name],
                "extra_bytes": extra[name],
                "result_bytes": result_bytes(problem),
            }
            for name in names
        ]
    slopes = {name: slope([row for row in rows if row["method"] == name]) for name in names}
    file = results_file("growth", arguments.device)
    text = report(machine, rows, slopes)
    write_results(file, {**machine, "command": sys.argv[1:], "slopes": slopes, "rows": rows}, text)
    print(text)


def slope(rows: list[dict[str, Any]]) -> float:
    """The exponent of time over length, by least squares on logarithms."""
    x, y = [log(row["length"]) for row in rows], [log(row["seconds"]) for row in rows]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    pairs = [(a - middle_x, b - middle_y) for a, b in zip(x, y)]
    return sum(a * b for a, b in pairs) / sum(a * a for a, _ in pairs)


def report(machine: dict[str, Any], rows: list[dict[str, Any]], slopes: dict[str, float]) -> str:
    """The table, and what it was measured on."""
    header = ["method", "N", "forward + backward", "a token", "output and gradients", "extra memory"]
    cells = [
        [
            row["method"],
            f"{row['length']:,}",
            f"{row['seconds'] * 1e3:,.1f} ms",
            f"{row['seconds'] / row['length'] * 1e9:,.0f} ns",
            f"{row['result_bytes'] / 2**20:,.1f} MiB",
            f"{row['extra_bytes'] / 2**20:,.1f} MiB",
        ]
        for row in rows
    ]
    exponents = ", ".join(f"{name}: {value:.3f}" for name, value in slopes.items())
    sizes = "B=1 H=2 D=32 M=64 float32, forward + backward."
    return f"{machine['text']} {sizes} Exponent of time over N: {exponents}.\n\n{markdown_table(header, cells)}"


if __name__ == "__main__":
    main()
