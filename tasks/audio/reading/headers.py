"""Lengths of recordings from their headers, without reading samples, in the cache of `datasets`."""

import hashlib
import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from tasks.audio.reading.waveforms import read_header
from tasks.data.cache import cache_file
from tasks.data.examples import ReadError
from tasks.data.files import located

# Part of the cache key. Increase it when the same file gives other results.
_VERSION = 2
# Rows that are read together; their recordings may be in memory.
_BATCH = 32
_FEATURES = datasets.Features({"_seconds": datasets.Value("float64"), "_fault": datasets.Value("string")})


class ReadHeaders:
    """Maps a batch of rows to the columns _seconds, 0 for bad headers, and _fault, the message or None.

    Args:
        column: Column of the recordings.
        folder: Folder that relative file names are relative to.
        shortest: Least length of a recording (s).
        stamp: Part of the cache key that changes with the files.
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
    """Lengths of recordings in seconds (N,), and the messages of those with bad headers, by position.

    Args:
        rows: (N) rows with a column of file names, of bytes, or of both, which `datasets` does not decode.
        column: The column.
        folder: Folder that relative file names are relative to.
        shortest: Least length of a recording (s).
        name: Label of the progress bar.
        num_proc: Processes that share the work.
    """
    recordings = rows.select_columns([column])
    names = _file_names(recordings, column)
    read = ReadHeaders(column, folder=folder, shortest=shortest, stamp=_stamp(names, folder))
    processes = min(num_proc, len(rows))
    # `datasets` does not cache what it makes of a table in memory. Of file names, the stamp identifies the result.
    in_memory = not recordings.cache_files and isinstance(recordings.features[column], datasets.Value) and names
    facts = recordings.map(
        read,
        batched=True,
        batch_size=_BATCH,
        features=_FEATURES.copy(),
        remove_columns=[column],
        num_proc=processes if processes > 1 else None,
        desc=f"Measuring {name}",
        cache_file_name=str(cache_file("sounds", [_VERSION, read.stamp, shortest], ".arrow")) if in_memory else None,
    )
    table = facts.with_format("arrow")[:]
    faults = {position: fault for position, fault in enumerate(table["_fault"].to_pylist()) if fault is not None}
    return table["_seconds"].to_numpy(), faults


def _file_names(recordings: datasets.Dataset, column: str) -> list[str | None]:
    """File names in a column of recordings, without reading their bytes."""
    feature = recordings.features[column]
    if isinstance(feature, datasets.Value):
        return [] if "binary" in feature.dtype else recordings[:][column]
    flat, path = recordings.flatten(), f"{column}.path"
    return flat.select_columns([path])[:][path] if path in flat.column_names else []


def _stamp(names: list[str | None], folder: Path) -> str:
    """A digest that changes when a file is replaced, repaired, or removed."""
    digest = hashlib.sha256()
    for name in names:
        fact = "-"
        if name and "://" not in name:
            file = located(folder, os.path.expanduser(name))
            try:
                status = file.stat()
                fact = f"{file}\0{status.st_size}\0{status.st_mtime_ns}"
            except OSError:
                fact = f"{file}\0-"
        digest.update(f"{fact}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
