"""Training runs of the command line, each in a process of its own, as rows of a table."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Softmax in the encoder of a recipe; the number of landmarks has to be at its default, which means that none is set.
SOFTMAX_ENCODER = ["--model.encoder.attention", "softmax", "--model.encoder.num_landmarks", "64"]


def training_run(name: str, options: Sequence[str], runs: Path) -> dict[str, Any]:
    """Runs `softformer fit` and reads its results; nothing else should run meanwhile.

    Args:
        name: Name of the run's folder, and of the log beside it.
        options: The command line after "fit".
        runs: Where the folder goes. One of the same name is deleted.

    Returns:
        val and test, all metrics of these splits (test is empty where the run does not test); val_accuracy and
        test_accuracy, None where there are none; epochs, training_seconds, examples_per_second, peak_memory_mb,
        parameters.

    Raises:
        RuntimeError: The run failed; its last lines are in the message.
    """
    command = [sys.executable, "-m", "softformer", "fit", *options]
    command += ["--run.root", str(runs), "--run.name", name, "--run.overwrite", "true"]
    command += ["--trainer.enable_progress_bar", "false"]
    log = runs / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    results = json.loads((runs / name / "results.json").read_text())
    run = results["run"]
    val, test = results["val"], results.get("test", {})
    return {
        "val": val,
        "test": test,
        "test_accuracy": test.get("accuracy"),
        "val_accuracy": val.get("accuracy"),
        "epochs": run["epochs"],
        "training_seconds": run["training_seconds"],
        "examples_per_second": run["examples_per_second"],
        "peak_memory_mb": round(run.get("peak_gpu_memory_mb") or usage.ru_maxrss / 1024),
        "parameters": run["parameters"],
    }
