"""Folders of sound files as data sets: a folder for each class, or sounds beside a table; `datasets` needs a decoder
of its own for them.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import datasets

from tasks.audio.reading.sound import SOUND_SUFFIXES
from tasks.data.files import is_hidden
from tasks.data.sources import VALIDATION_NAMES

METADATA = "metadata.csv"
SOUND_COLUMN, LABEL_COLUMN = "audio", "label"

# Columns of the table that may name the files.
_FILE_COLUMNS = ("file_name", "file")
_SPLITS = ("train", *VALIDATION_NAMES, "test")
_TABLES = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".arrow")
# What libraries keep beside data, and no tables.
_DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_EXPECTED = (
    f"expected CLASS/FILE or SPLIT/CLASS/FILE with SPLIT one of {', '.join(_SPLITS)}, or a {METADATA} with a row for "
    "each sound, in the folder or in each SPLIT"
)


def holds_sounds(folder: Path) -> bool:
    """Whether a folder is one of sounds, and not of tables that `datasets` reads."""
    for place in (folder, folder / "data"):
        if place.is_dir() and any(_is_table(file) for file in place.iterdir()):
            return False
    return (folder / METADATA).is_file() or next(_sounds(folder), None) is not None


def _is_table(file: Path) -> bool:
    return file.suffix.lower() in _TABLES and file.name not in (METADATA, *_DESCRIPTIONS)


def read_folder(folder: Path) -> datasets.DatasetDict:
    """The sounds of a folder, by split.

    - FOLDER/CLASS/FILE is the split train, FOLDER/SPLIT/CLASS/FILE the splits whose names stand there. Files may lie
      deeper; columns are audio, the file's name, and label, a `ClassLabel` of all classes in alphabetical order.
    - FOLDER/metadata.csv is the split train, FOLDER/SPLIT/metadata.csv that split. It has a row for each sound and
      names its file, relative to itself, in the column file_name or file; the other columns stay, as text.

    Names that begin with a dot are not looked at.

    Args:
        folder: The folder.

    Raises:
        ValueError: It holds no sounds, they do not lie as above, or a table cannot be read.
    """
    folder = folder.expanduser().absolute()
    if (folder / METADATA).is_file():
        return datasets.DatasetDict(train=_listed(folder))
    listed = sorted(child.name for child in folder.iterdir() if (child / METADATA).is_file())
    sounds = [sound.relative_to(folder) for sound in _sounds(folder)]
    if listed:
        unlisted = sorted({sound.parts[0] for sound in sounds} & set(_SPLITS) - set(listed))
        if unlisted:
            raise ValueError(
                f"{folder}: {', '.join(unlisted)} holds sounds, but no {METADATA}, as {', '.join(listed)} does; "
                f"{_EXPECTED}"
            )
        return datasets.DatasetDict({name: _listed(folder / name) for name in listed})
    if not sounds:
        raise ValueError(
            f"{folder}: there are no sound files; {_EXPECTED}. Sound files end in {', '.join(SOUND_SUFFIXES)}"
        )
    return _by_class(folder, sounds)


def _sounds(folder: Path) -> Iterator[Path]:
    """Sound files in a folder and those in it, in a stable order."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            if not is_hidden(name) and name.lower().endswith(SOUND_SUFFIXES):
                yield Path(place, name)


def _by_class(folder: Path, sounds: list[Path]) -> datasets.DatasetDict:
    divided = any(len(sound.parts) > 2 and sound.parts[0] in _SPLITS for sound in sounds)
    place = 1 if divided else 0
    stray = next((sound for sound in sounds if len(sound.parts) < place + 2), None)
    if stray is not None:
        raise ValueError(f"{folder}: {str(stray)!r} lies in no folder of a class; {_EXPECTED}")
    names = sorted({sound.parts[place] for sound in sounds})
    if not divided and all(name in _SPLITS for name in names):
        raise ValueError(f"{folder}: the sounds in {', '.join(names)} lie in no folders of classes; {_EXPECTED}")
    number_of = {name: number for number, name in enumerate(names)}
    features = datasets.Features(
        {SOUND_COLUMN: datasets.Value("string"), LABEL_COLUMN: datasets.ClassLabel(names=names)}
    )
    splits: dict[str, list[Path]] = {}
    for sound in sounds:
        splits.setdefault(sound.parts[0] if divided else "train", []).append(sound)
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {
                    SOUND_COLUMN: [str(folder / sound) for sound in members],
                    LABEL_COLUMN: [number_of[sound.parts[place]] for sound in members],
                },
                features=features,
            )
            for split, members in splits.items()
        }
    )


def _listed(folder: Path) -> datasets.Dataset:
    """The rows of a folder's table."""
    table = folder / METADATA
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            names = list(reader.fieldnames or [])
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{table}: the table is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(
            f"{table}: the table cannot be read behind line {reader.line_num} ({error}); a text with commas or quotes "
            'stands between quotes, and a quote within it is written twice ("")'
        ) from error
    column = next((name for name in _FILE_COLUMNS if name in names), None)
    if column is None:
        raise ValueError(
            f"{table}: expected a column {' or '.join(_FILE_COLUMNS)} with the names of the sound files, got the "
            f"columns {', '.join(names) or 'none'}"
        )
    if not rows:
        raise ValueError(f"{table}: the table has no rows")
    for number, row in enumerate(rows):
        if None in row:
            raise ValueError(
                f"{table}, row {number}: expected {len(names)} cells, as in the header, got "
                f"{len(names) + len(row[None])}; put texts with commas between quotes"
            )
    files = [str(folder / row[column]) if row[column] else None for row in rows]
    others = {name: [row[name] or None for row in rows] for name in names if name not in (column, SOUND_COLUMN)}
    features = datasets.Features({name: datasets.Value("string") for name in (SOUND_COLUMN, *others)})
    return datasets.Dataset.from_dict({SOUND_COLUMN: files, **others}, features=features)
