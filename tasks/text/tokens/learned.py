"""Tokenizers that learn from texts, cached beside the data sets of `datasets`."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import datasets

from tasks.data.cache import cached
from tasks.text.tokenized import as_text
from tasks.text.tokens.tokenizers import TokenizerSpec, tokenizer_settings

# Number of rows that a tokenizer of a stream learns from.
MOST_STREAMED = 10_000
# Raise it when the same specification makes another tokenizer.
_VERSION = 1


def learned_settings(spec: TokenizerSpec, rows: Any, columns: list[str]) -> dict[str, Any]:
    """Settings of a tokenizer that learns from the columns of a prepared data set, or of the first rows of a stream.

    All processes of a run get the same settings: the first one learns, and the others wait for its file.
    """
    texts: Iterable[str]
    if isinstance(rows, datasets.IterableDataset):
        texts = list(_texts(rows.take(MOST_STREAMED), columns))
        key: list[Any] = [hashlib.sha256("\0".join(texts).encode()).hexdigest()]
    else:
        texts = _texts(rows, columns)
        key = [rows._fingerprint, columns]
    return cached("tokenizer", [_VERSION, spec.to_dict(), key], lambda: tokenizer_settings(spec.build(texts)))


def _texts(rows: Any, columns: list[str]) -> Iterator[str]:
    """The texts of rows; values that are not texts are left out, and reported when the rows become tokens."""
    for batch in rows.select_columns(columns).iter(batch_size=1000):
        values = map(as_text, (value for column in columns for value in batch[column]))
        yield from (text for text, fault in values if fault is None)
