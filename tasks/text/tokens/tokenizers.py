"""Tokenizers as configuration, and as the plain values that a checkpoint stores.

All tokenizers are `transformers.PreTrainedTokenizerFast`. The specifications here, except AutoTokenizerSpec, give the
tokens [PAD], [UNK], [CLS], [SEP], and [MASK] the numbers 0 to 4. They encode a text as "[CLS] A [SEP]" and a pair as
"[CLS] A [SEP] B [SEP]".
"""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from softformer.training.specs import Spec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PARALLELISM = "TOKENIZERS_PARALLELISM"
# Threads of the library do not survive a fork, and it would warn at each fork of a loader or of `datasets`. Processes
# share the work instead.
os.environ.setdefault(_PARALLELISM, "false")

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROLES = (*SPECIAL_TOKENS, "bos_token", "eos_token")
_SAMPLE = "A sentence, and another one: 1,234 words."


class TokenizerSpec(Spec, ABC):
    """Base of the specifications of tokenizers.

    Attributes:
        learns: Whether the tokenizer learns from the texts of the training split.
    """

    learns: ClassVar[bool] = False

    @abstractmethod
    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        """A new tokenizer, from the texts to learn from if it learns."""


class BytesSpec(TokenizerSpec):
    """The 256 bytes of UTF-8: byte b is token 5 + b. It encodes every text, and does not learn.

    Args:
        lowercase: Whether to lowercase texts.
    """

    def __init__(self, lowercase: bool = False) -> None:
        self.lowercase = lowercase

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        tokenizer = Tokenizer(models.BPE(vocab=_numbered(_byte_signs()), merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return _finished(tokenizer, self.lowercase)


class CodePointsSpec(TokenizerSpec):
    """A range of Unicode code points: code point first + c is token 5 + c, and others are [UNK]. It does not learn.

    Args:
        first: The first code point.
        count: Number of code points.
    """

    def __init__(self, first: int, count: int = 256) -> None:
        if not any(low <= first < first + count <= end for low, end in ((0, 0xD800), (0xE000, 0x110000))):
            raise ValueError(
                "tokenizer.first and tokenizer.count must give code points from 0 to 0xD7FF or from 0xE000 to "
                f"0x10FFFF, got {first} and {count}"
            )
        self.first, self.count = first, count

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        return _of_characters(map(chr, range(self.first, self.first + self.count)), lowercase=False)


class CharactersSpec(TokenizerSpec):
    """The characters of the training split, in the order of their code points; other characters are [UNK].

    Args:
        lowercase: Whether to lowercase texts.
    """

    learns = True

    def __init__(self, lowercase: bool = False) -> None:
        self.lowercase = lowercase

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        lower = normalizers.Lowercase()
        found: set[str] = set()
        for text in texts:
            found.update(lower.normalize_str(text) if self.lowercase else text)
        return _of_characters(sorted(found), self.lowercase)


class WordsSpec(TokenizerSpec):
    """The words of the training split, separated by whitespace; other words are [UNK].

    For texts of few different words, such as formulas. Words are ordered by frequency, then alphabetically.

    Args:
        vocab_size: Maximum number of tokens, special tokens included.
        lowercase: Whether to lowercase texts.
        min_frequency: Number of times that a word must occur to become a token.
    """

    learns = True

    def __init__(self, vocab_size: int = 8192, lowercase: bool = False, min_frequency: int = 1) -> None:
        _check_learning(vocab_size, len(SPECIAL_TOKENS) + 1, "the special tokens and a word", min_frequency)
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self.min_frequency = min_frequency

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        counts: Counter[str] = Counter()
        lower, blanks = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
        for text in texts:
            # Python has other whitespace than the tokenizer, and other lowercase forms of some letters.
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
        vocab_size: Maximum number of tokens, special tokens and the 256 bytes included; few texts may give fewer.
        lowercase: Whether to lowercase texts.
        min_frequency: Number of times that a pair must occur to become a token.

    Source: R. Sennrich et al. 2016 (arXiv 1508.07909); bytes and the division into words are those of GPT-2.
    """

    learns = True

    def __init__(self, vocab_size: int = 8192, lowercase: bool = False, min_frequency: int = 2) -> None:
        _check_learning(vocab_size, len(SPECIAL_TOKENS) + 256, "the special tokens and 256 bytes", min_frequency)
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self.min_frequency = min_frequency

    def build(self, texts: Iterable[str]) -> "PreTrainedTokenizerFast":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.normalizer = normalizers.Lowercase() if self.lowercase else None
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=list(SPECIAL_TOKENS.values()),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            # The library would print empty lines into a file.
            show_progress=sys.stderr.isatty(),
        )
        threads = os.environ.get(_PARALLELISM, "false")
        os.environ[_PARALLELISM] = "true"
        try:
            tokenizer.train_from_iterator(texts, trainer)
        finally:
            os.environ[_PARALLELISM] = threads
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
            FileNotFoundError: There is no tokenizer of that name.
            ValueError: The tokenizer cannot be written as the JSON of `tokenizers`.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(os.path.expanduser(self.name))
        except (OSError, ValueError) as error:
            reason = (
                "the folder does not contain a tokenizer that transformers knows"
                if Path(self.name).expanduser().is_dir()
                else "there is no such local folder, and no such model in the cache or on the Hugging Face hub, if "
                "that can be reached"
            )
            raise FileNotFoundError(
                f"tokenizer.name={self.name!r}: {reason} ({str(error).strip().partition(chr(10))[0]}); give the folder "
                "of a tokenizer, or choose BytesSpec, which needs no files"
            ) from error
        again = tokenizer_from(tokenizer_settings(tokenizer)) if getattr(tokenizer, "is_fast", False) else None
        if again is None or again(_SAMPLE)["input_ids"] != tokenizer(_SAMPLE)["input_ids"]:
            raise ValueError(
                "tokenizer.name must be a tokenizer that the library `tokenizers` runs by itself, so that a checkpoint "
                f"can store it, got {type(tokenizer).__name__} of {self.name!r}; choose another, or a BpeSpec"
            )
        return again


def tokenizer_settings(tokenizer: "PreTrainedTokenizerFast") -> dict[str, Any]:
    """A tokenizer as plain values without files, which do not depend on earlier calls of the tokenizer."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return {
        "json": backend.to_str(),
        "special_tokens": {role: str(token) for role in _ROLES if (token := getattr(tokenizer, role)) is not None},
        "model_input_names": list(tokenizer.model_input_names),
    }


def tokenizer_from(settings: dict[str, Any]) -> "PreTrainedTokenizerFast":
    """The tokenizer of the plain values of `tokenizer_settings`; the same object for the same values."""
    return _made(json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=8)
def _made(description: str) -> "PreTrainedTokenizerFast":
    settings = json.loads(description)
    backend = Tokenizer.from_str(settings["json"])
    return _wrapped(backend, settings["special_tokens"], model_input_names=settings["model_input_names"])


def vocabulary_size(tokenizer: "PreTrainedTokenizerFast") -> int:
    """Number of vectors of an embedding: the largest token number plus 1, as token numbers may have gaps."""
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))


