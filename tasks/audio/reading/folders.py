"""Folders of audio files as data sets: class folders, and tables that name audio files."""

import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets

from tasks.audio.reading.waveforms import AUDIO_SUFFIXES
from tasks.data.files import escaped, log_left_out, visible_files
from tasks.data.folders import Parts, find_layout, read_classes, relative_parts, split_of
from tasks.data.sources import FILE_FORMATS, VALIDATION_NAMES, Source, sliced
from tasks.data.tables import format_of

_FORMAT = "audiofolder"
_COLUMN = "audio"
_METADATA = "metadata.csv"
# Columns of metadata.csv that may name the files.
_FILE_COLUMNS = ("file_name", "file")
_SPLITS = {name: name for name in ("train", *VALIDATION_NAMES, "test")}
_TABLES = ("csv", "json", "parquet", "arrow")
# JSON files that libraries write next to data.
_DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_EXPECTED = (
    f"must hold CLASS/FILE or SPLIT/CLASS/FILE with SPLIT one of {', '.join(_SPLITS)}, or a {_METADATA} with a row for "
    "each recording, in the folder or in each SPLIT"
)


class AudioSource(Source):
    """A data set of recordings: a `Source` that reads local folders of audio files itself, as "audiofolder" or not.

    - FOLDER/CLASS/FILE is the split train, FOLDER/SPLIT/CLASS/FILE the split SPLIT. Files may lie deeper; the columns
      are audio, the name of the file, and label, a `ClassLabel` of all classes in alphabetical order.
    - FOLDER/metadata.csv is the split train, FOLDER/SPLIT/metadata.csv the split SPLIT. It has a row for each recording
      and names its file, relative to itself, in the column file_name or file, which becomes audio.
    - Tables that name a split, such as train.csv, are read instead of class folders.
    """

    def load(self, split: str | None = None) -> Any:
        """As `Source.load`."""
        if self.folder is not None:
            splits = self._read_metadata() if self._metadata else self._read_classes()
        elif self._tables is not None:
            splits = self._tables.load()
        else:
            try:
                return super().load(split)
            except ValueError as error:
                if "torchcodec" not in str(error):
                    raise
                raise ValueError(
                    f"{self}: audio files must be in a local folder. Download them (hf download {self.path} "
                    "--repo-type dataset --local-dir FOLDER) and give the folder by --data.path FOLDER"
                ) from error
        return splits if split is None else sliced(splits, split)

    def folder_of(self, split: str) -> Path:
        """As `Source.folder_of`; names of files in class folders and of metadata.csv are absolute."""
        if self._tables is not None:
            return self._tables.folder_of(split)
        return super().folder_of(split) if self.folder is None else Path()

    @cached_property
    def folder(self) -> Path | None:
        """The folder, if its class folders or its metadata.csv are read.

        Raises:
            ValueError: An argument does not suit such a folder.
            FileNotFoundError: There is no such folder.
        """
        if self._tables is not None or not (self.path == _FORMAT or self._metadata or self._recordings):
            return None
        if extra := [argument for argument in ("name", "streaming") if getattr(self, argument)]:
            raise ValueError(f"{self} is a folder of audio files, which takes no {', '.join(extra)}; leave these out")
        return self._place

    @cached_property
    def _place(self) -> Path | None:
        """The local folder that the arguments name."""
        if self.path == _FORMAT:
            self._check_local()
            if self.data_files or not self.data_dir:
                raise ValueError(
                    f"path={_FORMAT!r} must come with the folder of the audio files, --data.data_dir FOLDER, and "
                    "without data_files"
                )
            return Path(self.data_dir).expanduser().absolute()
        folder = Path(self.path).expanduser() / (self.data_dir or "")
        local = self.path not in (*FILE_FORMATS, *self.built_in) and not self.data_files and folder.is_dir()
        return folder.absolute() if local else None

    @cached_property
    def _files(self) -> dict[Parts, str]:
        """Files of the folder by their relative paths."""
        folder = str(self._place or "")
        files = sorted(visible_files(folder)) if folder else []
        return dict(zip(relative_parts(folder, files), files))

    @cached_property
    def _recordings(self) -> dict[Parts, str]:
        return {path: file for path, file in self._files.items() if file.lower().endswith(AUDIO_SUFFIXES)}

    @cached_property
    def _metadata(self) -> dict[str, str]:
        """The files metadata.csv by split: that of the folder, or those of the folders in it."""
        tables = {path[:-1]: file for path, file in self._files.items() if path[-1] == _METADATA and len(path) < 3}
        return {"train": tables[()]} if () in tables else {name: file for (name,), file in tables.items()}

    @cached_property
    def _other_tables(self) -> dict[str, list[str]]:
        """Other tables by split, "" for tables that name none. Parquet and arrow files may contain recordings."""
        found: dict[str, list[str]] = {}
        for path, file in self._files.items():
            kind, name = format_of(file), path[-1]
            if kind in _TABLES and path[:-1] in ((), ("data",)) and name not in (_METADATA, *_DESCRIPTIONS):
                split = split_of(name, _SPLITS) or ("train" if kind in ("parquet", "arrow") else "")
                found.setdefault(split, []).append(file)
        return found

    @cached_property
    def _tables(self) -> Source | None:
        """Tables of splits that are read instead of the audio files of the folder."""
        files = {split: members for split, members in self._other_tables.items() if split}
        if self.path == _FORMAT or not (files and self._recordings):
            return None
        kinds = {str(format_of(file)) for members in files.values() for file in members}
        if self._metadata and not kinds & {"parquet", "arrow"}:
            return None
        if len(kinds) > 1:
            tables = ", ".join(file for members in files.values() for file in members)
            raise ValueError(f"{self}: tables beside audio files must have one format, got {tables}; convert them")
        return Source(kinds.pop(), None, None, {**files}, self.streaming, {})

    def _read_metadata(self) -> datasets.DatasetDict:
        tops = {path[0] for path in self._recordings if (_METADATA,) not in self._files}
        if unlisted := sorted(tops & _SPLITS.keys() - self._metadata.keys()):
            raise ValueError(
                f"{self.folder} {_EXPECTED}, got recordings but no {_METADATA} in {', '.join(unlisted)}, unlike "
                f"{', '.join(self._metadata)}; add the table"
            )
        splits = Source("csv", None, None, {**self._metadata}, False, {}).load()
        return datasets.DatasetDict(
            {name: _with_recordings(rows, self._metadata[name]) for name, rows in splits.items()}
        )

    def _read_classes(self) -> datasets.DatasetDict:
        folder, recordings = str(self.folder), self._recordings
        if not recordings:
            raise ValueError(
                f"{folder} {_EXPECTED}, got no audio files; audio files end in {', '.join(AUDIO_SUFFIXES)}"
            )
        layout, tables = find_layout(list(recordings), _SPLITS), self._other_tables.get("", [])
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
            fault += (
                f". Read the table by --data.path {format_of(tables[0])} --data.data_files.train "
                f"{shlex.quote(tables[0])}, and name its columns, the column of files by --data.audio_column"
            )
        if fault:
            raise ValueError(f"{folder} {_EXPECTED}, got {fault}")
        log_left_out(folder, [file for path, file in self._files.items() if path not in recordings], "audio")
        return read_classes(folder, recordings, column=_COLUMN, kind="audio", words=_SPLITS)


def _with_recordings(rows: datasets.Dataset, table: str) -> datasets.Dataset:
    """The rows of a metadata.csv with the files of the recordings in the column audio."""
    column = next((name for name in _FILE_COLUMNS if name in rows.column_names), None)
    if column is None:
        raise ValueError(
            f"{table} must have a column {' or '.join(_FILE_COLUMNS)} with the names of the audio files, got the "
            f"columns {', '.join(rows.column_names)}"
        )
    files = [name and escaped(str(Path(table).parent / name)) for name in rows[column]]
    others = {name: cells for name, cells in rows[:].items() if name not in (column, _COLUMN)}
    features = datasets.Features({name: datasets.Value("string") for name in (_COLUMN, *others)})
    return datasets.Dataset.from_dict({_COLUMN: files, **others}, features=features)
