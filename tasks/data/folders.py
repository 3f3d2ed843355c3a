"""Folders of splits and classes in the paths of files: CLASS/FILE, or SPLIT/CLASS/FILE."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from tasks.data.files import is_hidden

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


def subfolders(folder: str, places: set[Parts]) -> set[Parts]:
    """Visible folders in some places within a folder."""
    return {
        (*place, entry.name)
        for place in places
        for entry in os.scandir(os.path.join(folder, *place))
        if os.path.isdir(entry.path) and not is_hidden(entry.name)
    }
