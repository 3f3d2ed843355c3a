"""Local folders of audio files: a folder for each class, or a table metadata.csv that names the files.

`datasets` would need a decoder of its own for them.
"""

import csv
import shlex
from pathlib import Path

import datasets

from tasks.audio.reading.waveforms import AUDIO_SUFFIXES
from tasks.data.files import escaped, log_left_out, visible_files
from tasks.data.folders import Parts, find_layout, read_classes, relative_parts, split_of
from tasks.data.sources import VALIDATION_NAMES
from tasks.data.tables import format_of

METADATA = "metadata.csv"
AUDIO_COLUMN = "audio"

# Columns of the table that may name the files.
_FILE_COLUMNS = ("file_name", "file")
_SPLITS = {name: name for name in ("train", *VALIDATION_NAMES, "test")}
_TABLES = ("csv", "json", "parquet", "arrow")
# JSON files that libraries write next to data.
_DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_EXPECTED = (
    f"must hold CLASS/FILE or SPLIT/CLASS/FILE with SPLIT one of {', '.join(_SPLITS)}, or a {METADATA} with a row for "
    "each recording, in the folder or in each SPLIT"
)


class AudioFolder:
    """The files of a local folder, by their use.

    Args:
        folder: The folder.

    Attributes:
        recordings: Audio files by their relative paths.
        split_tables: Tables that name a split, and others that may hold the recordings themselves, by split.
        other_tables: Other tables in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder = folder.expanduser().absolute()
        files = sorted(visible_files(str(folder)))
        self._files: dict[Parts, str] = dict(zip(relative_parts(str(folder), files), files))
        self.recordings = {path: file for path, file in self._files.items() if file.lower().endswith(AUDIO_SUFFIXES)}
        self.split_tables: dict[str, list[str]] = {}
        self.other_tables: list[str] = []
        for path, file in self._files.items():
            kind, name = format_of(file), path[-1]
            if kind in _TABLES and path[:-1] in ((), ("data",)) and name not in (METADATA, *_DESCRIPTIONS):
                split = split_of(name, _SPLITS) or ("train" if kind in ("parquet", "arrow") else None)
                self.split_tables.setdefault(split, []).append(file) if split else self.other_tables.append(file)
        self._listed = {path[:-1] for path in self._files if path[-1] == METADATA and len(path) < 3}

    @property
    def has_table(self) -> bool:
        """Whether the folder, or a folder in it, has a table metadata.csv."""
        return bool(self._listed)

    def read(self) -> datasets.DatasetDict:
        """The recordings by split.

        - FOLDER/CLASS/FILE is the split train, FOLDER/SPLIT/CLASS/FILE the split SPLIT. Files may lie deeper; the
          columns are audio, the name of the file, and label, a `ClassLabel` of all classes in alphabetical order.
        - FOLDER/metadata.csv is the split train, FOLDER/SPLIT/metadata.csv the split SPLIT. A table has a row for each
          recording and names its file, relative to the folder of the table, in the column file_name or file; the other
          columns are text.

        Names that begin with a dot are ignored. The log has the files and folders that are left out.

        Raises:
            ValueError: The folder has no recordings, their files do not lie as above, or a table cannot be read.
        """
        if () in self._listed:
            return datasets.DatasetDict(train=_read_table(self.folder))
        if self._listed:
            listed = sorted(name for (name,) in self._listed)
            tops = {path[0] for path in self.recordings}
            if unlisted := sorted(tops & set(_SPLITS) - set(listed)):
                raise ValueError(
                    f"{self.folder} {_EXPECTED}, got recordings but no {METADATA} in {', '.join(unlisted)}, unlike "
                    f"{', '.join(listed)}; add the table"
                )
            return datasets.DatasetDict({name: _read_table(self.folder / name) for name in listed})
        if not self.recordings:
            raise ValueError(
                f"{self.folder} {_EXPECTED}, got no audio files; audio files end in {', '.join(AUDIO_SUFFIXES)}"
            )
        self._check_classes()
        others = [file for path, file in self._files.items() if path not in self.recordings]
        log_left_out(str(self.folder), others, "audio")
        return read_classes(str(self.folder), self.recordings, column=AUDIO_COLUMN, kind="audio", words=_SPLITS)

    def _check_classes(self) -> None:
        """Check that recordings lie in folders of classes, and in at least two if the folder has other tables."""
        layout = find_layout(list(self.recordings), _SPLITS)
        outside = [path for path in self.recordings if len(path) < layout.label + 2]
        classes = {path[layout.label] for path in self.recordings if path not in outside}
        if outside:
            fault = f"{len(outside):,} recordings outside the folders of classes, such as {str(Path(*outside[0]))!r}"
        elif layout.split is None and classes <= _SPLITS.keys():
            fault = f"no folders of classes in {', '.join(sorted(classes))}"
        elif self.other_tables and len(classes) < 2:
            fault = f"a single folder {classes.pop()!r} and a table"
        else:
            return
        message = f"{self.folder} {_EXPECTED}, got {fault}"
        for table in self.other_tables[:1]:
            message += (
                f". Read the table by --data.path {format_of(table)} --data.data_files.train {shlex.quote(table)}, and "
                "name its columns, the column of files by --data.audio_column"
            )
        raise ValueError(message)


def _read_table(folder: Path) -> datasets.Dataset:
    """The rows of the metadata.csv of a folder."""
    table = folder / METADATA
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} must be UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(
            f"{table} must be a CSV table, got a fault after line {reader.line_num} ({error}); put texts with commas "
            'or quotes between quotes, and write a quote in them twice ("")'
        ) from error
    file_column = next((name for name in _FILE_COLUMNS if name in columns), None)
    if file_column is None:
        raise ValueError(
            f"{table} must have a column {' or '.join(_FILE_COLUMNS)} with the names of the audio files, got the "
            f"columns {', '.join(columns) or 'none'}"
        )
    if not rows:
        raise ValueError(f"{table} must have a row for each recording, got no rows")
    for number, row in enumerate(rows):
        if None in row:
            raise ValueError(
                f"{table}, row {number} must have {len(columns)} cells, as the header has, got "
                f"{len(columns) + len(row[None])}; put texts with commas between quotes"
            )
    files = [escaped(str(folder / row[file_column])) if row[file_column] else None for row in rows]
    others = {name: [row[name] or None for row in rows] for name in columns if name not in (file_column, AUDIO_COLUMN)}
    features = datasets.Features({name: datasets.Value("string") for name in (AUDIO_COLUMN, *others)})
    return datasets.Dataset.from_dict({AUDIO_COLUMN: files, **others}, features=features)
