"""Plain values that take long to make, made once and kept in the cache of `datasets`."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
from filelock import FileLock


def kept_file(kind: str, key: Any, ending: str) -> Path:
    """Where something is kept in the cache; its folder is made.

    Args:
        kind: The beginning of the file's name.
        key: Plain values that all it depends on is told by.
        ending: The end of the file's name, with its dot.
    """
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    file = Path(datasets.config.HF_DATASETS_CACHE) / "softformer" / f"{kind}-{name}{ending}"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def kept(kind: str, key: Any, make: Callable[[], Any]) -> Any:
    """A value that JSON can hold, from the cache where it was made before.

    All processes of a run get the same: the first makes it, and the others wait for its file.

    Args:
        kind: As in `kept_file`.
        key: As in `kept_file`.
        make: Makes the value.
    """
    file = kept_file(kind, key, ".json")
    with FileLock(f"{file}.lock"):
        if file.is_file():
            return json.loads(file.read_text())
        value = make()
        # A run that is killed leaves no half of a file behind.
        part = file.with_suffix(".part")
        part.write_text(json.dumps(value))
        part.replace(file)
    return value
