"""Texts as batches for a network that is called by itself, without a data module."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.text.tokenizers import tokenizer_from

Text = str | tuple[str, str]


def as_list(texts: Text | Sequence[Text]) -> list[Text]:
    """One text, or one pair, or several of either as a list."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, tuple) and len(texts) == 2 and all(isinstance(part, str) for part in texts):
        return [(str(texts[0]), str(texts[1]))]
    return list(texts)


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
    several = as_list(texts)
    for number, text in enumerate(several):
        parts = text if isinstance(text, tuple) else (text,)
        if len(parts) > 2 or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"texts: expected strings or pairs of strings, got {text!r} at place {number}")
        if not parts[0].strip():
            raise ValueError(f"texts: the text at place {number} is empty")
    tokenizer = tokenizer_from(settings["tokenizer"])
    rows = [
        tokenizer(*((text,) if isinstance(text, str) else text), truncation=True, max_length=settings["max_length"])
        for text in several
    ]
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]["input_ids"]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        padded = tokenizer.pad([rows[number] for number in chosen], return_tensors="pt")
        batch = {"ids": padded["input_ids"], "mask": padded["attention_mask"].bool(), "index": torch.tensor(chosen)}
        if "token_type_ids" in padded:
            batch["types"] = padded["token_type_ids"]
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
