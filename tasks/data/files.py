"""Files that a user names: folders, files and patterns."""

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_info

_LONGEST_NAME = 255


def list_files(argument: str, given: str | Sequence[str], suffixes: tuple[str, ...], kind: str) -> list[str]:
    """Files in a stable order, with their names as `escaped` writes them; the log counts those that are left out.

    Args:
        argument: Name of the user's argument, for messages.
        given: A folder (with the folders in it), a file, a pattern such as "photos/*", or a list of these. A file that
            exists under the given name, or fits a pattern that states an ending, may end in anything.
        suffixes: Endings of other files, in lower case.
        kind: Noun for such files, for messages.

    Raises:
        FileNotFoundError: One of them does not exist.
        ValueError: No file among them is of this kind.
    """
    endings = ", ".join(suffix for suffix in suffixes if suffix.count(".") == 1)
    found: list[str] = []
    left_out: set[str] = set()
    for entry in [given] if isinstance(given, str) else given:
        path = str(located(Path(), str(Path(entry).expanduser())))
        matches = sorted(glob.glob(as_pattern(path), recursive=True))
        if not matches:
            raise FileNotFoundError(
                f"{argument} must be a folder, a file, or a pattern of {kind} files ({endings}), got {entry!r}, which "
                "does not exist"
            )
        shown = [match for match in matches if not any(map(is_hidden, set(Path(match).parts) - set(Path(path).parts)))]
        folders = [match for match in shown if os.path.isdir(match)]
        named = set(shown).difference(folders)
        files = sorted(named.union(*map(visible_files, folders)))
        if not os.path.lexists(path) and Path(path).suffix in ("", ".*"):
            named.clear()  # the pattern states no ending
        fitting = [file for file in files if file in named or file.lower().endswith(suffixes)]
        found += fitting
        left_out.update(set(files).difference(fitting))
    if not found:
        raise ValueError(f"{argument} must hold {kind} files, ending in {endings}, got none in {given!r}")
    log_left_out(argument, left_out, kind)
    return list(map(escaped, found))


def log_left_out(where: str, files: Collection[str], kind: str) -> None:
    """Log the number of files that are of another kind, by their endings."""
    if files:
        endings = Counter(Path(file).suffix.lower() or "without ending" for file in files)
        counts = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common())
        rank_zero_info(f"{where}: files left out because they are no {kind} files: {len(files):,} ({counts})")


def visible_files(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Files of a folder and its subfolders without hidden ones; links are followed, but not to a folder `above`."""
    place = os.path.realpath(folder)
    if place in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if os.path.isdir(entry.path):
                yield from visible_files(entry.path, (*above, place))
            else:
                yield entry.path


def is_hidden(name: str) -> bool:
    """Whether the name is hidden: it begins with a dot or is `__MACOSX`."""
    return name[0] == "." or name == "__MACOSX"


def as_pattern(path: str, folder: str = "") -> str:
    """A pattern of `glob`, relative to a folder, with the existing part of the path escaped: "run [1]/*.csv"."""
    path = str(Path(path))
    head = Path(path)
    while not os.path.lexists(folder / head):
        head = head.parent
    return glob.escape(str(head)) + path[len(str(head)) :] if head != Path() else path


def escaped(name: str) -> str:
    r"""A file name as text that every file and table can hold: a byte that is not UTF-8 is written as \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shown(name: str, path: str) -> str:
    """A path in quotes for messages; the beginning of its name where that is too long for one, such as base64 text."""
    if len(name) <= _LONGEST_NAME:
        return repr(path)
    return f"{name[:40] + '...'!r} (expected a file name or the bytes of a file, got {len(name):,} characters)"


def located(folder: Path, name: str) -> Path:
    r"""Path of a file relative to a folder, by its name, its name in Windows ("cats\1.png"), or its `escaped` name."""
    if "\\" in name and not os.path.lexists(folder / name):
        in_bytes = re.sub(rb"\\x([89a-f][0-9a-f])", lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(name))
        for other in (os.fsdecode(in_bytes), name.replace("\\", "/")):
            if os.path.lexists(folder / other):
                return folder / other
    return folder / name
