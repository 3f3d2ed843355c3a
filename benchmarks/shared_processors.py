"""Training on a CPU alone and beside a busy process, by how long the threads of OpenMP spin before they sleep.

    env -u OMP_NUM_THREADS python -m benchmarks.shared_processors

Images per second of one training step (forward, backward, optimizer) of a recipe's network on one batch of noise, each
in a process of its own, with each value of GOMP_SPINCOUNT and with OMP_WAIT_POLICY=PASSIVE. A busy process is an
endless loop on one processor. The settings take turns, round after round, and medians of the rounds are reported.
Nothing else should run on the machine. Writes benchmarks/results/shared_processors_cpu_DATE.json and .md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import yaml

from benchmarks.own_process import in_own_process
from benchmarks.report import describe_machine, markdown_table, results_file, write_results
from softformer.training.encoders.spec import EncoderSpec
from softformer.training.optimizer import OptimizerSpec
from tasks.command.recipes import find_recipe
from tasks.image import ImageClassifier

RECIPES = ["cifar10", "digits"]
VALUES = ["unset", "100", "1000", "10000", "100000", "1000000", "10000000", "PASSIVE"]
# The least share of the speed alone that is asked for beside one busy process.
LEAST_BESIDE_ONE = 0.4


def main() -> None:
    """Measure every setting, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="under recipes/image")
    parser.add_argument("--values", nargs="+", default=VALUES, help="of GOMP_SPINCOUNT; unset and PASSIVE, too")
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 1], help="numbers of busy processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="time for one measurement")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(images_per_second(arguments.measure, arguments.seconds)))
        return
    machine = describe_machine()
    speeds: dict[tuple[str, str, int], list[float]] = {}
    for _ in range(arguments.rounds):
        for recipe in arguments.recipes:
            for busy in arguments.busy:
                for value in arguments.values:
                    found = speeds.setdefault((recipe, value, busy), [])
                    with spinning(value), busy_processes(busy):
                        options = ("--measure", recipe, "--seconds", str(arguments.seconds))
                        found.append(in_own_process("benchmarks.shared_processors", *options))
        rows = [
            {"recipe": recipe, "value": value, "busy": busy, "images_per_second": round(statistics.median(found), 1)}
            for (recipe, value, busy), found in speeds.items()
        ]
        text = f"{machine['text']}\n\n{report(rows)}"
        write_results(results_file("shared_processors", "cpu"), {**machine, "rows": rows}, text)
        print(text, flush=True)


@contextmanager
def spinning(value: str) -> Iterator[None]:
    """Processes that begin inside the block spin so long."""
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    if value != "unset":
        os.environ["OMP_WAIT_POLICY" if value == "PASSIVE" else "GOMP_SPINCOUNT"] = value
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep processors busy inside the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def images_per_second(recipe: str, seconds: float) -> float:
    """The speed of the training step of a recipe's network, after three steps that do not count."""
    settings = yaml.safe_load(find_recipe(f"image/{recipe}").read_text())
    model, data = settings["model"]["init_args"], settings["data"]["init_args"]
    encoder = {**model["encoder"], "class_path": f"softformer.training.{model['encoder']['class_path']}"}
    network = ImageClassifier(EncoderSpec.from_dict(encoder), num_classes=10).network
    optimizer = OptimizerSpec(**model["optimizer"]).build(network)
    size, rows = data["image_size"], data.get("batch_size", 64)
    images, labels = torch.randn(rows, data.get("channels", 3), size, size), torch.randint(10, (rows,))

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(network(images), labels, label_smoothing=model["label_smoothing"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(3):
        step()
    begin, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - begin < seconds:
        step()
        steps += 1
    return steps * rows / (time.perf_counter() - begin)


def report(rows: list[dict[str, Any]]) -> str:
    """A table for each recipe, and the setting that is fastest alone of those that keep enough beside one process."""
    texts = []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        speeds = {(row["value"], row["busy"]): row["images_per_second"] for row in rows if row["recipe"] == recipe}
        values, numbers = dict.fromkeys(value for value, _ in speeds), sorted({busy for _, busy in speeds})
        header = ["GOMP_SPINCOUNT", *(f"images/s beside {busy} busy" if busy else "images/s alone" for busy in numbers)]
        cells = [[value, *(f"{speeds[value, busy]:,.0f}" for busy in numbers)] for value in values]
        texts.append(f"image/{recipe}\n\n{markdown_table(header, cells)}")
        if {0, 1} <= {*numbers}:
            best = max(speeds[value, 0] for value in values)
            enough = [value for value in values if speeds[value, 1] >= LEAST_BESIDE_ONE * best]
            if enough:
                fastest = max(enough, key=lambda value: speeds[value, 0])
                texts.append(f"Fastest alone of those with {LEAST_BESIDE_ONE} of it beside one: {fastest}.\n")
    return "\n".join(texts)


if __name__ == "__main__":
    main()
