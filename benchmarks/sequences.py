"""One encoder with softmax-free and with softmax attention over longer and longer sequences.

    python -m benchmarks.sequences --local /folder/of/data

Time of a training step (forward, backward, AdamW) and of inference, without padding and so without a mask, which would
slow both attentions; peak memory of a training step; and the test accuracy of the recipe text/imdb cut at 512 and at
2,048 tokens, each a whole training run. The encoder has width 128, 4 heads, 4 blocks and 64 landmarks; softmax is
torch's fused attention in the same encoder. Writes benchmarks/results/sequences_DEVICE_DATE.json and .md; figures of an
earlier run of the same day are kept, with their commit, unless they are measured again.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.measure import Timer, peak_memory
from benchmarks.own_process import in_own_process
from benchmarks.report import (
    describe_machine,
    device_parser,
    markdown_table,
    parse_device,
    results_file,
    with_new_rows,
    write_results,
)
from benchmarks.training_runs import SOFTMAX_ENCODER, training_run
from softformer.models.sequence import SoftEncoder

Attention = Literal["soft", "softmax"]

ATTENTIONS: list[Attention] = ["soft", "softmax"]
LENGTHS = [512, 1024, 2048, 4096, 8192]
WIDTH = 128


def main() -> None:
    """Measure what was asked for, and write the table after each length and each run."""
    parser = device_parser(__doc__)
    parser.add_argument("--lengths", nargs="*", type=int, default=LENGTHS, help="tokens, for time and memory")
    parser.add_argument("--batch", type=int, default=1, help="sequences at a time")
    parser.add_argument("--seconds", type=float, default=30.0, help="time for one comparison")
    parser.add_argument("--accuracy", nargs="*", type=int, default=[512, 2048], help="tokens, for runs of text/imdb")
    parser.add_argument("--local", type=Path, help="folder that holds imdb/train.parquet and imdb/test.parquet")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where the runs' folders go")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parse_device(parser)
    if arguments.memory:
        print(memory(**json.loads(arguments.memory)))
        return
    machine = describe_machine()
    file = results_file("sequences", arguments.device)
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    speed: list[dict[str, Any]] = known.get("speed", [])
    accuracy: list[dict[str, Any]] = known.get("accuracy", [])

    def keep(rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
        new = [{**row, "commit": machine["commit"]} for row in found]
        rows[:] = with_new_rows(rows, new, ["length", "attention"])
        text = report(machine, speed, accuracy)
        write_results(file, {**machine, "speed": speed, "accuracy": accuracy}, text)
        print(text, flush=True)

    timer = Timer(torch.device(arguments.device), rounds=50, seconds=arguments.seconds)
    for length in arguments.lengths:
        keep(speed, measure(length, arguments.batch, timer))
    for length in arguments.accuracy:
        for attention in ATTENTIONS:
            keep(accuracy, [trained(length, attention, arguments.runs, arguments.local)])


def build(attention: Attention, device: str) -> SoftEncoder:
    """The encoder, with random weights."""
    torch.manual_seed(0)
    return SoftEncoder(WIDTH, 4, 4, attention=attention).to(device)


def inference(encoder: SoftEncoder, x: Tensor) -> Callable[[], Any]:
    """A forward in eval mode."""

    def run() -> Tensor:
        with torch.inference_mode():
            return encoder.eval()(x)

    return run


def training(encoder: SoftEncoder, x: Tensor) -> Callable[[], Any]:
    """A step of training, from a given gradient of the output."""
    optimizer, gradient = torch.optim.AdamW(encoder.parameters(), fused=True), torch.randn_like(x)

    def run() -> None:
        encoder.train()
        optimizer.zero_grad()
        encoder(x).backward(gradient)
        optimizer.step()

    return run


def measure(length: int, batch: int, timer: Timer) -> list[dict[str, Any]]:
    """A row for each attention, timed in turns."""
    x = torch.randn(batch, length, WIDTH, device=timer.device)
    encoders = {attention: build(attention, timer.device.type) for attention in ATTENTIONS}
    forward = timer.medians({name: inference(encoder, x) for name, encoder in encoders.items()})
    step = timer.medians({name: training(encoder, x) for name, encoder in encoders.items()})
    return [
        {
            "length": length,
            "attention": attention,
            "batch": batch,
            "training_seconds": step[attention],
            "inference_seconds": forward[attention],
            "training_bytes": _memory(attention, length, batch, timer.device.type),
        }
        for attention in ATTENTIONS
    ]


def _memory(attention: Attention, length: int, batch: int, device: str) -> int:
    request: dict[str, Any] = {"attention": attention, "length": length, "batch": batch, "device": device}
    if device == "cuda":
        return memory(**request)
    arguments = ["--device", device, "--memory", json.dumps(request)]
    return in_own_process("benchmarks.sequences", *arguments, memory=True)


def memory(attention: Attention, length: int, batch: int, device: str) -> int:
    """Bytes that a training step has in use at most, beyond parameters, optimizer and input."""
    x = torch.randn(batch, length, WIDTH, device=device)
    return peak_memory(training(build(attention, device), x), torch.device(device))


def trained(length: int, attention: Attention, runs: Path, local: Path | None) -> dict[str, Any]:
    """The recipe text/imdb with this attention, texts cut at `length` tokens."""
    options = ["--config", "text/imdb", "--data.max_length", str(length)]
    if attention == "softmax":
        options += SOFTMAX_ENCODER
    if local is not None:
        options += ["--data.path", str(local / "imdb")]
    return {"length": length, "attention": attention, **training_run(f"imdb-{length}-{attention}", options, runs)}


def report(machine: dict[str, Any], speed: list[dict[str, Any]], accuracy: list[dict[str, Any]]) -> str:
    """The table, and what it was measured on."""
    by_place: dict[tuple[int, str], dict[str, Any]] = {}
    for row in speed:
        by_place[row["length"], row["attention"]] = {**row, "speed_commit": row["commit"]}
    for row in accuracy:
        place = by_place.setdefault((row["length"], row["attention"]), {})
        place |= {"test_accuracy": row["test_accuracy"], "run_seconds": row["training_seconds"]}
        place["run_commit"] = row["commit"]
    header = ["tokens", "attention", "training step", "gain", "inference", "gain", "memory of a step"]
    header += ["imdb, test accuracy", "imdb, training", "commits"]
    cells = []
    for length, attention in sorted(by_place):
        row = by_place[length, attention]
        softmax = by_place.get((length, "softmax"), {}) if attention == "soft" else {}
        cells.append(
            [
                f"{length:,}",
                attention,
                *_timed(row, softmax, "training_seconds"),
                *_timed(row, softmax, "inference_seconds"),
                f"{row['training_bytes'] / 2**20:,.0f} MiB" if "training_bytes" in row else "",
                f"{row['test_accuracy']:.1%}" if "test_accuracy" in row else "",
                f"{row['run_seconds'] / 60:.1f} min" if "run_seconds" in row else "",
                ", ".join(sorted({row[key] for key in ("speed_commit", "run_commit") if key in row})),
            ]
        )
    batches = sorted({row["batch"] for row in speed})
    sizes = f"Width {WIDTH}, 4 heads, 4 blocks, 64 landmarks, float32; batch {', '.join(map(str, batches))}."
    return f"{machine['text']} {sizes}\n\n{markdown_table(header, cells)}"


def _timed(row: dict[str, Any], softmax: dict[str, Any], key: str) -> list[str]:
    """A time, and how much faster it is than that of softmax."""
    if key not in row:
        return ["", ""]
    return [f"{row[key] * 1e3:,.1f} ms", f"{softmax[key] / row[key]:.2f}x" if key in softmax else ""]


if __name__ == "__main__":
    main()
