"""Lengths of recordings from their headers, cached by `datasets`."""

import hashlib
import os
from dataclasses import dataclass
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
# Rows of a batch, which may hold the bytes of their recordings.
_BATCH = 32
_FEATURES = datasets.Features({"_seconds": datasets.Value("float64"), "_fault": datasets.Value("string")})


@dataclass(frozen=True)
class ReadHeaders:
    """Maps a batch of rows to the columns _seconds, 0 for bad headers, and _fault, the message or None.

    `folder` is the folder that relative file names start from. `stamp` and `version` are parts of the cache key;
    `stamp` changes with the files.
    """

    column: str
    folder: str = ""
    shortest: float = 0.0
    stamp: str = ""
    version: int = _VERSION

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Read the headers of a batch."""
        seconds, faults = zip(*map(self._read, batch[self.column]))
        return {"_seconds": list(seconds), "_fault": list(faults)}

    def _read(self, value: Any) -> tuple[float, str | None]:
        try:
            return read_header(value, Path(self.folder), shortest=self.shortest).seconds, None
        except ReadError as error:
            return 0.0, str(error)


def read_headers(
    rows: datasets.Dataset, column: str, *, folder: Path, shortest: float, name: str, num_proc: int = 1
) -> tuple[np.ndarray, dict[int, str]]:
    """Lengths of recordings in seconds (N,), and the messages of bad headers by position.

    Args:
        rows: Rows whose column holds file names, bytes, or both, which `datasets` does not decode.
        column: The column.
        folder: Folder that relative file names start from.
        shortest: Minimum length of a recording (s).
        name: Name of the split in the progress bar.
        num_proc: Number of processes.
    """
    recordings = rows.select_columns([column])
    names = _file_names(recordings, column)
    read = ReadHeaders(column, str(folder), shortest, _stamp(names, folder))
    processes = min(num_proc, len(rows))
    # `datasets` does not cache results of a table in memory. The stamp of file names identifies the result.
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
    return table["_seconds"].to_numpy(), by_position(table["_fault"].to_pylist())


def by_position(faults: list[str | None]) -> dict[int, str]:
    """The messages of a list by their positions, without those that are None."""
    return {position: fault for position, fault in enumerate(faults) if fault is not None}


def _file_names(recordings: datasets.Dataset, column: str) -> list[str | None]:
    """File names in a column of recordings; bytes are not read."""
    feature = recordings.features[column]
    if isinstance(feature, datasets.Value):
        return [] if "binary" in feature.dtype else recordings[:][column]
    flat, path = recordings.flatten(), f"{column}.path"
    return flat.select_columns([path])[:][path] if path in flat.column_names else []


def _stamp(names: list[str | None], folder: Path) -> str:
    """A digest of names, sizes, and times of files; it changes when a file is replaced, repaired, or removed."""
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
