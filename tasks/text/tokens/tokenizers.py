"""Tokenizers as configuration, and as the plain values that a checkpoint keeps.

All are `transformers.PreTrainedTokenizerFast`. Those made here have the tokens [PAD], [UNK], [CLS], [SEP] and [MASK] as
numbers 0 to 4, and put texts as "[CLS] A [SEP]", pairs as "[CLS] A [SEP] B [SEP]".
"""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from softformer.training.specs import Spec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PARALLELISM = "TOKENIZERS_PARALLELISM"
# The threads of the library do not live on in the forks that loaders and `datasets` make, so it would warn at each of
# these. Processes share the work instead.
os.environ.setdefault(_PARALLELISM, "false")

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROLES = (*SPECIAL_TOKENS, "bos_token", "eos_token")
_SURROGATES = (0xD800, 0xDFFF)
_FEWEST_BPE = len(SPECIAL_TOKENS) + 256
_SAMPLE = "A sentence, and another one: 1,234 words."


class TokenizerSpec(Spec, ABC):
    """Describes a tokenizer and makes it.

    Attributes:
        learns: Whether it is made from the texts of the training split.
    """

    learns: ClassVar[bool] = False

    @abstractmethod
    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """A new tokenizer.

        Args:
            texts: What it learns from, where it learns.

        Raises:
            ValueError: It cannot be made.
        """


class BytesSpec(TokenizerSpec):
    """The 256 bytes of UTF-8: byte b is token 5 + b. Every text can be written, and nothing is learned.

    Args:
        lowercase: Whether texts become lower case.
    """

    def __init__(self, lowercase: bool = False) -> None:
        self.lowercase = lowercase

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """A tokenizer of 261 tokens."""
        tokenizer = Tokenizer(models.BPE(vocab=_numbered(_byte_signs()), merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return _finished(tokenizer, self.lowercase)


class CodePointsSpec(TokenizerSpec):
    """A range of Unicode code points: the character of code point first + c is token 5 + c; others are [UNK].

    Args:
        first: The first code point.
        count: Number of code points.
    """

    def __init__(self, first: int, count: int = 256) -> None:
        last = first + count - 1
        if not (0 <= first <= last < _SURROGATES[0] or _SURROGATES[1] < first <= last <= sys.maxunicode):
            raise ValueError(
                "tokenizer.first and tokenizer.count must give code points from 0 to 0xD7FF or from 0xE000 to "
                f"0x10FFFF, got {first} and {count}"
            )
        self.first = first
        self.count = count

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """A tokenizer of 5 + count tokens."""
        return _of_characters(map(chr, range(self.first, self.first + self.count)), lowercase=False)


class CharactersSpec(TokenizerSpec):
    """The characters (Unicode code points) of the training split, in their order; others are [UNK].

    Args:
        lowercase: Whether texts become lower case.
    """

    learns = True

    def __init__(self, lowercase: bool = False) -> None:
        self.lowercase = lowercase

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """A tokenizer of the characters that occur in the texts."""
        lower = normalizers.Lowercase()
        found: set[str] = set()
        for text in texts:
            found.update(lower.normalize_str(text) if self.lowercase else text)
        return _of_characters(sorted(found), self.lowercase)


class WordsSpec(TokenizerSpec):
    """The words of the training split, which are what stands between blanks; others are [UNK].

    For texts of few different words, such as formulas. The most frequent come first, equals in alphabetical order.

    Args:
        vocab_size: Most tokens, special ones included.
        lowercase: Whether texts become lower case.
        min_frequency: How often a word must occur to become a token.
    """

    learns = True

    def __init__(self, vocab_size: int = 8192, lowercase: bool = False, min_frequency: int = 1) -> None:
        _check_at_least("vocab_size", vocab_size, len(SPECIAL_TOKENS) + 1, "the special tokens and a word")
        _check_at_least("min_frequency", min_frequency, 1, "times that a word occurs")
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self.min_frequency = min_frequency

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """A tokenizer of the words that occur in the texts."""
        counts: Counter[str] = Counter()
        lower, blanks = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
        for text in texts:
            # As the tokenizer itself does it: Python has other blanks, and another lower case of some letters.
            words = blanks.pre_tokenize_str(lower.normalize_str(text) if self.lowercase else text)
            counts.update(word for word, _ in words)
        frequent = (word for word in counts if counts[word] >= self.min_frequency)
        ranked = sorted(frequent, key=lambda word: (-counts[word], word))
        vocab = _numbered(ranked[: self.vocab_size - len(SPECIAL_TOKENS)])
        tokenizer = Tokenizer(models.WordLevel(vocab=vocab, unk_token=SPECIAL_TOKENS["unk_token"]))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return _finished(tokenizer, self.lowercase)


class BpeSpec(TokenizerSpec):
    """Byte pair encoding of bytes, learned from the training split: frequent sequences of bytes become tokens.

    Args:
        vocab_size: Most tokens, special ones and the 256 bytes included; few texts may give fewer.
        lowercase: Whether texts become lower case.
        min_frequency: How often a pair must occur to become a token.

    Source: R. Sennrich et al. 2016 (arXiv 1508.07909), over bytes as in GPT-2, whose division into words it uses.
    """

    learns = True

    def __init__(self, vocab_size: int = 8192, lowercase: bool = False, min_frequency: int = 2) -> None:
        _check_at_least("vocab_size", vocab_size, _FEWEST_BPE, "the special tokens and 256 bytes")
        _check_at_least("min_frequency", min_frequency, 1, "times that a pair occurs")
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self.min_frequency = min_frequency

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """A tokenizer trained on the texts."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.normalizer = normalizers.Lowercase() if self.lowercase else None
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=list(SPECIAL_TOKENS.values()),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            # Where nobody looks on, the library would print empty lines.
            show_progress=sys.stderr.isatty(),
        )
        with _threads():
            tokenizer.train_from_iterator(texts, trainer)
        return _finished(tokenizer, self.lowercase)


class AutoTokenizerSpec(TokenizerSpec):
    """Any tokenizer of transformers.

    Args:
        name: Model on the hub, or a local folder with its tokenizer.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """The tokenizer.

        Raises:
            FileNotFoundError: There is none of that name.
            ValueError: It cannot be written as the JSON of `tokenizers`.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(os.path.expanduser(self.name))
        except (OSError, ValueError) as error:
            folder = Path(self.name).expanduser().is_dir()
            reason = (
                "the folder holds no tokenizer that transformers knows"
                if folder
                else "there is no such local folder, and no such model in the cache or on the Hugging Face hub, where "
                "that can be reached"
            )
            remedy = "Give the folder of a tokenizer, or take BytesSpec, which needs none"
            raise FileNotFoundError(
                f"tokenizer.name={self.name!r}: {reason} ({_first_line(error)}). {remedy}"
            ) from error
        again = tokenizer_from(tokenizer_settings(tokenizer)) if getattr(tokenizer, "is_fast", False) else None
        if again is None or again(_SAMPLE)["input_ids"] != tokenizer(_SAMPLE)["input_ids"]:
            raise ValueError(
                f"tokenizer.name={self.name!r}: expected a tokenizer that the library `tokenizers` runs by itself, got "
                f"{type(tokenizer).__name__}, which a checkpoint could not keep; choose another, or a BpeSpec"
            )
        return again


def tokenizer_settings(tokenizer: "PreTrainedTokenizerFast") -> dict[str, Any]:
    """A tokenizer as plain values, which need no files; the same for equal tokenizers, whatever they were used for."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    tokens = {role: getattr(tokenizer, role) for role in _ROLES}
    return {
        "json": backend.to_str(),
        "special_tokens": {role: str(token) for role, token in tokens.items() if token is not None},
        "model_input_names": list(tokenizer.model_input_names),
    }


def tokenizer_from(settings: dict[str, Any]) -> "PreTrainedTokenizerFast":
    """The tokenizer that `tokenizer_settings` described; the same object for the same settings."""
    return _made(json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=8)
def _made(description: str) -> "PreTrainedTokenizerFast":
    settings = json.loads(description)
    backend = Tokenizer.from_str(settings["json"])
    return _wrapped(backend, settings["special_tokens"], model_input_names=settings["model_input_names"])


def vocabulary_size(tokenizer: "PreTrainedTokenizerFast") -> int:
    """How many vectors an embedding needs: the largest token number and one; numbers may have gaps."""
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))


