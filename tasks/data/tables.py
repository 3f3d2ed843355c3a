"""Tables in files: their formats by ending, and how CSV is read so that cells stay as they are written."""

import csv
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pandas as pd
from lightning.pytorch.utilities.rank_zero import rank_zero_info

FORMATS = {
    **{".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"},
    **{".parquet": "parquet", ".arrow": "arrow", ".txt": "text"},
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
TABLE_SUFFIXES = tuple(ending + packed for ending in FORMATS for packed in ("", *COMPRESSIONS))

_DELIMITERS = ",\t;|"


def format_of(file: str | Path) -> str | None:
    """The format of `load_dataset` that reads a file, by its ending; None if no format does."""
    suffixes = [suffix.lower() for suffix in Path(file).suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def csv_options(files: list[str], as_text: bool) -> dict[str, Any]:
    """Options of `load_dataset` for CSV files of a split, where only an empty cell is a missing value.

    Args:
        files: The files. Delimiter and columns are found in the local ones.
        as_text: Whether cells stay as they are written ("007"), instead of columns of numbers becoming numbers.

    Raises:
        ValueError: A file is not UTF-8 text, or the files differ in delimiter or columns.
    """
    options: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
    layouts = {file: _layout(file) for file in files if "://" not in file}
    if not layouts:
        return options | {"sep": "\t" if Path(files[0]).suffix == ".tsv" else ","}
    first, (delimiter, columns) = next(iter(layouts.items()))
    for file, layout in layouts.items():
        if layout != (delimiter, columns):
            raise ValueError(
                f"the tables of a split must have the same delimiter and columns, got {delimiter!r} and "
                f"{', '.join(columns)} in {first!r}, but {layout[0]!r} and {', '.join(layout[1])} in {file!r}; make "
                "them alike, or give them as splits of their own"
            )
    if delimiter != ",":
        rank_zero_info(f"{first}: columns are separated by {delimiter!r}")
    if as_text and columns:
        options["features"] = datasets.Features({column: datasets.Value("string") for column in columns})
    return options | {"sep": delimiter}


def _layout(file: str) -> tuple[str, list[str]]:
    """Delimiter and columns of a CSV file."""
    with open_table(file) as stream:
        line = next((line for line in stream if line.strip()), b"")
    try:
        header = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: {not_utf8(file)}") from error
    # max returns the first of equal ones: the comma.
    delimiter = max(_DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter), [])))
    if not header:
        return delimiter, []
    rows = pd.read_csv(file, sep=delimiter, nrows=1, dtype=object)
    if not isinstance(rows.index, pd.RangeIndex):
        raise ValueError(
            f"{file}: the first row must have {len(rows.columns)} cells, as the header has, got more; put texts that "
            f"contain {delimiter!r} between quotes"
        )
    return delimiter, list(rows.columns)


def open_table(file: str) -> Any:
    """A local file as a stream of bytes, decompressed."""
    return fsspec.filesystem("file").open(file, "rb", compression="infer")


def not_utf8(file: str) -> str | None:
    """The first line that is not UTF-8 text, with the remedy; None if there is no such line."""
    with open_table(file) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return (
                    f"line {number} is not UTF-8 text ({error.reason}, byte 0x{line[error.start]:02x}); save the file "
                    "as UTF-8"
                )
    return None
