"""Sources of data: the splits of anything that `datasets` reads, with errors that say what to do."""

import glob
import inspect
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetsError
from datasets.packaged_modules.csv.csv import CsvConfig
from datasets.packaged_modules.json.json import JsonConfig

from tasks.data.files import as_pattern
from tasks.data.tables import csv_options, format_of, not_utf8

DataFiles = str | list[str] | dict[str, str | list[str]]

# The formats of load_dataset that read files of the user's. Without files they would read the working folder.
FILE_FORMATS = ("parquet", "csv", "json", "arrow", "text", "imagefolder", "audiofolder", "webdataset")
_ENDINGS = {"text": "txt", "webdataset": "tar"}

# Files that save_to_disk writes into a folder of splits, or of rows.
_SAVED = (("dataset_dict.json",), ("dataset_info.json", "state.json"))

# Names of the split to validate on, in the order of preference.
VALIDATION_NAMES = ("validation", "valid", "val", "dev")

_SLICE = re.compile(r"\w[\w.-]*(?=\[|\+|$)")
# Limit of the number of parts of a table in memory that are streamed in parallel.
_MOST_SHARDS = 64


@dataclass(frozen=True)
class Source:
    """A data set, with the arguments of load_dataset.

    Args:
        path: Hub name, local folder, a format ("parquet", "csv", "json", "imagefolder", ...), or a built-in name.
        name: Configuration of the data set.
        data_dir: Folder of the files.
        data_files: Files, a list of files, or files by split; patterns are allowed.
        streaming: Read while training instead of preparing a copy in the cache of `datasets`.
        built_in: Functions by name that make data sets; each takes those of name, data_dir, data_files, and streaming
            that its signature names.
        csv_as_text: Whether cells of local CSV files stay as they are written; if not, columns of numbers become
            numbers.
    """

    path: str
    name: str | None
    data_dir: str | None
    data_files: DataFiles | None
    streaming: bool
    built_in: Mapping[str, Callable[..., datasets.DatasetDict]]
    csv_as_text: bool = True

    def load(self, split: str | None = None) -> Any:
        """Read all splits, a `DatasetDict` or `IterableDatasetDict`, or the `Dataset` of a slice such as "train[:90%]".

        Raises:
            ValueError: The arguments do not go together, or the files cannot be read.
            FileNotFoundError: There is no such data.
        """
        splits = self._load_built_in() if self.path in self.built_in else self._load_files()
        return splits if split is None else sliced(splits, split)

    def _load_files(self) -> Any:
        self._check_local()
        try:
            return self._read()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self}: {error}") from error
        except ConnectionError as error:
            raise FileNotFoundError(
                f"{self}: there is no such local folder, and the Hugging Face hub cannot be reached ({error}). Local "
                "files are read by --data.path parquet --data.data_files.train train.parquet "
                "--data.data_files.test test.parquet (or csv, json, imagefolder with --data.data_dir)"
            ) from error
        except (ValueError, RuntimeError, DatasetsError) as error:
            raise ValueError(f"{self}: {self._reason(_root_cause(error))}") from error

    def _read(self) -> Any:
        folder = Path(self.path, self.data_dir or "").expanduser()
        if any(all((folder / file).is_file() for file in files) for files in _SAVED):
            saved = datasets.load_from_disk(str(folder))
            splits = saved if isinstance(saved, datasets.DatasetDict) else datasets.DatasetDict(train=saved)
            return streamed(splits) if self.streaming else splits
        builder = self._builder()
        config, features = (builder.config, builder.info.features) if builder else (None, None)
        if not isinstance(config, CsvConfig):
            loaded = datasets.load_dataset(**self._arguments, streaming=self.streaming)
            for rows in loaded.values() if isinstance(config, JsonConfig) and not self.streaming else ():
                rows.data.validate(full=True)  # JSON is read without a look at its encoding
            return loaded
        splits = {
            split: datasets.load_dataset(
                "csv",
                data_files={split: [file if "://" in file else glob.escape(file) for file in files]},
                split=split,
                streaming=self.streaming,
                **csv_options(files, self.csv_as_text) | ({"features": features} if features else {}),
            )
            for split, files in _by_split(config).items()
        }
        return (datasets.IterableDatasetDict if self.streaming else datasets.DatasetDict)(splits)

    def _builder(self) -> datasets.DatasetBuilder | None:
        """The builder of a local folder or of CSV or JSON files, which knows format and files; None for other data."""
        known = self.path in ("csv", "json") or self._is_folder
        return datasets.load_dataset_builder(**self._arguments) if known else None

    @property
    def _is_folder(self) -> bool:
        return self.path not in FILE_FORMATS and os.path.isdir(os.path.expanduser(self.path))

    def has_configs(self) -> bool:
        """Whether the README of a local folder lists the files of its splits, as on the hub."""
        readme = Path(self.path).expanduser() / "README.md"
        return readme.is_file() and bool(re.search(r"^configs:", readme.read_text(errors="replace"), re.MULTILINE))

    @property
    def _arguments(self) -> dict[str, Any]:
        """Arguments of load_dataset, with names escaped where it expects patterns."""
        path, data_dir = os.path.expanduser(self.path), os.path.expanduser(self.data_dir or "")
        base = os.path.join(path, data_dir) if self._is_folder else data_dir
        if self._is_folder and glob.has_magic(base):  # data_dir can be escaped, but path cannot
            parts = Path(base).absolute().parts
            first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
            path, data_dir = str(Path(*parts[:first])), os.path.join(*parts[first:])
        escape = str if "://" in data_dir else glob.escape
        files = _each(self.data_files, lambda entry: _expanded(entry, base))
        return {"path": path, "name": self.name, "data_dir": escape(data_dir) or None, "data_files": files}

    def _reason(self, cause: BaseException) -> str:
        text = str(cause) or type(cause).__name__
        if "corresponds to no data" in text:
            return f"a split has no rows ({text})"
        if "fields in line" in text or "inside string" in text:  # CSV
            remedy = "put texts that contain the delimiter between quotes, with each quote in them written twice"
            return f"cannot be read: {text.strip()}; {remedy}"
        if isinstance(cause, UnicodeDecodeError) or "Invalid" in text:
            files = _by_split(datasets.load_dataset_builder(**self._arguments).config)
            for file in (file for members in files.values() for file in members):
                if format_of(file) in ("csv", "json", "text") and os.path.isfile(file) and (fault := not_utf8(file)):
                    return f"cannot be read: {file}: {fault}"
        return f"cannot be read: {text}"

    def folder_of(self, split: str) -> Path:
        """Folder of the relative file names in a split or slice: its first file's, or data_dir with a format."""
        files: DataFiles | None = _each(self.data_files, os.path.expanduser)
        if self._is_folder:
            files = {**_by_split(datasets.load_dataset_builder(**self._arguments).config)}
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
            files = f"the files by data_files, for example --data.data_files.train train.{_ENDINGS.get(path, path)}"
            folder = "the folder of the files by --data.data_dir FOLDER"
            give = folder if path.endswith("folder") else f"{files}, or {folder}"
            raise ValueError(f"path={self.path!r} is a format: give {give}")
        if os.path.isfile(path):
            remedy = f"Read it by {options_of(self.path)}"
            if format_of(path) is None:
                remedy = "Give its folder, or save the data as CSV, JSON lines or parquet"
            raise ValueError(f"path must be a hub name, a folder, or a format, got the file {self.path!r}. {remedy}")
        local = self.path.startswith(("/", "./", "../", "~")) or self.path.endswith("/")
        if local and not os.path.isdir(path):
            raise FileNotFoundError(f"{self}: there is no such folder {os.path.abspath(path)!r}")
        folder = os.path.expanduser(self.data_dir) if self.data_dir else ""
        if self.path not in FILE_FORMATS:
            return
        if folder and "://" not in folder and not os.path.isdir(folder):
            raise FileNotFoundError(f"{self}: data_dir does not exist")
        for entry in _files(_each(self.data_files, os.path.expanduser)):
            if "://" in entry or "://" in folder:
                continue
            # "**" also gives the folder before it, whether that exists or not.
            found = glob.iglob(os.path.join(glob.escape(folder), as_pattern(entry, folder)), recursive=True)
            if not any(map(os.path.lexists, found)):
                raise FileNotFoundError(f"{self}: data_files: no file {os.path.join(folder, entry)!r}")


