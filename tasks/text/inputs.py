"""Texts as batches for a network that is called by itself, without a data module."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.text.collating import padded
from tasks.text.tokens.tokenizers import tokenizer_from

Text = str | tuple[str, str]


def as_list(texts: Text | Sequence[Text], pairs: bool | None) -> list[Text]:
    """One text, or one pair, or several of either as a list.

    Args:
        texts: Strings, or pairs of strings as tuples.
        pairs: Whether the task takes pairs; None if it does not tell, when a tuple of two strings is taken for one.

    Raises:
        ValueError: A text is no string, or not a pair where pairs are expected, or empty.
    """
    if isinstance(texts, str):
        several: list[Any] = [texts]
    elif pairs is not False and isinstance(texts, tuple) and [type(part) for part in texts] == [str, str]:
        several = [texts]
    else:
        several = list(texts)
    expected = {True: "pairs of strings", False: "strings", None: "strings or pairs of strings"}[pairs]
    for number, text in enumerate(several):
        parts = text if isinstance(text, tuple) else (text,)
        fits = len(parts) in {True: (2,), False: (1,), None: (1, 2)}[pairs]
        if not fits or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"texts: expected {expected}, got {text!r} at place {number}")
        if not all(part.strip() for part in parts):
            raise ValueError(f"texts: the text at place {number} is empty")
    return several


def as_batches(
    texts: Text | Sequence[Text], settings: dict[str, Any] | None, batch_size: int
) -> Iterator[dict[str, Tensor]]:
    """Batches of texts of similar length: ids and mask (B, N), index (B,), and types (B, N) where there are such.

    Args:
        texts: Strings, or pairs of strings.
        settings: The task's input settings.
        batch_size: Most texts of a batch.

    Raises:
        ValueError: The settings are unknown, or a text is no string or empty.
    """
    if settings is None:
        raise ValueError(
            "the task does not know its tokenizer: load it with softformer.load(checkpoint), train it with a"
            " TextDataModule, or set task.input_settings = data.input_settings()"
        )
    several = as_list(texts, settings.get("pairs"))
    tokenizer = tokenizer_from(settings["tokenizer"])
    rows = [
        tokenizer(*((text,) if isinstance(text, str) else text), truncation=True, max_length=settings["max_length"])
        for text in several
    ]
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]["input_ids"]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        ids, mask = padded([np.array(rows[number]["input_ids"]) for number in chosen], tokenizer.pad_token_id or 0)
        batch = {"ids": ids, "mask": mask, "index": torch.tensor(chosen)}
        if "token_type_ids" in rows[chosen[0]]:
            batch["types"] = padded([np.array(rows[number]["token_type_ids"]) for number in chosen], 0)[0]
        yield batch


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Accept tokens that a network knows.

    Raises:
        ValueError: One lies outside its vocabulary.
    """
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
        raise ValueError(
            f"the text has token {int(ids.max())}, but the network knows tokens 0 to {vocab_size - 1}: use the "
            "tokenizer that it was trained with"
        )
