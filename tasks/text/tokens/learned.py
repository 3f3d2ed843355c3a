"""Tokenizers that learn from texts, learned once and kept in the cache of `datasets`."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import datasets

from tasks.data.cache import kept
from tasks.text.pixels import ALL_PIXELS, as_text
from tasks.text.tokens.tokenizers import TokenizerSpec, tokenizer_settings

# So many rows of a stream are learned from.
MOST_STREAMED = 10_000
# Raise it when the same specification makes another tokenizer.
_VERSION = 1


def learned_settings(spec: TokenizerSpec, rows: Any, columns: list[str], *, pictures: bool) -> dict[str, Any]:
    """Settings of a tokenizer that learns from rows, as `tasks.text.tokens.tokenizers.tokenizer_settings` gives them.

    All processes of a run get the same: the first learns it, and the others wait for its file.

    Args:
        spec: What to make.
        rows: Rows of a prepared data set, or a stream, of which the first 10,000 serve.
        columns: The columns of texts, or of pictures whose pixels become characters.
        pictures: Whether there are pictures, all 256 values of whose pixels are then known.
    """
    if isinstance(rows, datasets.IterableDataset):
        first = list(_texts(rows.take(MOST_STREAMED), columns))
        key = hashlib.sha256("\0".join(first).encode()).hexdigest()
        return _kept(spec, [key, pictures], lambda: _with_pixels(first, pictures))
    key = rows._fingerprint
    return _kept(spec, [key, columns, pictures], lambda: _with_pixels(_texts(rows, columns), pictures))


def _kept(spec: TokenizerSpec, key: list[Any], texts: Callable[[], Iterable[str]]) -> dict[str, Any]:
    return kept("tokenizer", [_VERSION, spec.to_dict(), key], lambda: tokenizer_settings(spec.build(texts())))


def _with_pixels(texts: Iterable[str], pictures: bool) -> Iterator[str]:
    if pictures:
        yield ALL_PIXELS
    yield from texts


def _texts(rows: Any, columns: list[str]) -> Iterator[str]:
    """The texts of rows; what is none is left out, and told when the rows are read."""
    for batch in rows.select_columns(columns).iter(batch_size=1000):
        for column in columns:
            for value in batch[column]:
                text, fault = as_text(value)
                if fault is None:
                    yield text
