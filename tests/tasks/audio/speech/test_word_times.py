"""Times of words: of the hypothesis of greedy decoding, and of a text by forced alignment."""

from itertools import groupby, product

import pytest
import torch
from torch import Tensor

from tasks.audio.speech.ctc import likeliest_units
from tasks.audio.speech.units import BpeUnits, CharacterUnits, Units
from tasks.audio.speech.word_times import WordTime, best_path, word_times

# Space 1, a 2, b 3, c 4.
UNITS = CharacterUnits().build(["ab c"])
SECONDS = 0.25


def probabilities_of(path: list[int], size: int) -> Tensor:
    """Logarithms of probabilities (N, V) of which greedy decoding takes the path."""
    return (5.0 * torch.eye(size, dtype=torch.float64)[torch.tensor(path, dtype=torch.long)]).log_softmax(-1)


def times(path: list[int], units: Units = UNITS, text: str | None = None) -> list[WordTime]:
    return word_times(probabilities_of(path, units.size), units, token_seconds=SECONDS, text=text)


def test_times_of_a_hypothesis() -> None:
    #       0  1  2  3  4  5  6  7  8  9  10 11 12
    path = [0, 2, 2, 0, 3, 1, 1, 0, 1, 4, 0, 4, 0]
    assert times(path) == [WordTime("ab", 0.25, 1.25), WordTime("cc", 2.25, 3.0)]
    assert times([1, 0, 2, 1, 0, 1]) == [WordTime("a", 0.5, 0.75)]
    assert times([4]) == [WordTime("c", 0.0, 0.25)]


def test_no_word_ends_after_the_recording() -> None:
    logs = probabilities_of([2, 1, 4, 4], UNITS.size)
    for text in (None, "a c"):
        words = word_times(logs, UNITS, token_seconds=SECONDS, seconds=0.9, text=text)
        assert words == [WordTime("a", 0.0, 0.25), WordTime("c", 0.5, 0.9)]


@pytest.mark.parametrize("path", [[], [0], [0, 0, 0], [1, 0, 1]])
def test_no_words(path: list[int]) -> None:
    assert times(path) == []


def test_times_of_a_text() -> None:
    path = [0, 2, 2, 0, 3, 1, 1, 0, 0, 4, 0, 4, 0]
    assert times(path, text="ab cc") == times(path) == [WordTime("ab", 0.25, 1.25), WordTime("cc", 2.25, 3.0)]
    found = times(path, text="b c")
    assert [word.word for word in found] == ["b", "c"]
    assert found[0].end <= found[1].start
    assert times(path, text="") == []


def test_units_of_several_characters() -> None:
    text = "the cat sat on the mat the cat"
    units = BpeUnits(vocab_size=23).build([text] * 3)
    ids = units.encode(text)
    assert len(ids) < len(text)  # some units are longer than a character
    # Each unit in two tokens, with a blank between units.
    path = [token for number in ids for token in (number, number, 0)]
    found = times(path, units)
    assert [word.word for word in found] == text.split()
    # The space is written with the word behind it, so words begin with units.
    first = [len(units.encode(" ".join(text.split()[:number]))) for number in range(len(found))]
    assert [word.start for word in found] == [3 * number * SECONDS for number in first]
    last = [*first[1:], len(ids)]
    assert [word.end for word in found] == [(3 * number - 1) * SECONDS for number in last]
    assert times(path, units, text=text) == found


def test_the_best_path_is_the_best_of_all() -> None:
    logs = torch.randn(7, 3, dtype=torch.float64).log_softmax(-1)
    for ids in ([1], [2, 1], [1, 1], [2, 2, 1]):
        paths = [p for p in product(range(3), repeat=7) if [unit for unit, _ in groupby(p) if unit] == ids]
        best = max(paths, key=lambda path: float(logs[torch.arange(7), list(path)].sum()))
        assert best_path(logs, ids).tolist() == list(best)
    assert best_path(logs, []).tolist() == [0] * 7


def test_a_hypothesis_needs_no_alignment() -> None:
    for length in (1, 2, 31, 101):
        logs = torch.randn(length, 7, dtype=torch.float64).log_softmax(-1)
        (ids,) = likeliest_units(logs[None], torch.tensor([length]))
        assert best_path(logs, ids).tolist() == logs.argmax(-1).tolist()


def test_a_text_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="text: its 3 units need a recording of at least 4 tokens, got 3"):
        times([2, 3, 4], text="abb")
    with pytest.raises(ValueError, match="the text has characters that the units lack: 'x', 'ü'"):
        times([2, 3, 4, 0, 0, 0], text="xaü")


def test_a_text_that_is_too_long_to_be_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    path = [2, 0, 3, 0, 0]
    monkeypatch.setattr("tasks.audio.speech.word_times._MOST_PAIRS", 5 * 5)
    assert times(path, text="ab")
    monkeypatch.setattr("tasks.audio.speech.word_times._MOST_PAIRS", 5 * 5 - 1)
    with pytest.raises(
        ValueError, match=r"text: units times tokens must be at most [0-9,]+, got 2 units and 5 tokens; divide"
    ):
        times(path, text="ab")
    assert times(path)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_probabilities_that_are_not_finite(value: float) -> None:
    logs = probabilities_of([2, 0, 3, 0, 0], UNITS.size)
    logs[3, 1] = value
    with pytest.raises(ValueError, match="log_probs must be finite"):
        word_times(logs, UNITS, token_seconds=SECONDS, text="ab")