def _of_characters(characters: Iterable[str], lowercase: bool) -> "PreTrainedTokenizerFast":
    # A BPE without merges splits into characters, four times as fast as a list of words.
    model = models.BPE(vocab=_numbered(characters), merges=[], unk_token=SPECIAL_TOKENS["unk_token"])
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Fuse()
    return _finished(tokenizer, lowercase)


def _finished(tokenizer: Tokenizer, lowercase: bool) -> "PreTrainedTokenizerFast":
    """The tokenizer with lowercasing, special tokens, and their places in a text or a pair."""
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
    # Imported here, as the import is slow.
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side="right", clean_up_tokenization_spaces=False, **special_tokens, **options
    )


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    # A word of a text may equal a special token, whose number must stay.
    return {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL_TOKENS.values(), *tokens]))}


def _byte_signs() -> list[str]:
    """The characters of the bytes 0 to 255 in byte-level vocabularies: printable bytes are their own characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    others = iter([character for character in alphabet if ord(character) > 255])
    return [chr(byte) if chr(byte) in alphabet else next(others) for byte in range(256)]


def _check_learning(vocab_size: int, least: int, contents: str, min_frequency: int) -> None:
    if vocab_size < least:
        raise ValueError(f"tokenizer.vocab_size must be at least {least} ({contents}), got {vocab_size}")
    if min_frequency < 1:
        raise ValueError(f"tokenizer.min_frequency must be at least 1 (times that a token occurs), got {min_frequency}")
