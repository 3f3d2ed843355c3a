"""Texts to predict, from files."""

import io
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np

from tasks.data.examples import OnBad
from tasks.data.files import list_files, located
from tasks.data.sources import Source
from tasks.data.tables import FORMATS, TABLE_SUFFIXES, format_of, not_utf8, open_table
from tasks.text.collating import TextCollator, TokenReader
from tasks.text.tokenized import Tokenize, TokenizedExamples, tokenized

_TABLES = "(.csv, .tsv, .json, .jsonl or .parquet)"


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
        texts: A .txt file with a text in each line, a table (.csv, .tsv, .json, .jsonl, .parquet), a folder or a
            pattern of such files, or a list of these; files may be compressed (.gz, .bz2, .xz, .zst).
        columns: The column of the texts in a table, and the column of second texts where there are pairs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is of another kind, holds no texts, or lacks a column.
    """
    if not isinstance(texts, str) and not texts:
        raise ValueError("texts: expected a file of texts, or a list of files, got an empty list")
    parts = [_rows(file, columns) for file in list_files("texts", texts, TABLE_SUFFIXES, "text")]
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _rows(file: str, columns: list[str]) -> datasets.Dataset:
    kind = format_of(file)
    if kind is None:
        raise ValueError(f"texts={file!r}: expected a file ending in {', '.join(FORMATS)}")
    path = str(located(Path(), file))
    rows = _lines(path, columns) if kind == "text" else Source(kind, None, None, [path], False, {}).load()["train"]
    if len(rows) == 0:
        raise ValueError(f"texts={file!r}: the file holds no texts")
    for argument, column in zip(("text_column", "text_pair_column"), columns):
        if column not in rows.column_names:
            raise ValueError(
                f"{argument}={column!r}: the file {file!r} has no such column; it has: {', '.join(rows.column_names)}"
            )
        check_texts(argument, column, rows.features[column])
    rows = rows.select_columns(columns)
    features = datasets.Features({column: datasets.Value("string") for column in columns})
    return rows if rows.features == features else rows.cast(features)


def _lines(file: str, columns: list[str]) -> datasets.Dataset:
    if len(columns) == 2:
        raise ValueError(
            f"texts={file!r}: pairs of texts are read from a table {_TABLES} with the columns {' and '.join(columns)}, "
            "not from lines"
        )
    with open_table(file) as stream:
        content = stream.read()
    try:
        # As text files are read: whatever a line ends with, it is "\n" then.
        lines = io.StringIO(content.decode("utf-8-sig"), newline=None).read().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"texts={file!r}: {not_utf8(file)}") from error
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
