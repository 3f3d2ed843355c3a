"""Folders of files as labelled data: CLASS/FILE, or SPLIT/CLASS/FILE."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import datasets
import pyarrow as pa
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from tasks.data.files import escaped, is_hidden
from tasks.data.labels import shortened

# Splits by the words that name their folders, as in `datasets`.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_ORDER = ("train", "validation", "test", None)

Parts = tuple[str, ...]
T = TypeVar("T")


class Layout(NamedTuple):
    """Places of the folders of splits and classes in the paths of files; the split train alone has none."""

    split: int | None
    label: int


def split_of(name: str, words: Mapping[str, str] = SPLIT_WORDS) -> str | None:
    """The split that a folder or file holds by its name, such as "train" or "test-2"; None if it names no split."""
    parts = re.split(r"[-._ 0-9]+", name.lower())
    return next((words[part] for part in parts if part in words), None)


def in_order(splits: Mapping[str, T]) -> dict[str, T]:
    """Splits in the order of their use: to train, to validate, to test, and others."""
    return {name: splits[name] for name in sorted(splits, key=lambda name: (_ORDER.index(split_of(name)), name))}


def find_layout(paths: Sequence[Parts], words: Mapping[str, str] = SPLIT_WORDS) -> Layout:
    """Find the folders of splits and classes.

    Folders are splits if they hold folders and either each of them is named for a split, or at least two splits are
    named; then a folder with another name is a split of that name. A single folder that holds all others is no class.
    """
    top = 0
    while len(names := _folders(paths, top)) == 1 and _folders(paths, top + 1) and not _files(paths, top + 1):
        (name,) = names
        if split_of(name, words) and not any(split_of(below, words) for below in _folders(paths, top + 1)):
            break
        top += 1
    named = {split_of(name, words) for name in _folders(paths, top)}
    if not _folders(paths, top + 1) or not (named == named - {None} or len(named - {None}) > 1):
        return Layout(None, top)
    label = top + 1
    while len(_folders(paths, label)) == 1 and _folders(paths, label + 1) and not _files(paths, label + 1):
        label += 1
    return Layout(top, label)


def _folders(paths: Sequence[Parts], place: int) -> set[str]:
    return {path[place] for path in paths if len(path) > place + 1}


def _files(paths: Sequence[Parts], place: int) -> bool:
    return any(len(path) == place + 1 for path in paths)


def relative_parts(folder: str, files: Sequence[str]) -> list[Parts]:
    """Paths of files relative to the folder that they lie in, in their parts."""
    return [tuple(file[len(folder) :].strip(os.sep).split(os.sep)) for file in files]


def read_classes(
    folder: str, files: Mapping[Parts, str], *, column: str, kind: str, words: Mapping[str, str] = SPLIT_WORDS
) -> datasets.DatasetDict:
    """The files of class folders by split, with their names in `column` and the column label, a `ClassLabel`.

    It logs the numbers of files and classes, and everything that is left out.

    Args:
        folder: The folder that holds the files.
        files: The files by their relative paths.
        column: Name of the column of files.
        kind: Noun for the files, for messages.
        words: Splits by the names of their folders.

    Raises:
        ValueError: The files lie in no folders of classes.
    """
    layout = find_layout(list(files), words)
    tops = [] if layout.split is None else _folders(list(files), layout.split)
    split_names = {top: split_of(top, words) or escaped(top) for top in tops}
    splits: dict[str, list[tuple[str, str]]] = {}
    stray = []
    for path, file in files.items():
        if len(path) < layout.label + 2:
            stray.append(os.path.join(*path))
        else:
            split = "train" if layout.split is None else split_names[path[layout.split]]
            splits.setdefault(split, []).append((escaped(file), escaped(path[layout.label])))
    splits = in_order(splits)
    labels = {split: {label for _, label in members} for split, members in splits.items()}
    names = sorted(set().union(*labels.values()))
    if layout.split is None and all(name.lower() in words for name in names):
        raise ValueError(
            f"{folder}: {kind} files must lie in folders of classes, CLASS/FILE or SPLIT/CLASS/FILE, got "
            f"{os.path.join(*next(iter(files)))!r}; make a folder for each class, or a table metadata.csv with the "
            "columns file_name and label"
        )
    counts = ", ".join(f"{len(members):,} in {split}" for split, members in splits.items())
    rank_zero_info(f"{folder}: {kind} files: {counts}; {len(names)} classes {shortened(names)}")
    places = {path[: layout.label] for path in files if len(path) > layout.label + 1}
    empty = _subfolders(folder, places) - {path[: layout.label + 1] for path in files}
    untrained = set(names) - labels.get("train", set(names))
    for what, left in (
        (f"{kind} files left out because they lie in no folder of a class", stray),
        (f"folders left out because they hold no {kind} files", sorted(os.path.join(*path) for path in empty)),
        (f"classes without {kind} files in train", sorted(untrained)),
    ):
        if left:
            rank_zero_info(f"{folder}: {what}: {len(left):,} {shortened(left)}")
    features = datasets.Features({column: datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    number_of = {name: number for number, name in enumerate(names)}
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {
                    column: pa.array([file for file, _ in members]),
                    "label": pa.array([number_of[label] for _, label in members]),
                },
                features=features,
            )
            for split, members in splits.items()
        }
    )


def _subfolders(folder: str, places: set[Parts]) -> set[Parts]:
    """Visible folders in some places within a folder."""
    return {
        (*place, entry.name)
        for place in places
        for entry in os.scandir(os.path.join(folder, *place))
        if os.path.isdir(entry.path) and not is_hidden(entry.name)
    }