def options_of(table: str) -> str:
    """The options of the command line that read a table."""
    return f"--data.path {format_of(table)} --data.data_files.train {shlex.quote(table)}"


def _expanded(entry: str, folder: str) -> str:
    return entry if "://" in entry or "://" in folder else as_pattern(os.path.expanduser(entry), folder)


def _each(files: DataFiles | None, change: Callable[[str], str]) -> Any:
    """Files in their given form (a file, a list, or files by split), each with a change."""
    if isinstance(files, dict):
        return {split: _each(entry, change) for split, entry in files.items()}
    return [change(entry) for entry in files] if isinstance(files, list) else files and change(files)


def _by_split(config: datasets.BuilderConfig) -> dict[str, list[str]]:
    return {str(split): list(map(str, files)) for split, files in (config.data_files or {}).items()}


def _files(files: DataFiles | None, split: str | None = None) -> list[str]:
    if isinstance(files, dict):
        chosen = [files[split]] if split in files else list(files.values())
        return [file for entry in chosen for file in _files(entry)]
    return [files] if isinstance(files, str) else list(files or [])


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def split_parts(name: str) -> list[str]:
    """Names of the splits in a slice or a sum, such as "train[:90%]+extra"."""
    return _SLICE.findall(name)


def sliced(splits: Mapping[str, datasets.Dataset], slices: str) -> datasets.Dataset:
    """Rows by slices of splits, such as "train[:90%]+test"."""
    counts = {name: len(rows) for name, rows in splits.items()}
    parts = datasets.ReadInstruction.from_spec(slices).to_absolute(counts)
    return datasets.concatenate_datasets([splits[part.splitname].select(range(part.from_, part.to)) for part in parts])


