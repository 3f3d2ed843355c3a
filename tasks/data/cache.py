"""Plain values that take long to make, made once and stored in the cache of `datasets`."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
from filelock import FileLock


def cache_file(kind: str, key: Any, ending: str) -> Path:
    """A file in the cache, whose folder is made.

    Args:
        kind: The beginning of the file's name.
        key: Plain values that identify the cached result.
        ending: The end of the file's name, with its dot.
    """
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    file = Path(datasets.config.HF_DATASETS_CACHE) / "softformer" / f"{kind}-{name}{ending}"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def cached(kind: str, key: Any, make: Callable[[], Any]) -> Any:
    """A value that JSON can hold, read from its `cache_file`, or made and written there.

    The first process of a run makes it; the others wait for its file.
    """
    file = cache_file(kind, key, ".json")
    with FileLock(f"{file}.lock"):
        if file.is_file():
            return json.loads(file.read_text())
        value = make()
        # A run that is killed must not leave half a file.
        part = file.with_suffix(".part")
        part.write_text(json.dumps(value))
        part.replace(file)
    return value
