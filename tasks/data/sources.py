"""Where data comes from: the splits of anything that `datasets.load_dataset` reads, with errors that say what to do."""

import glob
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetsError

DataFiles = str | list[str] | dict[str, str | list[str]]

# The formats of load_dataset that read files of the user's. Without files they would read the working folder.
FILE_FORMATS = ("parquet", "csv", "json", "arrow", "text", "imagefolder", "audiofolder", "webdataset")

# What a data set may call the split that a run is watched on, in the order of preference.
VALIDATION_NAMES = ("validation", "valid", "val", "dev")

_SLICE = re.compile(r"\w[\w.-]*(?=\[|\+|$)")


@dataclass(frozen=True)
class Source:
    """A data set, in load_dataset's own words.

    Args:
        path: hub name, local folder, a format ("parquet", "csv", "json", "imagefolder", ...), or a built-in name.
        name: configuration of the data set.
        data_dir: folder of the files.
        data_files: files, a list of files, or files by split; patterns are allowed.
        streaming: read while training instead of preparing a copy in the cache of `datasets`.
        built_in: data sets that come with an installed package, or are made from another, by name. A function takes
            those of name, data_dir and data_files that its signature names.
    """

    path: str
    name: str | None
    data_dir: str | None
    data_files: DataFiles | None
    streaming: bool
    built_in: Mapping[str, Callable[..., datasets.DatasetDict]]

    def load(self, split: str | None = None) -> Any:
        """Read all splits, or one given by a slice such as "train[:90%]".

        Returns:
            `DatasetDict` or `IterableDatasetDict`; a `Dataset` for a slice.

        Raises:
            ValueError: the arguments do not go together, or the files cannot be read.
            FileNotFoundError: no such data.
        """
        if self.path in self.built_in:
            return self._load_built_in()
        self._check_local()
        try:
            return datasets.load_dataset(**self._arguments, streaming=self.streaming, split=split)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self}: {error}") from error
        except ConnectionError as error:
            raise FileNotFoundError(
                f"{self}: there is no such local folder, and the Hugging Face hub cannot be reached ({error}). Local "
                f"files are read by --data.path parquet --data.data_files.train train.parquet "
                f"--data.data_files.test test.parquet (or csv, json, imagefolder with --data.data_dir)"
            ) from error
        except (ValueError, RuntimeError, DatasetsError) as error:
            cause = _root_cause(error)
            # What load_dataset says of a split with no rows.
            reason = (
                f"a split has no rows ({cause})" if "corresponds to no data" in cause else f"cannot be read: {cause}"
            )
            raise ValueError(f"{self}: {reason}") from error

    @property
    def _arguments(self) -> dict[str, Any]:
        return {
            "path": os.path.expanduser(self.path),
            "name": self.name,
            "data_dir": self.data_dir and os.path.expanduser(self.data_dir),
            "data_files": _expanded(self.data_files),
        }

    def folder_of(self, split: str) -> Path:
        """Folder that relative file names in the rows of a split, or of a slice, are relative to.

        That of the split's first file; where the path is a format, data_dir if it is given.
        """
        files = _expanded(self.data_files)
        if self.path not in FILE_FORMATS and os.path.isdir(os.path.expanduser(self.path)):
            found = datasets.load_dataset_builder(**self._arguments).config.data_files or {}
            files = {str(name): list(entry) for name, entry in found.items()}
        elif self.data_dir:
            return Path(self.data_dir).expanduser()
        first = next(iter(_files(files, next(iter(split_parts(split)), None))), None)
        return Path(first).parent if first else Path()

    def __str__(self) -> str:
        given = {"name": self.name, "data_dir": self.data_dir, "data_files": self.data_files}
        return f"data path={self.path!r}" + "".join(f", {key}={value!r}" for key, value in given.items() if value)

    def _load_built_in(self) -> datasets.DatasetDict:
        make = self.built_in[self.path]
        names = ("name", "data_dir", "data_files", "streaming")
        given = {name: getattr(self, name) for name in names if getattr(self, name)}
        taken = inspect.signature(make).parameters
        extra = [name for name in given if name not in taken]
        if extra:
            raise ValueError(f"path={self.path!r} is built in and takes no {', '.join(extra)}; leave these out")
        return make(**given)

    def _check_local(self) -> None:
        path = os.path.expanduser(self.path)
        if self.path in FILE_FORMATS and not (self.data_dir or self.data_files):
            raise ValueError(
                f"path={self.path!r} is a format: give the files by data_files, for example "
                f"--data.data_files.train train.{self.path} (or a folder by data_dir)"
            )
        if os.path.isfile(path):
            kind = {".jsonl": "json", ".tsv": "csv", ".txt": "text"}.get(Path(path).suffix, Path(path).suffix[1:])
            raise ValueError(
                f"path={self.path!r} is a file: expected a hub name, a folder or a format. Read it by "
                f"--data.path {kind} --data.data_files.train {self.path}"
            )
        local = self.path.startswith(("/", "./", "../", "~")) or self.path.endswith("/")
        if local and not os.path.isdir(path):
            raise FileNotFoundError(f"{self}: there is no such folder {os.path.abspath(path)!r}")
        folder = os.path.expanduser(self.data_dir) if self.data_dir else ""
        if self.path not in FILE_FORMATS:
            return
        if folder and "://" not in folder and not os.path.isdir(folder):
            raise FileNotFoundError(f"{self}: data_dir does not exist")
        for entry in _files(_expanded(self.data_files)):
            # "**" also gives the folder before it, whether that exists or not.
            found = glob.iglob(os.path.join(folder, entry), recursive=True)
            if "://" not in entry and not any(map(os.path.lexists, found)):
                raise FileNotFoundError(f"{self}: data_files: no file {os.path.join(folder, entry)!r}")


def _expanded(files: DataFiles | None) -> DataFiles | None:
    if isinstance(files, str):
        return os.path.expanduser(files)
    if isinstance(files, list):
        return [os.path.expanduser(entry) for entry in files]
    if isinstance(files, dict):
        return {split: _expanded(entry) for split, entry in files.items()}  # type: ignore[misc]
    return None


def _files(files: DataFiles | None, split: str | None = None) -> list[str]:
    if isinstance(files, dict):
        chosen = [files[split]] if split in files else list(files.values())
        return [file for entry in chosen for file in _files(entry)]
    return [files] if isinstance(files, str) else list(files or [])


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def split_parts(name: str) -> list[str]:
    """Names of the splits that a slice or a sum is made of, such as "train[:90%]+extra"."""
    return _SLICE.findall(name)


def choose_split(source: Source, splits: Mapping[str, Any], argument: str, name: str) -> Any:
    """A split by name or, where nothing is streamed, by a slice of `datasets` ("train[:90%]", "train+test").

    Args:
        source: where the splits come from.
        splits: all splits by name.
        argument: what the user calls the choice: "train_split", ...
        name: the split asked for.

    Raises:
        ValueError: no such split; the message lists those that exist.
    """
    if name in splits:
        return splits[name]
    missing = [part for part in split_parts(name) if part not in splits]
    sliceable = not source.streaming and source.path not in source.built_in
    if missing or not sliceable or not name:
        raise ValueError(f"{argument}={name!r}: the data has no such split; it has: {', '.join(splits)}")
    return source.load(split=name)
