"""Word error rates with pauses of faint noise and of digital silence, with and without a floor of the features.

    python -m benchmarks.silence --local /folder/of/data
    python -m benchmarks.silence --top_db null 80 --seeds 0 1 2 --local /folder/of/data

Each row is a training run of the recipe audio/connected_digits, whose strings have pauses of noise at -60 dB of full
scale, with one value of --model.features.top_db ("null" is no floor), one after the other; nothing else should run on
the machine. The network is then tested on the test strings as they are, and on the same strings with pauses of exact
zeros. Writes benchmarks/results/silence_DEVICE_DATE.json and .md; rows of an earlier run of the same day are kept, with
their commit, unless they are measured again.
"""

import json
from pathlib import Path
from typing import Any

import torch

import softformer
from benchmarks.report import (
    describe_machine,
    device_parser,
    markdown_table,
    parse_device,
    results_file,
    with_new_rows,
    write_results,
)
from benchmarks.training_runs import training_run
from tasks.audio.built_in.connected_digits import NOISE, recordings_of, single_digits, strings
from tasks.audio.speech.error_rates import WordErrors

STRINGS = 300
PAUSES = {"noise": NOISE, "zeros": 0.0}


def main() -> None:
    """Train and test with each floor, and write the table after each run."""
    parser = device_parser(__doc__)
    parser.add_argument("--top_db", nargs="+", default=["null", "80", "60"], help="values of the option, in dB")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of weights, order, and augmentation")
    parser.add_argument("--local", type=Path, help="folder that holds fsdd/train.parquet and fsdd/test.parquet")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where the runs' folders go")
    parser.add_argument("options", nargs="*", help="more options for every run, after --")
    arguments = parse_device(parser)
    machine = describe_machine()
    file = results_file("silence", arguments.device)
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    folder = None if arguments.local is None else str(arguments.local / "fsdd")
    for seed in arguments.seeds:
        for top_db in arguments.top_db:
            name = f"connected_digits-top_db_{top_db}-{seed}"
            options = ["--config", "audio/connected_digits", "--model.features.top_db", top_db]
            options += ["--seed_everything", str(seed), "--data.seed", str(seed), *arguments.options]
            if folder is not None:
                options += ["--data.data_dir", folder]
            found = training_run(name, options, arguments.runs)
            rates = error_rates(arguments.runs / name / "checkpoints" / "best.ckpt", folder)
            row = {"top_db": top_db, "seed": seed, **found, **rates, "commit": machine["commit"]}
            rows = with_new_rows(rows, [row], ["top_db", "seed"])
            write_results(file, {**machine, "rows": rows}, text := report(machine, rows))
            print(text, flush=True)


def error_rates(checkpoint: Path, folder: str | None) -> dict[str, float]:
    """Word error rates by the kind of pauses.

    Args:
        checkpoint: A recognizer of connected digits.
        folder: Folder of single digits; None for the data set of the hub.
    """
    task: Any = softformer.load(checkpoint)
    digits, rate = recordings_of(single_digits(folder), "test")
    found = {}
    for pauses, noise in PAUSES.items():
        waves, texts, _ = zip(*strings(digits, rate, STRINGS, seed=[0, 0], noise=noise))
        hypotheses = [
            transcript.text for transcript in task.predict([torch.from_numpy(wave) / 2**15 for wave in waves])
        ]
        found[pauses] = float(WordErrors()(hypotheses, texts))
    return found


def report(machine: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The table, and the machine that it was measured on."""
    header = ["top_db", "seed", "WER, pauses of noise", "WER, pauses of zeros", "training", "commit"]
    cells = [
        [
            *(row["top_db"], str(row["seed"]), f"{row['noise']:.1%}", f"{row['zeros']:.1%}"),
            *(f"{row['training_seconds'] / 60:.1f} min", row["commit"]),
        ]
        for row in rows
    ]
    return f"{machine['text']}\n\n{markdown_table(header, cells)}"


if __name__ == "__main__":
    main()
