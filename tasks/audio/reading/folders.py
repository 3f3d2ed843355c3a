"""Folders of audio files as data sets: class folders, and tables that name audio files."""

from functools import cached_property
from pathlib import Path
from typing import Any

import datasets

from tasks.audio.reading.waveforms import AUDIO_SUFFIXES
from tasks.data.files import escaped
from tasks.data.folder_sources import FolderSource
from tasks.data.sources import VALIDATION_NAMES, Source, options_of
from tasks.data.tables import format_of

# Columns of metadata.csv that may name the files.
_FILE_COLUMNS = ("file_name", "file")
_METADATA = "metadata.csv"
_COMPLETE = ("parquet", "arrow")
_SPLITS = {name: name for name in ("train", *VALIDATION_NAMES, "test")}
_EXPECTED = (
    f"must hold CLASS/FILE or SPLIT/CLASS/FILE with SPLIT one of {', '.join(_SPLITS)}, or a {_METADATA} with a row for "
    "each recording, in the folder or in each SPLIT"
)


class AudioSource(FolderSource):
    """A data set of recordings: a `Source` that reads local folders of audio files itself, as "audiofolder" or not.

    - FOLDER/CLASS/FILE is the split train, FOLDER/SPLIT/CLASS/FILE the split SPLIT. Files may lie deeper; the columns
      are audio, the name of the file, and label, a `ClassLabel` of all classes in alphabetical order.
    - FOLDER/metadata.csv is the split train, FOLDER/SPLIT/metadata.csv the split SPLIT. It has a row for each recording
      and names its file, relative to itself, in the column file_name or file, which becomes audio.
    - Tables that name a split, such as train.csv, are read instead of class folders.
    """

    format_name = "audiofolder"
    column = "audio"
    kind = "audio"
    suffixes = AUDIO_SUFFIXES
    metadata = (_METADATA,)
    words = _SPLITS

    def load(self, split: str | None = None) -> Any:
        """As `Source.load`."""
        try:
            return super().load(split)
        except ValueError as error:
            if "torchcodec" not in str(error):
                raise
            raise ValueError(
                f"{self}: audio files must be in a local folder. Download them (hf download {self.path} "
                "--repo-type dataset --local-dir FOLDER) and give the folder by --data.path FOLDER"
            ) from error

    def _read_folder(self) -> Any:
        if self.folder is not None:
            return self._read_metadata() if self._metadata else self.read_classes()
        return None if self.table_source is None else self.table_source.load()

    def folder_of(self, split: str) -> Path:
        """As `Source.folder_of`; names of files in class folders and of metadata.csv are absolute."""
        return super().folder_of(split) if self.folder is None else Path()

    @cached_property
    def folder(self) -> Path | None:
        """The folder, if its class folders or its metadata.csv are read.

        Raises:
            ValueError: An argument does not suit such a folder.
            FileNotFoundError: There is no such folder.
        """
        if self.table_source is not None or not (self.path == self.format_name or self._metadata or self.members):
            return None
        if extra := [argument for argument in ("name", "streaming") if getattr(self, argument)]:
            raise ValueError(f"{self} is a folder of audio files, which takes no {', '.join(extra)}; leave these out")
        return self.local_folder

    @cached_property
    def local_folder(self) -> Path | None:
        """As in `FolderSource`."""
        if self.path == self.format_name:
            self._check_local()
            if self.data_files or not self.data_dir:
                raise ValueError(
                    f"path={self.path!r} must come with the folder of the audio files, --data.data_dir FOLDER, and "
                    "without data_files"
                )
        return super().local_folder

    @cached_property
    def _metadata(self) -> dict[str, str]:
        """The files metadata.csv by split: that of the folder, or those of the folders in it."""
        tables = {path[:-1]: file for path, file in self.files.items() if path[-1] == _METADATA and len(path) < 3}
        return {"train": tables[()]} if () in tables else {name: file for (name,), file in tables.items()}

    @cached_property
    def _tables(self) -> dict[str, list[str]]:
        # Parquet and arrow files may contain recordings, so they replace metadata.csv, and need not name a split.
        tables = {**self.split_tables}
        if complete := [file for file in tables.pop("", []) if format_of(file) in _COMPLETE]:
            tables["train"] = sorted([*tables.get("train", []), *complete])
        any_complete = any(format_of(file) in _COMPLETE for files in tables.values() for file in files)
        return tables if self.path != self.format_name and self.members and (any_complete or not self._metadata) else {}

    def _read_metadata(self) -> datasets.DatasetDict:
        tops = {path[0] for path in self.members if (_METADATA,) not in self.files}
        if unlisted := sorted(tops & _SPLITS.keys() - self._metadata.keys()):
            raise ValueError(
                f"{self.folder} {_EXPECTED}, got recordings but no {_METADATA} in {', '.join(unlisted)}, unlike "
                f"{', '.join(self._metadata)}; add the table"
            )
        splits = Source("csv", None, None, {**self._metadata}, False, {}).load()
        return datasets.DatasetDict(
            {name: _with_recordings(rows, self._metadata[name]) for name, rows in splits.items()}
        )

    def read_classes(self) -> datasets.DatasetDict:
        """As in `FolderSource`, with every recording in the folder of a class."""
        if not (recordings := self.members):
            raise ValueError(
                f"{self.folder} {_EXPECTED}, got no audio files; audio files end in {', '.join(AUDIO_SUFFIXES)}"
            )
        layout = self.layout
        tables = [file for file in self.split_tables.get("", []) if format_of(file) not in _COMPLETE]
        outside = [path for path in recordings if len(path) < layout.label + 2]
        classes = {path[layout.label] for path in recordings if len(path) > layout.label + 1}
        fault = ""
        if outside:
            fault = f"{len(outside):,} recordings outside the folders of classes, such as {str(Path(*outside[0]))!r}"
        elif layout.split is None and classes <= _SPLITS.keys():
            fault = f"no folders of classes in {', '.join(sorted(classes))}"
        elif tables and len(classes) < 2:
            fault = f"a single folder {classes.pop()!r} and a table"
        if fault and tables:
            columns = "name its columns, the column of files by --data.audio_column"
            fault += f". Read the table by {options_of(tables[0])}, and {columns}"
        if fault:
            raise ValueError(f"{self.folder} {_EXPECTED}, got {fault}")
        return super().read_classes()


def _with_recordings(rows: datasets.Dataset, table: str) -> datasets.Dataset:
    """The rows of a metadata.csv with the files of the recordings in the column audio."""
    column = next((name for name in _FILE_COLUMNS if name in rows.column_names), None)
    if column is None:
        raise ValueError(
            f"{table} must have a column {' or '.join(_FILE_COLUMNS)} with the names of the audio files, got the "
            f"columns {', '.join(rows.column_names)}"
        )
    files = [name and escaped(str(Path(table).parent / name)) for name in rows[column]]
    others = {name: cells for name, cells in rows[:].items() if name not in (column, AudioSource.column)}
    features = datasets.Features({name: datasets.Value("string") for name in (AudioSource.column, *others)})
    return datasets.Dataset.from_dict({AudioSource.column: files, **others}, features=features)
