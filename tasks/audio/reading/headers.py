"""Lengths of sounds, read from their headers before anything is decoded, and kept in the cache of `datasets`."""

import hashlib
import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from tasks.audio.reading.sound import read_header
from tasks.data.cache import kept_file
from tasks.data.examples import ReadError

# Raise it when the same file gives other figures: it is part of what the cache goes by.
_VERSION = 1
# Rows read together; their sounds may be in memory.
_TOGETHER = 32
_FEATURES = datasets.Features({"_seconds": datasets.Value("float64"), "_fault": datasets.Value("string")})


class ReadHeaders:
    """Rows of sounds as rows of what their headers tell; called with a batch of rows, as `map` does.

    The columns are _seconds, zero where the header cannot be read, and _fault, which says why; None for good rows.

    Args:
        column: The column of the sounds.
        folder: What relative file names are relative to.
        shortest: Fewest seconds of a sound.
        stamp: Changes with the files that the rows name, for the cache to know.
    """

    def __init__(self, column: str, *, folder: Path = Path(), shortest: float = 0.0, stamp: str = "") -> None:
        self.column = column
        self.folder = str(folder)
        self.shortest = shortest
        self.stamp = stamp
        self.version = _VERSION

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The new columns of a batch of rows."""
        columns: dict[str, list[Any]] = {name: [] for name in _FEATURES}
        for value in batch[self.column]:
            seconds, fault = 0.0, None
            try:
                seconds = read_header(value, Path(self.folder), shortest=self.shortest).seconds
            except ReadError as error:
                fault = str(error)
            columns["_seconds"].append(seconds)
            columns["_fault"].append(fault)
        return columns


def read_headers(
    rows: datasets.Dataset, column: str, *, folder: Path, shortest: float, name: str, num_proc: int = 1
) -> tuple[np.ndarray, dict[int, str]]:
    """What the headers of sounds tell: seconds (N,), and what is wrong by place, where something is.

    Args:
        rows: (N) rows with a column of file names, of bytes, or of both, not decoded.
        column: The column.
        folder: What relative file names are relative to.
        shortest: Fewest seconds of a sound.
        name: What to call the rows beside the progress bar.
        num_proc: Processes that share the work.
    """
    sounds = rows.select_columns([column])
    names = _file_names(sounds, column)
    read = ReadHeaders(column, folder=folder, shortest=shortest, stamp=_stamp(names, folder))
    processes = min(num_proc, len(rows))
    # A table in memory has no place of its own in the cache. Where it is of file names, the stamp tells it all.
    in_memory = not sounds.cache_files and isinstance(sounds.features[column], datasets.Value) and names
    facts = sounds.map(
        read,
        batched=True,
        batch_size=_TOGETHER,
        features=_FEATURES.copy(),
        remove_columns=[column],
        num_proc=processes if processes > 1 else None,
        desc=f"Measuring {name}",
        cache_file_name=str(kept_file("sounds", [_VERSION, read.stamp, shortest], ".arrow")) if in_memory else None,
    )
    table = facts.with_format("arrow")[:]
    faults = {place: fault for place, fault in enumerate(table["_fault"].to_pylist()) if fault is not None}
    return table["_seconds"].to_numpy(), faults


def _file_names(sounds: datasets.Dataset, column: str) -> list[str | None]:
    """File names in a column of sounds, without reading their bytes."""
    feature = sounds.features[column]
    if isinstance(feature, datasets.Value):
        return [] if "binary" in feature.dtype else sounds[:][column]
    flat, path = sounds.flatten(), f"{column}.path"
    return flat.select_columns([path])[:][path] if path in flat.column_names else []


def _stamp(names: list[str | None], folder: Path) -> str:
    """Changes when a file is replaced, repaired or removed."""
    digest = hashlib.sha256()
    for name in names:
        fact = "-"
        if name and "://" not in name:
            file = folder / os.path.expanduser(name)
            try:
                status = file.stat()
                fact = f"{file}\0{status.st_size}\0{status.st_mtime_ns}"
            except OSError:
                fact = f"{file}\0-"
        digest.update(f"{fact}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
