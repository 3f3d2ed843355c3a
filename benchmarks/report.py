"""What every benchmark writes besides its figures: machine, versions, commit, date, and a Markdown table."""

import datetime
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def today() -> str:
    """The date, as it stands in file names."""
    return datetime.date.today().isoformat()


def describe_machine() -> dict[str, Any]:
    """Device, threads, versions and commit, and a line of text that says so."""
    gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if gpu else f"{_processor()}, {torch.get_num_threads()} threads"
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    if _git("status", "--porcelain", "--untracked-files=no"):
        commit += " with local changes"
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    listed = ", ".join(f"{library} {version}" for library, version in versions.items())
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
