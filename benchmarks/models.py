"""Whole networks: images a second in inference and training, peak memory, parameters and operations.

    python -m benchmarks.models --device cpu
    python -m benchmarks.models --device cuda --batch 256

"published soft_tiny" is the same network computed the published way (`benchmarks.published`); its logits are held to
ours first. Writes benchmarks/results/models_DEVICE_DATE.json and .md; rows of an earlier run of the same day are kept,
with their commit, unless they are measured again.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import softformer  # noqa: F401  (registers the models)
from benchmarks.measure import Timer, peak_memory
from benchmarks.own_process import in_own_process
from benchmarks.published import PublishedNetwork
from benchmarks.report import (
    describe_machine,
    device_parser,
    markdown_table,
    parse_device,
    results_file,
    with_new_rows,
    write_results,
)

PUBLISHED = "published soft_tiny"
# As published, landmarks have a fixed stride, so their number grows with the picture; this one keeps 49.
FIXED = "soft_tiny, 49 landmarks"
SOFT = ["soft_tiny", FIXED, "soft_norm_tiny", "soft_small", "soft_medium"]
PEERS = ["deit_tiny_patch16_224", "deit_small_patch16_224", "pvt_v2_b1", "pvt_v2_b2", "swin_tiny_patch4_window7_224"]
# Networks whose input size is an argument at construction.
_SIZED = (*SOFT, PUBLISHED, "deit", "swin")


def main() -> None:
    """Measure every network at every size, and write the table."""
    parser = device_parser(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 448, 896], help="side of the pictures, pixels")
    parser.add_argument("--models", nargs="+", choices=[PUBLISHED, *SOFT, *PEERS], default=[PUBLISHED, *SOFT, *PEERS])
    parser.add_argument("--batch", type=int, default=8, help="pictures at 224 pixels; fewer for larger ones")
    parser.add_argument("--type", choices=["float32", "bfloat16"], help="float32 on a CPU, autocast bfloat16 on a GPU")
    parser.add_argument("--seconds", type=float, default=40.0, help="time for one comparison")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parse_device(parser)
    dtype = getattr(torch, arguments.type or ("bfloat16" if arguments.device == "cuda" else "float32"))
    if arguments.memory:
        print(json.dumps(memory(**json.loads(arguments.memory), dtype=dtype)))
        return
    check_published()
    machine = describe_machine()
    timer = Timer(torch.device(arguments.device), rounds=15, seconds=arguments.seconds)
    file = results_file("models", arguments.device)
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    for size in arguments.sizes:
        batch = max(1, arguments.batch * 224**2 // size**2)
        found = measure(arguments.models, size, batch, timer, dtype)
        new = [{**row, "commit": machine["commit"]} for row in found]
        rows = with_new_rows(rows, new, ["size", "model"])
        write_results(file, {**machine, "command": sys.argv[1:], "rows": rows}, report(machine, rows))
        print(report(machine, rows), flush=True)


def build(name: str, size: int, device: str) -> nn.Module:
    """A network for pictures of a size, with random weights."""
    torch.manual_seed(0)
    model = _create(name, size)
    return (PublishedNetwork(model) if name == PUBLISHED else model).to(device)


def _create(name: str, size: int, **options: Any) -> Any:
    if name.startswith(_SIZED):
        options["img_size"] = size
    if name == FIXED:
        options |= {"landmarks": "adaptive", "num_landmarks": 49}
    return timm.create_model("soft_tiny" if name in (PUBLISHED, FIXED) else name, **options)


def check_published() -> None:
    """The published way gives our logits.

    Raises:
        SystemExit: It does not, so its speed would say nothing.
    """
    torch.manual_seed(0)
    model = timm.create_model("soft_tiny", img_size=64, num_classes=7).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours, published = model(x), PublishedNetwork(copy.deepcopy(model)).eval()(x)
    error = float((ours - published).norm() / ours.norm())
    if not error < 1e-4:
        raise SystemExit(f"the published way of soft_tiny differs from ours by {error:.1e}; no speed is worth printing")


def inference(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Callable[[], Any]:
    """A forward in eval mode."""

    def run() -> Tensor:
        with torch.inference_mode(), torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            return model.eval()(x)

    return run


def training(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Callable[[], Any]:
    """A forward and a backward in training mode."""

    def run() -> None:
        model.train().zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            loss = model(x).float().square().mean()
        loss.backward()

    return run


def measure(names: Sequence[str], size: int, batch: int, timer: Timer, dtype: torch.dtype) -> list[dict[str, Any]]:
    """A row for each network, all measured in turns."""
    x = torch.randn(batch, 3, size, size, device=timer.device)
    models = {name: build(name, size, timer.device.type) for name in names}
    forward = timer.medians({name: inference(model, x, dtype) for name, model in models.items()})
    both = timer.medians({name: training(model, x, dtype) for name, model in models.items()})
    return [
        {
            "model": name,
            "size": size,
            "batch": batch,
            "dtype": str(dtype).removeprefix("torch."),
            "inference": batch / forward[name],
            "training": batch / both[name],
            "training_bytes": _memory(name, size, batch, timer.device.type, dtype),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "multiplications": operations(name, size),
        }
        for name, model in models.items()
    ]


def operations(name: str, size: int) -> int:
    """Multiplications with additions of one picture, in products and convolutions, Newton's iterations included."""
    # The counter does not see into operators of our own.
    model = _create(name, size, **({"backend": "reference"} if name in (*SOFT, PUBLISHED) else {}))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.randn(1, 3, size, size))
    return counter.get_total_flops() // 2


def _memory(name: str, size: int, batch: int, device: str, dtype: torch.dtype) -> int:
    request = {"name": name, "size": size, "batch": batch, "device": device}
    if device == "cuda":
        return memory(**request, dtype=dtype)  # type: ignore[arg-type]
    arguments = ["--device", device, "--memory", json.dumps(request), "--type", str(dtype).removeprefix("torch.")]
    return in_own_process("benchmarks.models", *arguments, memory=True)


def memory(name: str, size: int, batch: int, device: str, dtype: torch.dtype) -> int:
    """Bytes that a training step has in use at most, beyond the network and its input."""
    model, x = build(name, size, device), torch.randn(batch, 3, size, size, device=device)
    return peak_memory(training(model, x, dtype), torch.device(device))


def report(machine: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The table, and what it was measured on."""
    header = [
        "model",
        "pixels",
        "batch",
        "inference",
        "training",
        "training memory",
        "parameters",
        "operations",
        "commit",
    ]
    cells = [
        [
            row["model"],
            str(row["size"]),
            str(row["batch"]),
            f"{row['inference']:.1f}/s",
            f"{row['training']:.1f}/s",
            f"{row['training_bytes'] / 2**20:,.0f} MiB",
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['multiplications'] / 1e9:.1f} G",
            row["commit"],
        ]
        for row in rows
    ]
    return f"{machine['text']} {rows[0]['dtype']}.\n\n{markdown_table(header, cells)}"


if __name__ == "__main__":
    main()
