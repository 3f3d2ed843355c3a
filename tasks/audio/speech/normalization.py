"""How transcripts are written: what of case, punctuation and numerals is to be told apart."""

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
# Stands for the apostrophes that stay while the others go; transcripts do not hold it.
_KEPT = "\N{NULL}"


class Writing(Options):
    """Normalizes transcripts, so that one way of writing a word is learned and counted.

    Numerals come first, then punctuation, then case. Whatever the options, the text is in Unicode's composed form
    (NFC), has single spaces between words and none at its ends.

    Args:
        case: "keep", or make all letters "lower" or "upper".
        punctuation: "keep", or "remove": each sign (Unicode's categories P) gives way to a space, apart from
            apostrophes within words, which become straight.
        numerals: "keep", or "spell": digits one by one in English, "42nd" as "four two nd".

    Raises:
        ValueError: An option is none of these.
    """

    def __init__(self, case: Case = "keep", punctuation: Punctuation = "keep", numerals: Numerals = "keep") -> None:
        self.case = check_choice("writing.case", case, get_args(Case))
        self.punctuation = check_choice("writing.punctuation", punctuation, get_args(Punctuation))
        self.numerals = check_choice("writing.numerals", numerals, get_args(Numerals))

    @property
    def settings(self) -> dict[str, Any]:
        """The options as plain values, from which `writing_from` makes them again."""
        return self.init_args

    def __call__(self, text: str) -> str:
        """A transcript, normalized; empty where nothing is left."""
        text = unicodedata.normalize("NFC", text)  # marks apart from their letters would end words
        if self.numerals == "spell":
            text = spelled(text)
        if self.punctuation == "remove":
            text = without_punctuation(text)
        if self.case != "keep":
            text = text.lower() if self.case == "lower" else text.upper()
        return " ".join(unicodedata.normalize("NFC", text).split())


def writing_from(settings: dict[str, Any]) -> Writing:
    """The options that `Writing.settings` described."""
    return Writing(**settings)


def spelled(text: str) -> str:
    """A text whose digits, of any script, are English words, set apart from each other and from letters."""

    def words(numeral: re.Match[str]) -> str:
        before, after = text[: numeral.start()][-1:], text[numeral.end() :][:1]
        spoken = " ".join(_DIGITS[int(digit)] for digit in numeral.group())
        return f"{' ' if before.isalpha() else ''}{spoken}{' ' if after.isalpha() else ''}"

    return _NUMERAL.sub(words, text)


def without_punctuation(text: str) -> str:
    """A text with spaces for its punctuation, and straight apostrophes within words."""
    kept = _WITHIN_WORD.sub(_KEPT, text)
    spaced = "".join(" " if unicodedata.category(sign).startswith("P") else sign for sign in kept)
    return spaced.replace(_KEPT, "'")
