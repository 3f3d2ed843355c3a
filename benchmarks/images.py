"""SOFT, softmax in the same network, and a timm model of the same size under one recipe, side by side.

    python -m benchmarks.images --recipes fashion_mnist cifar10 --local /folder/of/data

Each row is a whole training run of the command line, one after the other, each in a process of its own; nothing else
should run on the machine. Writes benchmarks/results/images_DEVICE_DATE.json and .md with versions and device; rows of
an earlier run of the same day are kept, with their commit, unless they are measured again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.report import describe_machine, markdown_table, results_file, with_new_rows, write_results
from benchmarks.training_runs import training_run

ENCODERS = ["SOFT", "softmax, same network", "timm"]
# The timm model whose number of parameters is nearest to that of a recipe's network, among those for small pictures.
PEERS = {"fashion_mnist": "test_resnet", "cifar10": "mobilevit_xxs"}


def main() -> None:
    """Measure what was asked for, and write the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(PEERS), choices=list(PEERS), help="under recipes/image")
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, choices=ENCODERS)
    parser.add_argument("--local", type=Path, help="folder that holds NAME/train.parquet and NAME/test.parquet")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where the runs' folders go")
    parser.add_argument("options", nargs="*", help="more options for every run, after --")
    arguments = parser.parse_args()
    machine = describe_machine()
    file = results_file("images", machine["kind"])
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    for recipe in arguments.recipes:
        for encoder in arguments.encoders:
            row = measure(recipe, encoder, arguments.runs, arguments.local, arguments.options)
            row["commit"] = machine["commit"]
            rows = with_new_rows(rows, [row], ["recipe", "encoder"])
            write_results(file, {**machine, "rows": rows}, report(machine, rows))
            print(report(machine, rows), flush=True)


def options(recipe: str, encoder: str) -> list[str]:
    """What turns a recipe's encoder into another on the command line: the network is the only difference."""
    if encoder == "softmax, same network":
        return ["--model.encoder.attention", "softmax", "--model.encoder.inverse", "null"]
    if encoder == "timm":
        return [
            *("--model.encoder", "TimmSpec", "--model.encoder.name", PEERS[recipe]),
            *("--model.encoder.img_size", "null"),
        ]
    return []


def measure(recipe: str, encoder: str, runs: Path, local: Path | None, more: list[str]) -> dict[str, Any]:
    """One training run, as a row of the table."""
    name = f"{recipe}-{encoder.replace(' ', '_').replace(',', '')}"
    command = ["--config", f"image/{recipe}", *options(recipe, encoder), *more]
    if local is not None:
        command += ["--data.path", str(local / recipe), "--data.image_column", "image"]
    row = training_run(name, command, runs)
    return {"recipe": recipe, "encoder": f"timm {PEERS[recipe]}" if encoder == "timm" else encoder, **row}


def report(machine: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The table, and what it was measured on."""
    header = ["recipe", "encoder", "test accuracy", "training", "images/s in training", "peak memory"]
    header += ["parameters", "commit"]
    cells = [
        [
            row["recipe"],
            row["encoder"],
            f"{row['test_accuracy']:.2%}",
            f"{row['epochs']} epochs, {row['training_seconds'] / 60:.1f} min",
            f"{row['examples_per_second']:.0f}",
            f"{row['peak_memory_mb']:,} MB",
            f"{row['parameters'] / 1e6:.2f} M",
            row["commit"],
        ]
        for row in rows
    ]
    return f"{machine['text']}\n\n{markdown_table(header, cells)}"


if __name__ == "__main__":
    main()
