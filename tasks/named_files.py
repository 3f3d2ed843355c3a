"""Files that a user names: a folder, a file, a pattern, or a list of these."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path


def list_files(argument: str, given: str | Sequence[str], suffixes: Sequence[str], kind: str) -> list[str]:
    """Files in a stable order.

    Args:
        argument: What the user calls it, for messages.
        given: A folder (with the folders in it), a file, a pattern such as "photos/*.jpg", or a list of these. A file
            that is named itself, or by a pattern, may end in anything.
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
            files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
            found += sorted(file for file in files if file.lower().endswith(tuple(suffixes)))
        elif path.is_file():
            found.append(str(path))
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            found += matches
        else:
            raise FileNotFoundError(f"{argument}: there is no file or folder {entry!r}")
    if not found:
        raise ValueError(f"{argument}={given!r}: no {kind} files there; expected files ending in {', '.join(suffixes)}")
    return found
