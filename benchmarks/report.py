"""What every benchmark writes besides its figures: machine, versions, commit, date, and a Markdown table."""

import argparse
import datetime
import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def device_parser(description: str | None) -> argparse.ArgumentParser:
    """The start of a benchmark's command line: its description and --device."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def parse_device(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; ends with a message where there is no such device."""
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this machine has no CUDA device that torch can use; valid here: cpu")
    return arguments


def results_file(name: str, device: str) -> Path:
    """benchmarks/results/NAME_DEVICE_DATE.json; .md and .png stand beside it."""
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"{name}_{device}_{today()}.json"


def write_results(file: Path, content: dict[str, Any], text: str) -> None:
    """The figures as JSON, and for people as Markdown beside them."""
    file.write_text(json.dumps(content, indent=2) + "\n")
    file.with_suffix(".md").write_text(text)


def with_new_rows(
    rows: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of an earlier run, and those found now in place of those that are alike in the given columns."""
    new = {tuple(row[column] for column in columns) for row in found}
    return [row for row in rows if tuple(row[column] for column in columns) not in new] + list(found)


def today() -> str:
    """The date, as it stands in file names."""
    return datetime.date.today().isoformat()


def describe_machine() -> dict[str, Any]:
    """Device, threads, versions and commit, and a line that says so. Results are no part of what is measured."""
    gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if gpu else f"{_processor()}, {torch.get_num_threads()} threads"
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    if _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)benchmarks/results"):
        commit += " with local changes"
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    if gpu:
        versions |= {"triton": version("triton"), "CUDA": str(torch.version.cuda)}
    listed = ", ".join(f"{library} {number}" for library, number in versions.items())
    return {
        "kind": "cuda" if gpu else "cpu",
        "device": name,
        "commit": commit,
        "date": today(),
        "versions": versions,
        "text": f"{name}; {listed}; commit {commit}; {today()}.",
    }


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with the given cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()
