"""Tokenization of rows of texts: in parallel and cached by `datasets`, or on the fly where rows are streamed."""

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


class Tokenize:
    """Turns rows of texts into rows of tokens; called with a batch of rows and their numbers, as `map` calls it.

    The new columns are _ids (list of int32); _types (list of int8) with `types`; _length, the number of tokens; _row,
    the number of the row of texts; _cut, whether the end of the text was cut off; and _fault, the reason why a row has
    no tokens, None for good rows.

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

    def __init__(
        self,
        settings: dict[str, Any],
        columns: list[str],
        max_length: int,
        *,
        types: bool = False,
        split: bool = False,
        join: bool = False,
        keep: bool = False,
    ) -> None:
        # `datasets` names its cache by this state, so it must not change with use.
        self.settings = settings
        self.columns = columns
        self.max_length = max_length
        self.types = types
        self.split = split
        self.join = join
        self.keep = keep
        self.version = _VERSION
        self._made: Tokenizer | None = None

    def features(self, before: dict[str, Any]) -> datasets.Features:
        """Column types of the tokens of rows with columns of the given types."""
        gone = set(before) if self.split else set() if self.keep else set(self.columns)
        new = {"_ids": datasets.List(datasets.Value("int32"))}
        if self.types:
            new["_types"] = datasets.List(datasets.Value("int8"))
        new |= {"_length": datasets.Value("int32"), "_row": datasets.Value("int64"), "_cut": datasets.Value("bool")}
        new["_fault"] = datasets.Value("string")
        return datasets.Features({name: before[name] for name in before if name not in gone} | new)

    def __call__(self, batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        """The new columns of a batch of rows."""
        if self.join:
            batch, numbers = self._joined(batch, numbers)
        texts, faults = self._texts(batch)
        good = [place for place, fault in enumerate(faults) if fault is None]
        found: list[list[dict[str, Any]]] = [[{"_ids": [], "_types": [], "_cut": False}] for _ in faults]
        for place, pieces in zip(good, self._encoded([texts[place] for place in good])):
            found[place] = pieces
        least = self._backend().num_special_tokens_to_add(len(self.columns) == 2)
        names = ["_ids", "_types", "_cut"] if self.types else ["_ids", "_cut"]
        columns: dict[str, list[Any]] = {name: [] for name in (*names, "_length", "_row", "_fault")}
        for number, pieces, fault in zip(numbers, found, faults):
            for piece in pieces:
                length = len(piece["_ids"])
                for name in names:
                    columns[name].append(piece[name])
                columns["_length"].append(length)
                columns["_row"].append(number)
                columns["_fault"].append(fault or ("the text has no tokens" if length <= least else None))
        return columns

    def _joined(self, batch: dict[str, list[Any]], numbers: list[int]) -> tuple[dict[str, list[Any]], list[int]]:
        """The strings of a batch as one row, and values that are not strings as rows of their own."""
        (column,) = self.columns
        values = batch[column]
        others = [place for place, value in enumerate(values) if not isinstance(value, str)]
        joined = "\n".join(value for value in values if isinstance(value, str))
        whole = [joined] if joined.strip() else []
        return (
            {column: [*whole, *(values[place] for place in others)]},
            [*numbers[: len(whole)], *(numbers[place] for place in others)],
        )

    def _texts(self, batch: dict[str, list[Any]]) -> tuple[list[tuple[str, ...]], list[str | None]]:
        texts, faults = [], []
        for values in zip(*(batch[column] for column in self.columns)):
            found = [as_text(value) for value in values]
            texts.append(tuple(text for text, _ in found))
            faults.append(next((fault for _, fault in found if fault is not None), None))
        return texts, faults

    def _encoded(self, texts: list[tuple[str, ...]]) -> list[list[dict[str, Any]]]:
        """The pieces of each text."""
        pieces = []
        # The library would take tuples of one text for texts that are divided into words.
        for first in self._backend().encode_batch_fast(
            texts if len(self.columns) == 2 else [text for (text,) in texts]
        ):
            parts = [first, *first.overflowing] if self.split else [first]
            cut = bool(first.overflowing) and not self.split
            pieces.append([{"_ids": part.ids, "_types": part.type_ids, "_cut": cut} for part in parts])
        return pieces

    def _backend(self) -> Tokenizer:
        if self._made is None:
            self._made = Tokenizer.from_str(self.settings["json"])
            self._made.enable_truncation(self.max_length)
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": None}


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


def tokenized(
    rows: Any, tokenize: Tokenize, *, name: str = "", num_proc: int = 1, features: dict[str, Any] | None = None
) -> Any:
    """Rows of tokens: a prepared data set, which may come from the cache, or a stream.

    Args:
        rows: Rows with columns of texts, and others.
        tokenize: How texts become tokens.
        name: Name of the rows on the progress bar.
        num_proc: Number of processes that work on a prepared data set.
        features: Column types of streamed rows without column types.
    """
    before = rows.features if rows.features is not None else features or {}
    after = tokenize.features(before)
    options: dict[str, Any] = {
        "with_indices": True,
        "batched": True,
        "batch_size": _BATCH_SIZE,
        "features": after,
        "remove_columns": [column for column in before if column not in after],
    }
    if isinstance(rows, datasets.IterableDataset):
        return rows.map(tokenize, **options)
    processes = min(num_proc, len(rows))
    return rows.map(tokenize, **options, num_proc=processes if processes > 1 else None, desc=f"Tokenizing {name}")


def log_cut(name: str, cut: int, count: int, max_length: int) -> None:
    """Log how many of the texts of a split were cut, if any."""
    if cut:
        rank_zero_info(
            f"{name}: {cut:,} of {count:,} texts are longer than {max_length:,} tokens (max_length); their ends are "
            "cut off"
        )


class TokenizedExamples(Examples):
    """Rows of tokens. Rows without tokens are found at once and not when they are read; cut texts are counted.

    Args:
        name: Name of the split in messages.
        rows: The rows, as `tokenized` returns them.
        numbers: (N,) numbers of the rows of texts in the data set's own split. Pieces of divided texts have numbers of
            their own instead.
        read: As in `Examples`.
        collate: As in `Examples`.
        max_length: Length at which texts were cut, for the log.
        on_bad: "error" raises at the first row without tokens, "skip" leaves such rows out.
        remedy: As in `Examples`.

    Raises:
        ReadError: A row has no tokens and `on_bad` is "error", or no row has tokens.
    """

    def __init__(
        self,
        name: str,
        rows: datasets.Dataset,
        numbers: np.ndarray,
        read: TokenReader,
        collate: TextCollator,
        *,
        max_length: int,
        on_bad: OnBad,
        remedy: str,
    ) -> None:
        if len(rows) == 0:
            raise ReadError(f"{name}: all texts are empty. {remedy}")
        facts = rows.select_columns(["_length", "_row", "_cut", "_fault"]).with_format("arrow")[:]
        sources = numbers[facts["_row"].to_numpy()]
        tokens = [column for column in ("_ids", "_types") if column in rows.column_names]
        reading = rows.remove_columns(["_length", "_row", "_cut", "_fault"])
        reading = reading.with_format("numpy", columns=tokens, output_all_columns=True)
        # Pieces of a text would share its number and so draw the same masks.
        whole = len(np.unique(sources)) == len(sources)
        split = Split(name, reading, sources if whole else np.arange(len(rows)))
        super().__init__(split, read, collate, on_bad=on_bad, remedy=remedy)
        self._lengths = facts["_length"].to_numpy()
        faults = facts["_fault"].to_pylist()
        self.leave_out({place: fault for place, fault in enumerate(faults) if fault is not None}, sources)
        log_cut(name, int(facts["_cut"].to_numpy().sum()), len(rows), max_length)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) numbers of tokens of the rows that can be read."""
        return self._lengths[self.positions]

    def remove_unreadable(self, num_threads: int = 1) -> None:
        """Do nothing, as such rows are left out already."""
