"""Normalization of transcripts: case, punctuation, and numerals."""

import re
import unicodedata
from typing import Any, Literal, get_args

from softformer.ops.options import Options, check_choice

Case = Literal["keep", "lower", "upper"]
Punctuation = Literal["keep", "remove"]
Numerals = Literal["keep", "spell"]

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_NUMERAL = re.compile(r"\d+")
_WITHIN_WORD = re.compile(rf"(?<=[^\W_])[{_APOSTROPHES}](?=[^\W_])")
# Replaces apostrophes within words until punctuation is removed; transcripts do not contain it.
_APOSTROPHE = "\N{NULL}"


class Writing(Options):
    """Normalizes transcripts, so that each word has one spelling.

    Numerals come first, then punctuation, then case. Normalized transcripts are always in Unicode's composed form
    (NFC), with single spaces between words and none at their ends.

    Args:
        case: "keep", or make all letters "lower" or "upper".
        punctuation: "keep", or "remove": a space replaces each punctuation character (Unicode's categories P), except
            apostrophes within words, which become straight.
        numerals: "keep", or "spell": digits one by one in English, "42nd" as "four two nd".

    Raises:
        ValueError: An option has another value.
    """

    def __init__(self, case: Case = "keep", punctuation: Punctuation = "keep", numerals: Numerals = "keep") -> None:
        self.case = check_choice("writing.case", case, get_args(Case))
        self.punctuation = check_choice("writing.punctuation", punctuation, get_args(Punctuation))
        self.numerals = check_choice("writing.numerals", numerals, get_args(Numerals))

    @property
    def settings(self) -> dict[str, Any]:
        """The options as plain values."""
        return self.init_args

    def __call__(self, text: str) -> str:
        """The normalized transcript, which may be empty."""
        text = unicodedata.normalize("NFC", text)  # combining marks by themselves would end words
        if self.numerals == "spell":
            text = _spelled(text)
        if self.punctuation == "remove":
            text = _without_punctuation(text)
        if self.case != "keep":
            text = text.lower() if self.case == "lower" else text.upper()
        return " ".join(unicodedata.normalize("NFC", text).split())


def _spelled(text: str) -> str:
    """A text with English words instead of digits of any script, with spaces between them and next to letters."""

    def words(numeral: re.Match[str]) -> str:
        before, after = text[: numeral.start()][-1:], text[numeral.end() :][:1]
        digits = " ".join(_DIGITS[int(digit)] for digit in numeral.group())
        return f"{' ' if before.isalpha() else ''}{digits}{' ' if after.isalpha() else ''}"

    return _NUMERAL.sub(words, text)


def _without_punctuation(text: str) -> str:
    """A text with spaces instead of punctuation, and straight apostrophes within words."""
    text = _WITHIN_WORD.sub(_APOSTROPHE, text)
    spaced = "".join(" " if unicodedata.category(character).startswith("P") else character for character in text)
    return spaced.replace(_APOSTROPHE, "'")
