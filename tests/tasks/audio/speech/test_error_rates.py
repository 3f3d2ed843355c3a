"""Word and character error rates: equal to those of torchmetrics, in less memory."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.text import CharErrorRate, WordErrorRate

from tasks.audio.speech.error_rates import CharacterErrors, WordErrors, edit_distance


@pytest.mark.parametrize(
    ("first", "second", "errors"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("abcd", "bcda", 2),
        (["two", "six"], ["two", "seven", "six"], 1),
    ],
)
def test_edit_distance(first: Any, second: Any, errors: int) -> None:
    assert edit_distance(first, second) == errors
    assert edit_distance(second, first) == errors


@pytest.mark.parametrize(("ours", "theirs"), [(WordErrors, WordErrorRate), (CharacterErrors, CharErrorRate)])
def test_rates_are_those_of_torchmetrics(ours: Any, theirs: Any) -> None:
    random = np.random.default_rng(0)
    words = ["two", "six", "to", "sixty", "a"]
    metric, law = ours(), theirs()
    for _ in range(3):
        transcripts = [" ".join(random.choice(words, random.integers(1, 12))) for _ in range(7)]
        hypotheses = [" ".join(random.choice(words, random.integers(0, 12))) for _ in range(7)]
        metric.update(hypotheses, transcripts)
        law.update(hypotheses, transcripts)
    assert law.compute() > 0
    torch.testing.assert_close(metric.compute(), law.compute())


def test_memory_is_linear_in_the_length() -> None:
    first, second = ("".join(np.random.default_rng(seed).choice(list("abc"), 2003)) for seed in (0, 1))
    tracemalloc.start()
    assert 500 < edit_distance(first, second) < 2003
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2003 * 2003 / 4  # bytes