def streamed(splits: Mapping[str, datasets.Dataset]) -> datasets.IterableDatasetDict:
    """Splits that are read row by row, as by load_dataset with `streaming`."""
    return datasets.IterableDatasetDict(
        {name: rows.to_iterable_dataset(max(1, min(len(rows), _MOST_SHARDS))) for name, rows in splits.items()}
    )


def load_from_hub(
    built_in: str, hub: str, data_dir: str | None, data_files: DataFiles | None
) -> tuple[Source, Mapping[str, Any]]:
    """Source and splits that a built-in data set is made of: given parquet files, or by default a set of the hub."""
    own = bool(data_dir or data_files)
    source = Source("parquet" if own else hub, None, data_dir, data_files, False, {})
    try:
        return source, source.load()
    except FileNotFoundError as error:
        if own:
            raise
        raise FileNotFoundError(
            f"path={built_in!r} reads {hub} of the Hugging Face hub, which cannot be reached. Give its parquet files "
            "by --data.data_dir FOLDER (train and test), or by --data.data_files"
        ) from error


def choose_split(source: Source, splits: Mapping[str, Any], argument: str, name: str) -> Any:
    """A split by name, or by a slice ("train[:90%]", "train+test") of data that is not streamed, for an argument."""
    if name in splits:
        return splits[name]
    missing = [part for part in split_parts(name) if part not in splits]
    if missing or source.streaming or not name:
        raise ValueError(f"{argument}={name!r}: the data has no such split; it has: {', '.join(splits)}")
    try:
        return sliced(splits, name)
    except ValueError as error:
        raise ValueError(f"{argument} must be a slice such as train[:90%], got {name!r} ({error})") from error
