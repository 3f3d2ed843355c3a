"""Small files of texts, and the data modules that read them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tasks.text.data import TextDataModule

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "Ünder", "it", "slept", "mice"]
NAMES = ["ant", "bee", "cat"]


def texts(rows: int, longest: int = 23, seed: int = 0) -> list[str]:
    """So many texts of 1 to `longest` words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, longest + 1))) for _ in range(rows)]


def write_rows(file: Path, rows: list[dict[str, Any]]) -> str:
    """A .jsonl file of rows."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def labelled(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a text, another text, and the name of one of three classes."""
    return [
        {"text": text, "other": other, "label": NAMES[number % 3]}
        for number, (text, other) in enumerate(zip(texts(rows, seed=seed), texts(rows, 7, seed + 1)))
    ]


def text_data(files: Any, **options: Any) -> TextDataModule:
    """A module that reads JSON files, in small batches."""
    return TextDataModule("json", data_files=files, **{"batch_size": 5, **options})
