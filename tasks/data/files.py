"""Files that a user names: a folder, a file, a pattern, or a list of these."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def list_files(argument: str, given: str | Sequence[str], suffixes: Sequence[str], kind: str) -> list[str]:
    """Files in a stable order.

    Args:
        argument: What the user calls it, for messages.
        given: A folder (with the folders in it), a file, a pattern such as "photos/*.jpg", or a list of these. A file
            that is named itself, or by a pattern, may end in anything. What is hidden in a folder (a name that begins
            with a dot, or __MACOSX) is left out.
        suffixes: How names of files in folders end, in lower case.
        kind: What to call such files.

    Raises:
        FileNotFoundError: One of them does not exist.
        ValueError: There are no such files among them.
    """
    found: list[str] = []
    for entry in [given] if isinstance(given, str) else given:
        path = Path(entry).expanduser()
        if path.is_dir():
            found += sorted(file for file in _visible(path) if file.lower().endswith(tuple(suffixes)))
        elif path.is_file():
            found.append(str(path))
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            found += matches
        else:
            raise FileNotFoundError(f"{argument}: there is no file or folder {entry!r}")
    if not found:
        raise ValueError(f"{argument}={given!r}: no {kind} files there; expected files ending in {', '.join(suffixes)}")
    return found


def _visible(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        yield from (os.path.join(place, name) for name in names if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none that a user put there."""
    return name[0] == "." or name == "__MACOSX"
