"""Text recipes: SOFT, softmax in the same network, SOFT after masked language modelling, and what needs no network.

    python -m benchmarks.texts --recipes ag_news imdb --local /folder/of/data
    python -m benchmarks.texts --recipes listops_512 --seeds 0 1 2

Each row but those of TF-IDF is a whole training run of the command line, one after the other, each in a process of its
own; nothing else should run on the machine. "pretrained" first fills gaps in the training texts (the recipe
RECIPE_mlm), whose time counts. "TF-IDF" is a logistic regression on TF-IDF of words and pairs of words that occur
twice; its time is that of features and fit, while that of networks begins after their texts became tokens. Writes
benchmarks/results/texts_DEVICE_DATE.json and .md; rows of an earlier run of the same day are kept, with their commit,
unless they are measured again.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.report import describe_machine, markdown_table, results_file, with_new_rows, write_results
from benchmarks.training_runs import SOFTMAX_ENCODER, training_run

NETWORKS = ["TF-IDF", "SOFT", "softmax, same network", "SOFT, pretrained"]
# Which rows a recipe has.
RECIPES = {"ag_news": NETWORKS, "imdb": NETWORKS, "listops_512": ["SOFT", "softmax, same network"]}


def main() -> None:
    """Measure what was asked for, and write the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["ag_news", "imdb"], choices=list(RECIPES), help="recipes/text")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of weights, order and chance")
    parser.add_argument("--local", type=Path, help="folder that holds NAME/train.parquet and NAME/test.parquet")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where the runs' folders go")
    parser.add_argument("options", nargs="*", help="more options for every run, after --")
    arguments = parser.parse_args()
    machine = describe_machine()
    file = results_file("texts", machine["kind"])
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    for recipe in arguments.recipes:
        for network in (name for name in RECIPES[recipe] if name in arguments.networks):
            for seed in [0] if network == "TF-IDF" else arguments.seeds:
                if network == "TF-IDF":
                    # In a process of its own, so that its peak memory is its own.
                    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                        found = process.submit(tf_idf, recipe, arguments.local).result()
                else:
                    found = measure(recipe, network, seed, arguments.runs, arguments.local, arguments.options)
                row = {"recipe": recipe, "network": network, "seed": seed, **found, "commit": machine["commit"]}
                rows = with_new_rows(rows, [row], ["recipe", "network", "seed"])
                write_results(file, {**machine, "rows": rows}, report(machine, rows))
                print(report(machine, rows), flush=True)


def measure(
    recipe: str, network: str, seed: int, runs: Path, local: Path | None, more: Sequence[str]
) -> dict[str, Any]:
    """One training run, with what comes before it, as figures of a row."""
    name = f"{recipe}-{network.replace(' ', '_').replace(',', '')}-{seed}"
    common = ["--seed_everything", str(seed), "--data.seed", str(seed), *more]
    if local is not None and recipe != "listops_512":
        common += ["--data.path", str(local / recipe)]
    if network != "SOFT, pretrained":
        options = ["--config", f"text/{recipe}", *common]
        if network != "SOFT":
            options += SOFTMAX_ENCODER
        return training_run(name, options, runs)
    before = training_run(f"{name}-mlm", ["--config", f"text/{recipe}_mlm", *common], runs)
    folder = runs / f"{name}-mlm"
    options = ["--config", f"text/{recipe}", *common, "--model.weights", str(folder / "checkpoints" / "best.ckpt")]
    options += ["--data.tokenizer", "AutoTokenizerSpec", "--data.tokenizer.name", str(folder / "tokenizer")]
    found = training_run(name, options, runs)
    seconds = before["training_seconds"]
    return {**found, "training_seconds": found["training_seconds"] + seconds, "pretraining_seconds": seconds}


def tf_idf(recipe: str, local: Path | None) -> dict[str, Any]:
    """Logistic regression on TF-IDF of words and pairs of words, trained on the whole training split."""
    import datasets
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    hub = {"ag_news": "fancyzhx/ag_news", "imdb": "stanfordnlp/imdb"}
    data = datasets.load_dataset(hub[recipe] if local is None else str(local / recipe))
    train, test = data["train"], data["test"]
    begin = time.perf_counter()
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    )
    model.fit(train["text"], train["label"])
    seconds = time.perf_counter() - begin
    return {
        "test_accuracy": float(model.score(test["text"], test["label"])),
        "training_seconds": seconds,
        "parameters": int(model[-1].coef_.size + model[-1].intercept_.size),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def report(machine: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The table, and what it was measured on: a line for all seeds of a recipe and a network."""
    header = ["recipe", "network", "test accuracy", "training", "epochs", "peak memory", "parameters", "commit"]
    cells = []
    for recipe in RECIPES:
        for network in NETWORKS:
            several = [row for row in rows if (row["recipe"], row["network"]) == (recipe, network)]
            if not several:
                continue
            accuracies = [row["test_accuracy"] for row in sorted(several, key=lambda row: row["seed"])]
            each = f" (mean of {', '.join(f'{value:.1%}' for value in accuracies)})" if len(several) > 1 else ""
            last = several[-1]
            cells.append(
                [
                    recipe,
                    network,
                    f"{mean(accuracies):.1%}{each}",
                    f"{mean(row['training_seconds'] for row in several) / 60:.1f} min",
                    str(last.get("epochs", "")),
                    f"{last['peak_memory_mb']:,} MB",
                    f"{last['parameters'] / 1e6:.2f} M",
                    last["commit"],
                ]
            )
    return f"{machine['text']}\n\n{markdown_table(header, cells)}"


if __name__ == "__main__":
    main()
