"""Texts to predict, from files."""

import io
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np

from tasks.data.examples import OnBad
from tasks.data.sources import Source
from tasks.text.collating import TextCollator, TokenReader
from tasks.text.tokenized import Tokenize, TokenizedExamples, tokenized

_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


def text_files(
    texts: str | Sequence[str],
    tokenize: Tokenize,
    collate: TextCollator,
    *,
    num_proc: int = 1,
    on_bad: OnBad = "error",
    remedy: str = "Repair or remove it",
) -> TokenizedExamples:
    """Texts of files as examples, whose batches hold the texts, too.

    Args:
        texts: As in `text_rows`.
        tokenize: How texts become tokens; it keeps the texts.
        collate: Makes batches.
        num_proc: Processes that share the work.
        on_bad: At a text that is missing or empty, "error" raises, "skip" leaves it out.
        remedy: What the error advises.
    """
    rows = text_rows(texts, tokenize.columns)
    numbers = np.arange(len(rows))
    rows = tokenized(rows, tokenize, name="texts", num_proc=num_proc)
    read = TokenReader(None, tokenize.columns)
    return TokenizedExamples(
        "texts", rows, numbers, read, collate, max_length=tokenize.max_length, on_bad=on_bad, remedy=remedy
    )


def text_rows(texts: str | Sequence[str], columns: list[str]) -> datasets.Dataset:
    """The texts of files as rows, file after file.

    Args:
        texts: A .txt file with a text in each line, or a .csv, .json, .jsonl or .parquet file; or a list of files.
        columns: The column of the texts in a table, and that of second texts where there are pairs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is of another kind, holds no texts, or lacks a column.
    """
    files = [Path(file).expanduser() for file in ([texts] if isinstance(texts, str) else texts)]
    parts = [_rows(file, columns) for file in files]
    if not parts:
        raise ValueError("texts: expected a file of texts, or a list of files, got an empty list")
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _rows(file: Path, columns: list[str]) -> datasets.Dataset:
    if not file.is_file():
        raise FileNotFoundError(
            f"texts: there is no file {str(file)!r}; expected a .txt file with a text in each line, or a table "
            f"({', '.join(_FORMATS)})"
        )
    suffix = file.suffix.lower()
    if suffix == ".txt":
        rows = _lines(file, columns)
    elif suffix in _FORMATS:
        rows = Source(_FORMATS[suffix], None, None, [str(file)], False, {}).load(split="train")
    else:
        raise ValueError(f"texts={str(file)!r}: expected a file ending in .txt, {', '.join(_FORMATS)}")
    if len(rows) == 0:
        raise ValueError(f"texts={str(file)!r}: the file holds no texts")
    for argument, column in zip(("text_column", "text_pair_column"), columns):
        if column not in rows.column_names:
            raise ValueError(
                f"{argument}={column!r}: the file {str(file)!r} has no such column; it has: "
                f"{', '.join(rows.column_names)}"
            )
        check_texts(argument, column, rows.features[column])
    rows = rows.select_columns(columns)
    features = datasets.Features({column: datasets.Value("string") for column in columns})
    return rows if rows.features == features else rows.cast(features)


def _lines(file: Path, columns: list[str]) -> datasets.Dataset:
    if len(columns) == 2:
        raise ValueError(
            f"texts={str(file)!r}: pairs of texts are read from a table ({', '.join(_FORMATS)}) with the columns "
            f"{' and '.join(columns)}, not from lines"
        )
    content = file.read_bytes()
    try:
        # As text files are read: whatever a line ends with, it is "\n" then.
        lines = io.StringIO(content.decode("utf-8-sig"), newline=None).read().split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"texts={str(file)!r}: line {line} is not UTF-8 text ({error.reason}, byte 0x{content[error.start]:02x}); "
            "save the file as UTF-8"
        ) from error
    # The last line ends with a line break, too.
    return datasets.Dataset.from_dict({columns[0]: lines[:-1] if lines[-1] == "" else lines})


def check_texts(argument: str, column: str, feature: object) -> None:
    """Accept a column of texts.

    Raises:
        ValueError: It holds something else.
    """
    # A column without any value has no type of its own.
    texts = ("string", "large_string", "string_view", "null")
    if not (isinstance(feature, datasets.Value) and feature.dtype in texts):
        raise ValueError(
            f"{argument}={column!r}: expected a column of texts, got a column of type {feature}; choose another "
            "column, or store it as strings"
        )