def _of_characters(characters: Iterable[str], lowercase: bool) -> "PreTrainedTokenizerFast":
    # A BPE without merges splits into characters, four times as fast as a list of words.
    model = models.BPE(vocab=_numbered(characters), merges=[], unk_token=SPECIAL_TOKENS["unk_token"])
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Fuse()
    return _finished(tokenizer, lowercase)


def _finished(tokenizer: Tokenizer, lowercase: bool) -> "PreTrainedTokenizerFast":
    """With special tokens and their places."""
    tokenizer.normalizer = normalizers.Lowercase() if lowercase else None
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    first, last = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return _wrapped(tokenizer, SPECIAL_TOKENS)


def _wrapped(backend: Tokenizer, special_tokens: dict[str, str], **options: Any) -> "PreTrainedTokenizerFast":
    # Imported where it is needed: it takes a while.
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side="right", clean_up_tokenization_spaces=False, **special_tokens, **options
    )


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    # A word of a text may look like a special token, whose number must stay.
    return {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL_TOKENS.values(), *tokens]))}


def _byte_signs() -> list[str]:
    """The visible characters that stand for the bytes 0 to 255 in byte-level vocabularies.

    Printable bytes stand for themselves, the others for the characters from 256 on, in their order (as in GPT-2).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


@contextmanager
def _threads() -> Iterator[None]:
    """Let the library share work out to threads, inside the block."""
    before = os.environ.get(_PARALLELISM, "false")
    os.environ[_PARALLELISM] = "true"
    try:
        yield
    finally:
        os.environ[_PARALLELISM] = before


def _check_at_least(argument: str, value: int, least: int, what: str) -> None:
    if value < least:
        raise ValueError(f"tokenizer.{argument}: expected at least {least} ({what}), got {value}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
