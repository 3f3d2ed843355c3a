"""How transcripts are normalized."""

import unicodedata
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from softformer.training.specs import describe, rebuild
from tasks.audio.speech.normalization import Writing

ALL = Writing("lower", "remove", "spell")


@pytest.mark.parametrize("normalize", [Writing(), ALL, Writing(case="upper")], ids=repr)
def test_spaces_and_composed_form_always(normalize: Writing) -> None:
    assert normalize("  \t\n") == ""
    assert normalize(" a\t \nb\N{NO-BREAK SPACE}c ").lower() == "a b c"
    accented = normalize(unicodedata.normalize("NFD", "é ü"))
    assert len(accented) == 3
    assert accented.lower() == "é ü"


def test_nothing_else_unless_asked() -> None:
    text = "\N{LEFT DOUBLE QUOTATION MARK}Don't\N{RIGHT DOUBLE QUOTATION MARK}, said Ünal: 42 $!"
    assert Writing()(text) == text


@pytest.mark.parametrize(
    ("text", "lower", "upper"), [("Straße No", "straße no", "STRASSE NO"), ("İş", "i̇ş", "İŞ"), ("ЖУК", "жук", "ЖУК")]
)
def test_case(text: str, lower: str, upper: str) -> None:
    assert Writing(case="lower")(text) == unicodedata.normalize("NFC", lower)
    assert Writing(case="upper")(text) == upper


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "Hello world"),
        ("it's the dogs' 'n' don\N{RIGHT SINGLE QUOTATION MARK}t", "it's the dogs n don't"),
        ("'tis well-known -- e.g. 3,000.5", "tis well known e g 3 000 5"),
        ("\N{DOUBLE HIGH-REVERSED-9 QUOTATION MARK}oui\N{HORIZONTAL ELLIPSIS} 中\N{IDEOGRAPHIC FULL STOP}", "oui 中"),
        ("5 $ + a_b", "5 $ + a b"),
        ("...", ""),
    ],
)
def test_punctuation(text: str, expected: str) -> None:
    assert Writing(punctuation="remove")(text) == expected


def test_letters_whose_marks_stand_apart_are_letters() -> None:
    for text in ("café's", "naïve-1"):
        assert ALL(unicodedata.normalize("NFD", text)) == ALL(text)
    assert ALL(unicodedata.normalize("NFD", "Café's")) == "café's"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", "four two"),
        ("room 7.", "room seven."),
        ("42nd and a1b2", "four two nd and a one b two"),
        ("1,980", "one,nine eight zero"),
        ("\N{ARABIC-INDIC DIGIT THREE}\N{ARABIC-INDIC DIGIT SIX}5", "three six five"),
        ("no numerals", "no numerals"),
    ],
)
def test_numerals(text: str, expected: str) -> None:
    assert Writing(numerals="spell")(text) == expected


def test_all_together() -> None:
    assert ALL("Don't dial 1-980, Ümit!") == "don't dial one nine eight zero ümit"
    assert Writing("upper", "remove", "spell")("Don't dial 1-980") == "DON'T DIAL ONE NINE EIGHT ZERO"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"case": "title"}, "writing.case must be one of 'keep', 'lower', 'upper', got 'title'"),
        ({"punctuation": "lower"}, "writing.punctuation must be one of 'keep', 'remove', got 'lower'"),
        ({"numerals": "words"}, "writing.numerals must be one of 'keep', 'spell', got 'words'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Writing(**options)


def test_it_is_stored_as_plain_values() -> None:
    assert ALL.settings == {"case": "lower", "punctuation": "remove", "numerals": "spell"}
    assert Writing(**ALL.settings) == ALL
    assert rebuild(Writing, describe(ALL)) == ALL


@pytest.mark.parametrize(("option", "value"), [("case", "upper"), ("punctuation", "remove"), ("numerals", "spell")])
def test_options_from_the_command_line(option: str, value: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Writing, "writing")
    config = parser.parse_args(["--writing=Writing", f"--writing.{option}={value}"])
    assert parser.instantiate(config).writing == Writing(**{option: value})  # type: ignore[arg-type]
