"""Texts to predict, from files."""

import io
from collections.abc import Sequence
from pathlib import Path

import datasets

from tasks.data.files import list_files, located
from tasks.data.sources import Source
from tasks.data.tables import FORMATS, TABLE_SUFFIXES, format_of, not_utf8, open_table


def text_rows(texts: str | Sequence[str], columns: list[str]) -> datasets.Dataset:
    """The texts of files as rows, file after file.

    Args:
        texts: A .txt file with a text in each line, a table (.csv, .tsv, .json, .jsonl, .parquet), a folder or a
            pattern of such files, or a list of these; files may be compressed (.gz, .bz2, .xz, .zst).
        columns: The column of the texts in a table, and the column of second texts where there are pairs.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file is of another kind, is empty, or lacks a column.
    """
    if not isinstance(texts, str) and not texts:
        raise ValueError("texts must be a file of texts or a list of files, got an empty list; name a file")
    return datasets.concatenate_datasets(
        [_rows(file, columns) for file in list_files("texts", texts, TABLE_SUFFIXES, "text")]
    )


def _rows(file: str, columns: list[str]) -> datasets.Dataset:
    kind = format_of(file)
    if kind is None:
        raise ValueError(f"texts must end in {', '.join(FORMATS)}, got {file!r}; convert the file")
    path = str(located(Path(), file))
    rows = _lines(path, columns) if kind == "text" else Source(kind, None, None, [path], False, {}).load()["train"]
    if len(rows) == 0:
        raise ValueError(f"texts must be files with at least one text, got the empty file {file!r}; leave it out")
    for argument, column in zip(("text_column", "text_pair_column"), columns):
        if column not in rows.column_names:
            raise ValueError(
                f"{argument} must be a column of {file!r}, got {column!r}; choose one of {', '.join(rows.column_names)}"
            )
        check_texts(argument, column, rows.features[column])
    rows = rows.select_columns(columns)
    features = datasets.Features({column: datasets.Value("string") for column in columns})
    return rows if rows.features == features else rows.cast(features)


def _lines(file: str, columns: list[str]) -> datasets.Dataset:
    if len(columns) == 2:
        raise ValueError(
            f"texts must be tables (.csv, .tsv, .json, .jsonl, or .parquet) with the columns {' and '.join(columns)} "
            f"where inputs are pairs, got {file!r}; leave text_pair_column out for a text in each line"
        )
    with open_table(file) as stream:
        content = stream.read()
    try:
        # Newline translation, as in text files: "\r\n" and "\r" end a line, too.
        lines = io.StringIO(content.decode("utf-8-sig"), newline=None).read().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"texts={file!r}: {not_utf8(file)}") from error
    # The last line ends with a newline, too.
    return datasets.Dataset.from_dict({columns[0]: lines[:-1] if lines[-1] == "" else lines})


def check_texts(argument: str, column: str, feature: object) -> None:
    """Accept a column of strings, or without any value.

    Raises:
        ValueError: The column has another type.
    """
    if not (isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string", "string_view", "null")):
        raise ValueError(
            f"{argument} must be a column of texts, got {column!r} of type {feature}; choose another column, or store "
            "it as strings"
        )
