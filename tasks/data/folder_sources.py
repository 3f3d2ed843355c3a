"""The base of sources that read local folders of files themselves: class folders, and tables that name the files."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pyarrow as pa
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from tasks.data.files import escaped, log_left_out, visible_files
from tasks.data.folders import SPLIT_WORDS, Layout, Parts, find_layout, in_order, split_of, subfolders
from tasks.data.labels import shortened
from tasks.data.sources import FILE_FORMATS, Source, sliced
from tasks.data.tables import format_of

_TABLES = ("csv", "json", "parquet", "arrow")
# JSON files that libraries write next to data.
_DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


class FolderSource(Source, ABC):
    """Base of the sources of files of one kind, such as images, in local folders. A domain sets the class variables.

    Attributes:
        format_name: The format of load_dataset for such folders.
        column: The column of files.
        kind: The noun for the files, for messages.
        suffixes: Their endings in lower case.
        metadata: Names of tables that name the files.
        words: Splits by the words that name their folders.
    """

    format_name: ClassVar[str]
    column: ClassVar[str]
    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    metadata: ClassVar[tuple[str, ...]]
    words: ClassVar[Mapping[str, str]] = SPLIT_WORDS

    @abstractmethod
    def _read_folder(self) -> Any:
        """The splits of the local folder; None if `Source` reads the data."""

    @property
    @abstractmethod
    def _tables(self) -> dict[str, list[str]]:
        """The tables that are read instead of class folders, by split."""

    def load(self, split: str | None = None) -> Any:
        """As `Source.load`."""
        splits = self._read_folder()
        if splits is None:
            return super().load(split)
        return splits if split is None else sliced(splits, split)

    def folder_of(self, split: str) -> Path:
        """As `Source.folder_of`; names of files in class folders are absolute."""
        if self.table_source is not None:
            return self.table_source.folder_of(split)
        return Path() if self.members else super().folder_of(split)

    @cached_property
    def table_source(self) -> Source | None:
        """The tables that are read instead of class folders; a ValueError if they differ in format or folder."""
        kinds = sorted({str(format_of(file)) for files in self._tables.values() for file in files})
        for files in self._tables.values():
            if len(kinds) > 1 or len({Path(file).parent for file in files}) > 1:
                raise ValueError(
                    f"{self}: tables must have one format, and those of a split one folder, got {', '.join(files)}; "
                    "join or convert them"
                )
        return Source(kinds[0], None, None, {**self._tables}, self.streaming, {}) if kinds else None

    @cached_property
    def local_folder(self) -> Path | None:
        """The local folder that the arguments name, if it may be one of files."""
        of_format = self.path == self.format_name
        if self.data_files or self.path in self.built_in or (self.path in FILE_FORMATS and not of_format):
            return None
        folder = Path("" if of_format else self.path, self.data_dir or "").expanduser()
        return folder.absolute() if folder.is_dir() and (self.data_dir or not of_format) else None

    @cached_property
    def files(self) -> dict[Parts, str]:
        """All files of the folder by their relative paths."""
        folder = str(self.local_folder or "")
        files = sorted(visible_files(folder)) if folder else []
        return {tuple(file[len(folder) :].strip(os.sep).split(os.sep)): file for file in files}

    @cached_property
    def members(self) -> dict[Parts, str]:
        """The files of the kind by their relative paths."""
        return {path: file for path, file in self.files.items() if file.lower().endswith(self.suffixes)}

    @cached_property
    def layout(self) -> Layout:
        """The places of splits and classes in the paths of the members."""
        return find_layout(list(self.members), self.words)

    @cached_property
    def split_tables(self) -> dict[str, list[str]]:
        """Tables in the folder or its folder "data" by the splits that they name, "" if none; without metadata."""
        found: dict[str, list[str]] = {}
        for path, file in self.files.items():
            is_table = format_of(file) in _TABLES and path[-1] not in (*self.metadata, *_DESCRIPTIONS)
            if is_table and path[:-1] in ((), ("data",)):
                found.setdefault(split_of(path[-1], self.words) or "", []).append(file)
        return found

    def read_classes(self) -> datasets.DatasetDict:
        """The files of class folders by split, with their names and the column label, a `ClassLabel`.

        It logs the numbers of files and classes, and everything that is left out. Other folders are a ValueError.
        """
        folder, kind, files, layout = str(self.local_folder), self.kind, self.members, self.layout
        log_left_out(folder, [file for path, file in self.files.items() if path not in files], kind)
        splits: dict[str, list[tuple[str, str]]] = {}
        stray = []
        for path, file in files.items():
            if len(path) < layout.label + 2:
                stray.append(os.path.join(*path))
            else:
                top = "train" if layout.split is None else path[layout.split]
                split = split_of(top, self.words) or escaped(top)
                splits.setdefault(split, []).append((escaped(file), escaped(path[layout.label])))
        splits = in_order(splits)
        labels = {split: {label for _, label in rows} for split, rows in splits.items()}
        names = sorted(set().union(*labels.values()))
        if layout.split is None and all(name.lower() in self.words for name in names):
            raise ValueError(
                f"{folder}: {kind} files must lie in folders of classes, CLASS/FILE or SPLIT/CLASS/FILE, got "
                f"{os.path.join(*next(iter(files)))!r}; make a folder for each class, or a table metadata.csv with the "
                "columns file_name and label"
            )
        counts = ", ".join(f"{len(rows):,} in {split}" for split, rows in splits.items())
        rank_zero_info(f"{folder}: {kind} files: {counts}; {len(names)} classes {shortened(names)}")
        places = {path[: layout.label] for path in files if len(path) > layout.label + 1}
        empty = subfolders(folder, places) - {path[: layout.label + 1] for path in files}
        untrained = set(names) - labels.get("train", set(names))
        for title, left in (
            (f"{kind} files left out because they lie in no folder of a class", stray),
            (f"folders left out because they hold no {kind} files", sorted(os.path.join(*path) for path in empty)),
            (f"classes without {kind} files in train", sorted(untrained)),
        ):
            if left:
                rank_zero_info(f"{folder}: {title}: {len(left):,} {shortened(left)}")
        features = datasets.Features({self.column: datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        number_of = {name: number for number, name in enumerate(names)}

        def as_dataset(rows: list[tuple[str, str]]) -> datasets.Dataset:
            columns = ([file for file, _ in rows], [number_of[label] for _, label in rows])
            return datasets.Dataset.from_dict(dict(zip(features, map(pa.array, columns))), features)

        return datasets.DatasetDict({split: as_dataset(rows) for split, rows in splits.items()})
