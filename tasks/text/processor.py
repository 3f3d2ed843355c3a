"""The processor of texts: tokenizer, maximum length, and the names of the classes."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from softformer.training.checkpoints.weights import WeightReport
from tasks.data.examples import Batch, ReadError
from tasks.processor import Processor
from tasks.text.collating import TextCollator, TokenReader
from tasks.text.tokenized import Tokenize, log_cut
from tasks.text.tokens.agreement import check_same_tokens, token_difference
from tasks.text.tokens.tokenizers import tokenizer_from, vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Text = str | tuple[str, str]

_COLUMNS = ("text", "text_pair")


class TextProcessor(Processor):
    """Turns texts, or pairs of texts, into tokens.

    Args:
        tokenizer: The tokenizer as plain values (`tasks.text.tokens.tokenizers.tokenizer_settings`).
        max_length: Maximum number of tokens of a text, special tokens included; the rest is cut off.
        pairs: Whether inputs are pairs of texts. None if that is unknown.
        class_names: Names of the classes in the order of their numbers.
        multi_label: Whether a text has any number of classes.
    """

    def __init__(
        self,
        tokenizer: dict[str, str | list[str] | dict[str, str]],
        max_length: int = 512,
        pairs: bool | None = None,
        class_names: list[str] | None = None,
        multi_label: bool = False,
    ) -> None:
        self.settings: dict[str, Any] = tokenizer
        self.max_length = max_length
        self.pairs = pairs
        self.class_names = class_names or None
        self.multi_label = multi_label

    @property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The tokenizer."""
        return tokenizer_from(self.settings)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return vocabulary_size(self.tokenizer)

    @property
    def pad(self) -> int:
        """The token at padding; any token serves if the tokenizer has none, as the mask marks padding."""
        return self.tokenizer.pad_token_id or 0

    def tokenize(self, columns: Sequence[str], **options: Any) -> Tokenize:
        """A function that turns rows of texts into rows of tokens, with the column or the two columns of texts."""
        pairs = len(columns) == 2
        added = self.tokenizer.num_special_tokens_to_add(pairs)
        if pairs and added == 0:
            raise ValueError(
                "text_pair_column needs a tokenizer that separates the texts of a pair, got one that puts nothing "
                "between them; choose another, or BytesSpec, CharactersSpec, WordsSpec, or BpeSpec"
            )
        if self.max_length < (least := added + len(columns)):
            raise ValueError(
                f"max_length must be at least {least}, which leaves room for a token besides the special tokens, got "
                f"{self.max_length}"
            )
        types = pairs and "token_type_ids" in self.tokenizer.model_input_names
        return Tokenize(self.settings, list(columns), self.max_length, types=types, **options)

    def batches(self, texts: Text | Sequence[Text], batch_size: int) -> Iterator[Batch]:
        """Batches of texts of similar length, as `tasks.text.data.TextDataModule` makes them of texts to predict.

        Raises:
            ValueError: A text is not a string, or is empty.
        """
        texts = as_texts(texts, self.pairs)
        columns = _COLUMNS[: 2 if texts and isinstance(texts[0], tuple) else 1]
        parts = [text if isinstance(text, tuple) else (text,) for text in texts]
        table = dict(zip(columns, map(list, zip(*parts))))
        table |= self.tokenize(columns)(table, list(range(len(parts))))
        log_cut("texts", sum(table.pop("_cut")), len(texts), self.max_length)
        read, collate, rows = TokenReader(None, columns), TextCollator(self.pad), []
        for place, values in enumerate(zip(*table.values())):
            try:
                rows.append(read(dict(zip(table, values))))
            except ReadError as error:
                raise ReadError(f"texts, place {place}: {error}") from error
        order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield collate([rows[place] for place in chosen], np.array(chosen), 0)

    def check_weights(self, report: WeightReport) -> None:
        """Accept weights whose tokens have the same numbers, if these are known."""
        check_same_tokens(report, self.settings)

    def difference(self, other: "TextProcessor") -> str | None:
        """The first token that has another number in the other processor. None if the tokens are the same."""
        return token_difference(self.settings, other.settings)


def known_vocab_size(vocab_size: int | None, processor: TextProcessor | None) -> int | None:
    """The given number of tokens, or else the number of tokens of the processor."""
    return processor.vocab_size if vocab_size is None and processor is not None else vocab_size


def as_texts(texts: Text | Sequence[Text], pairs: bool | None) -> list[Text]:
    """A text or a pair, or a sequence of texts or pairs, as a list.

    With pairs None it is unknown whether texts must be pairs, and a tuple of two strings is one pair.
    """
    one = isinstance(texts, str) or (
        pairs is not False and isinstance(texts, tuple) and [type(part) for part in texts] == [str, str]
    )
    found: list[Any] = [texts] if one else list(texts)
    sizes, expected = {
        True: ((2,), "pairs of strings"),
        False: ((1,), "strings"),
        None: ((1, 2), "strings or pairs of strings"),
    }[pairs]
    for place, text in enumerate(found):
        parts = text if isinstance(text, tuple) else (text,)
        if len(parts) not in sizes or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"texts must be {expected}, got {text!r} at place {place}")
    return found
