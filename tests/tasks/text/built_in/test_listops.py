"""ListOps: grammar, answers by an evaluator of our own, lengths, splits, determinism, errors."""

import hashlib
from pathlib import Path
from typing import Any

import datasets
import pytest

from tasks.text.built_in import listops as module
from tasks.text.built_in.listops import expressions, listops

SHORT: dict[str, Any] = {"min_length": 4, "max_length": 60, "max_depth": 5, "max_args": 7, "seed": 3}


def evaluate(text: str) -> tuple[int, int, int]:
    """Value, greatest depth and most arguments of an expression: a stack machine that checks the grammar."""
    stack: list[tuple[str, list[int]]] = [("", [])]
    deepest = widest = 0
    for token in text.split(" "):
        if token in ("[MIN", "[MAX", "[MED", "[SM"):
            stack.append((token, []))
            continue
        if token == "]":
            name, found = stack.pop()
            assert len(found) >= 2
            widest = max(widest, len(found))
            value = answer(name, found)
        else:
            assert len(token) == 1
            assert token in "0123456789"
            value, deepest = int(token), max(deepest, len(stack))
        stack[-1][1].append(value)
    ((name, found),) = stack
    assert (name, len(found)) == ("", 1)
    return found[0], deepest, widest


def answer(name: str, found: list[int]) -> int:
    found = sorted(found)
    if name == "[MIN":
        return found[0]
    if name == "[MAX":
        return found[-1]
    if name == "[SM":
        return sum(found) - sum(found) // 10 * 10
    half = len(found) // 2
    return found[half] if len(found) % 2 else int((found[half - 1] + found[half]) / 2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of data sets that holds nothing yet."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    return tmp_path


def test_the_evaluator_reads_the_example_of_the_paper() -> None:
    assert evaluate("[MAX 2 9 [MIN 4 7 ] 0 ]") == (9, 3, 4)
    assert evaluate("[MED 1 8 [SM 9 9 3 ] 2 5 7 ]") == (3, 3, 6)


@pytest.mark.parametrize("shape", [SHORT, {**SHORT, "min_length": 37, "max_length": 41, "max_depth": 10, "seed": 11}])
def test_labels_are_the_values(shape: dict[str, Any]) -> None:
    rows = list(expressions(701, **shape))
    found = [evaluate(text) for text, _ in rows]
    assert [value for value, _, _ in found] == [label for _, label in rows]
    assert {label for _, label in rows} == set(range(10))
    lengths = [len(text.split(" ")) for text, _ in rows]
    assert shape["min_length"] <= min(lengths) < max(lengths) <= shape["max_length"]
    assert max(widest for _, _, widest in found) == shape["max_args"]
    assert len({text for text, _ in rows}) == 701


def test_the_limits_are_reached_and_not_exceeded() -> None:
    found = [evaluate(text) for text, _ in expressions(977, **{**SHORT, "max_depth": 3, "max_args": 5})]
    assert max(depth for _, depth, _ in found) == 3
    assert max(widest for _, _, widest in found) == 5


def test_median_of_an_even_number_is_rounded_down() -> None:
    texts = dict(expressions(64, min_length=4, max_length=4, max_depth=2, max_args=2, seed=0))
    assert len(texts) == 64
    medians = {text: value for text, value in texts.items() if text.startswith("[MED")}
    odd = {text: value for text, value in medians.items() if (int(text[5]) + int(text[7])) % 2}
    assert odd
    assert all(value == (int(text[5]) + int(text[7]) - 1) // 2 for text, value in odd.items())


def test_long_expressions_have_the_right_values_and_all_labels() -> None:
    rows = list(expressions(499, min_length=501, max_length=1_999, max_depth=10, max_args=10, seed=0))
    assert all(evaluate(text)[0] == label for text, label in rows)
    assert all(501 <= len(text.split(" ")) <= 1_999 for text, _ in rows)
    counts = [sum(label == digit for _, label in rows) for digit in range(10)]
    assert min(counts) > 0.03 * len(rows)
    assert max(counts) < 0.25 * len(rows)


def test_operators_arguments_and_digits_are_drawn_evenly() -> None:
    tokens = " ".join(text for text, _ in expressions(997, **{**SHORT, "min_length": 50})).split(" ")
    operators = [sum(token == name for token in tokens) for name in ("[MIN", "[MAX", "[MED", "[SM")]
    digits = [sum(token == str(digit) for token in tokens) for digit in range(10)]
    assert max(operators) < 1.15 * min(operators)
    assert max(digits) < 1.15 * min(digits)


def test_rows_follow_from_the_arguments_alone() -> None:
    rows = list(expressions(211, **SHORT))
    assert rows == list(expressions(211, **SHORT))
    assert rows[:97] == list(expressions(97, **SHORT))
    assert rows != list(expressions(211, **{**SHORT, "seed": 4}))
    # A change of the rows is a new data set: raise _VERSION with this number.
    assert module._VERSION == 1
    assert hashlib.blake2b(repr(rows).encode(), digest_size=8).hexdigest() == "8afbaee03475478a"


def test_splits(cache: Path) -> None:
    splits = listops(211, 31, 17, **SHORT)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 211, "validation": 31, "test": 17}
    assert list(splits) == ["train", "validation", "test"]
    assert splits["train"].features["label"] == datasets.ClassLabel(names=[str(digit) for digit in range(10)])
    texts = [text for rows in splits.values() for text in rows["text"]]
    assert len(set(texts)) == 259
    assert all(evaluate(row["text"])[0] == row["label"] for row in splits["test"])
    more = listops(307, 31, 17, **SHORT)
    assert more["test"][:] == splits["test"][:]
    assert more["validation"][:] == splits["validation"][:]


def test_rows_are_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = listops(13, 3, 2, **SHORT)
    assert str(cache) in first["train"].cache_files[0]["filename"]

    def fail(*args: Any) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr(module, "_grow", fail)
    again = listops(13, 3, 2, **SHORT)
    assert {name: rows._fingerprint for name, rows in again.items()} == {
        name: rows._fingerprint for name, rows in first.items()
    }
    with pytest.raises(Exception, match="An error occurred while generating"):
        listops(13, 3, 2, **{**SHORT, "seed": 5})


def test_sizes_of_the_built_in_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def record(generator: Any, features: Any, gen_kwargs: dict[str, Any], split: Any) -> datasets.Dataset:
        asked.append(gen_kwargs)
        rows = {"text": [""] * gen_kwargs["num_rows"], "label": [0] * gen_kwargs["num_rows"]}
        return datasets.Dataset.from_dict(rows, features=features)

    monkeypatch.setattr(datasets.Dataset, "from_generator", record)
    sizes = [{name: len(rows) for name, rows in make().items()} for make in (listops, module.listops_512)]
    assert sizes == [
        {"train": 96_000, "validation": 2_000, "test": 2_000},
        {"train": 20_000, "validation": 2_000, "test": 2_000},
    ]
    assert [(options["min_length"], options["max_length"]) for options in asked] == [(501, 1_999), (100, 510)]
    assert {(options["max_depth"], options["max_args"], options["seed"]) for options in asked} == {(10, 10, 0)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 0}, "num_train must be at least 1, got 0"),
        ({"num_val": 0}, "num_val must be at least 1, got 0"),
        ({"num_test": -1}, "num_test must be at least 1, got -1"),
        ({"max_depth": 1}, "max_depth must be at least 2, got 1"),
        ({"max_args": 1}, "max_args must be at least 2, got 1"),
        ({"min_length": 1, "max_length": 3}, "max_length must be at least 4 and at least min_length, got 3"),
        ({"max_length": 500}, "max_length must be .* got 500 with min_length 501"),
        ({"max_depth": 3, "max_args": 5}, "min_length must be at most 37, .* max_args 5, got 501"),
        ({"seed": -1}, r"seed must be 0 to 2\^32 - 1, got -1"),
    ],
)
def test_errors_name_the_argument(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        listops(**options)


def test_more_rows_than_expressions_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 3)
    with pytest.raises(
        ValueError, match=r"num_train \+ num_val \+ num_test must be .* got 403, but only 400 were found"
    ):
        listops(401, 1, 1, min_length=4, max_length=4, max_depth=2, max_args=2)
