"""Tokenization of rows of texts: in parallel and cached by `datasets`, or on the fly where rows are streamed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import datasets
import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from tokenizers import Tokenizer

from tasks.data.examples import Examples, OnBad, ReadError, Split
from tasks.text.collating import TextCollator, TokenReader

# Raise it when the same settings give other tokens: the name of the cache depends on it.
_VERSION = 2
# Number of rows that become tokens together; few, as a text may be a book.
_BATCH_SIZE = 128


@dataclass
class Tokenize:
    """Turns rows of texts into rows of tokens; called with a batch of rows and their numbers, as `map` calls it.

    The new columns are _ids (list of int32); _types (list of int8) with `types`; _length, the number of tokens; _row,
    the number of the row of texts; _cut, whether the end of the text was cut off; and _fault, the reason why a row has
    no tokens, None for good rows. `datasets` names its cache by the fields, so they must not change with use.

    Args:
        settings: The tokenizer as plain values (`tasks.text.tokens.tokenizers.tokenizer_settings`).
        columns: The column of the texts, and the column of second texts where there are pairs.
        max_length: Maximum number of tokens of a row, special tokens included. The end of a longer text is cut off; of
            a pair, the end of the longer text.
        types: Whether the result has token types.
        split: Whether the rest of a long text becomes further rows, which then have no other columns.
        join: Whether the texts of a batch, empty texts included, are joined to one text, with newlines between.
        keep: Whether the columns of texts stay.
    """

    settings: dict[str, Any]
    columns: list[str]
    max_length: int
    types: bool = False
    split: bool = False
    join: bool = False
    keep: bool = False
    version: int = _VERSION

    def map_options(self, before: dict[str, Any]) -> dict[str, Any]:
        """Options of `map` for rows with columns of the given types."""
        dropped = before if self.split else [] if self.keep else self.columns
        after = {name: feature for name, feature in before.items() if name not in dropped}
        after["_ids"] = datasets.List(datasets.Value("int32"))
        if self.types:
            after["_types"] = datasets.List(datasets.Value("int8"))
        for name, dtype in (("_length", "int32"), ("_row", "int64"), ("_cut", "bool"), ("_fault", "string")):
            after[name] = datasets.Value(dtype)
        return {
            "with_indices": True,
            "batched": True,
            "batch_size": _BATCH_SIZE,
            "features": datasets.Features(after),
            "remove_columns": [name for name in before if name in dropped],
        }

    def __call__(self, batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        """The new columns of a batch of rows."""
        if self.join:
            batch, numbers = self._joined(batch, numbers)
        values = [[as_text(value) for value in row] for row in zip(*(batch[column] for column in self.columns))]
        faults = [next((fault for _, fault in row if fault is not None), None) for row in values]
        texts = [tuple(text for text, _ in row) for row, fault in zip(values, faults) if fault is None]
        encoded = self._encoded(texts)
        least = self._backend.num_special_tokens_to_add(len(self.columns) == 2)
        names = ["_ids", *(["_types"] if self.types else []), "_cut", "_length", "_row", "_fault"]
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for number, fault in zip(numbers, faults):
            for ids, types, cut in next(encoded) if fault is None else [([], [], False)]:
                row = {"_ids": ids, "_types": types, "_cut": cut, "_length": len(ids), "_row": number}
                row["_fault"] = fault or ("the text has no tokens" if len(ids) <= least else None)
                for name in names:
                    columns[name].append(row[name])
        return columns

    def _joined(self, batch: dict[str, list[Any]], numbers: list[int]) -> tuple[dict[str, list[Any]], list[int]]:
        """The strings of a batch as one row, and values that are not strings as rows of their own."""
        (column,) = self.columns
        rows = list(zip(batch[column], numbers))
        joined = "\n".join(value for value, _ in rows if isinstance(value, str))
        whole = [(joined, numbers[0])] if joined.strip() else []
        rows = [*whole, *(row for row in rows if not isinstance(row[0], str))]
        return {column: [value for value, _ in rows]}, [number for _, number in rows]

    def _encoded(self, texts: list[tuple[str, ...]]) -> Iterator[list[tuple[list[int], list[int], bool]]]:
        """Tokens, types, and whether the end was cut off, for each row that a text becomes."""
        # The library would take tuples of one text for texts that are divided into words.
        given = texts if len(self.columns) == 2 else [text for (text,) in texts]
        for first in self._backend.encode_batch_fast(given):
            rest = first.overflowing
            parts, cut = ([first, *rest], False) if self.split else ([first], bool(rest))
            yield [(part.ids, part.type_ids, cut) for part in parts]

    @cached_property
    def _backend(self) -> Tokenizer:
        backend = Tokenizer.from_str(self.settings["json"])
        backend.enable_truncation(self.max_length)
        return backend

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_backend"}


def as_text(value: Any) -> tuple[str, str | None]:
    """A value of a column of texts as a string, and None; or "" and why the value is not a text.

    Lone surrogates, which UTF-8 cannot encode, become U+FFFD; pairs of surrogates become their character.
    """
    if value is None:
        return "", "the text is missing"
    if not isinstance(value, str):
        return "", f"expected a text, got {value!r}, which is of type {type(value).__name__}"
    value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return (value, None) if value.strip() else ("", "the text is empty")


def log_cut(name: str, cut: int, count: int, max_length: int) -> None:
    """Log the number of texts that were cut, if any."""
    if cut:
        rank_zero_info(
            f"{name}: {cut:,} of {count:,} texts are longer than {max_length:,} tokens (max_length); their ends are "
            "cut off"
        )


class TokenizedExamples(Examples):
    """Texts as rows of tokens. Texts without tokens are found at once and not when they are read; cut texts are logged.

    Args:
        texts: The rows of texts. Rows of tokens have their numbers, or numbers of their own if texts were divided.
        tokenize: Turns the texts into tokens.
        read: As in `Examples`.
        collate: As in `Examples`.
        num_proc: Number of processes that turn texts into tokens.
        on_bad: "error" raises at the first text without tokens, "skip" leaves such texts out.
        remedy: As in `Examples`.

    Raises:
        ReadError: A text has no tokens and `on_bad` is "error", or no text has tokens.
    """

    def __init__(
        self,
        texts: Split,
        tokenize: Tokenize,
        read: TokenReader,
        collate: TextCollator,
        *,
        num_proc: int,
        on_bad: OnBad,
        remedy: str,
    ) -> None:
        processes = min(num_proc, len(texts))
        options = tokenize.map_options(texts.rows.features) | {"num_proc": processes if processes > 1 else None}
        rows = texts.rows.map(tokenize, **options, desc=f"Tokenizing {texts.name}")
        if len(rows) == 0:
            raise ReadError(f"{texts.name}: all texts are empty. {remedy}")
        facts = rows.select_columns(["_length", "_row", "_cut", "_fault"]).with_format("arrow")[:]
        numbers = texts.numbers[facts["_row"].to_numpy()]
        arrays = [column for column in ("_ids", "_types") if column in rows.column_names]
        rows = rows.remove_columns(facts.column_names).with_format("numpy", columns=arrays, output_all_columns=True)
        # Rows of a divided text would share its number and so draw the same masks.
        whole = len(np.unique(numbers)) == len(numbers)
        split = Split(texts.name, rows, numbers if whole else np.arange(len(rows)))
        super().__init__(split, read, collate, on_bad=on_bad, remedy=remedy)
        self._lengths = facts["_length"].to_numpy()
        faults = facts["_fault"].to_pylist()
        self.leave_out({place: fault for place, fault in enumerate(faults) if fault is not None}, numbers)
        log_cut(texts.name, int(facts["_cut"].to_numpy().sum()), len(rows), tokenize.max_length)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) numbers of tokens of the rows that can be read."""
        return self._lengths[self.positions]

    def remove_unreadable(self, num_threads: int = 1) -> None:
        """Do nothing, as such rows are left out already."""
