"""Classes of label columns of every type."""

from typing import Any

import datasets
import numpy as np
import pytest
import torch

from tasks.data.labels import Labels, labels_as_trained, labels_from

_NAMED = datasets.ClassLabel(names=["cat", "dog", "owl"])


def _rows(values: list[Any], feature: Any = None) -> datasets.Dataset:
    features = datasets.Features({"label": feature}) if feature is not None else None
    return datasets.Dataset.from_dict({"label": values}, features=features)


def _labels(rows: datasets.Dataset, names: list[str] | None = None, training: bool = True) -> Labels:
    return labels_from("label", rows.features["label"], class_names=names, training_rows=rows if training else None)


def _check(labels: Labels, rows: datasets.Dataset) -> Any:
    return labels.check(rows, "split 'test'", np.arange(100, 100 + len(rows)))


@pytest.mark.parametrize(
    ("values", "feature", "names", "encoded"),
    [
        ([2, 0, 1], _NAMED, ["cat", "dog", "owl"], [2, 0, 1]),
        ([30, 10, 30, 20], None, ["10", "20", "30"], [2, 0, 2, 1]),
        (["owl", "ant", "owl"], None, ["ant", "owl"], [1, 0, 1]),
        ([True, False], None, ["False", "True"], [1, 0]),
        ([7, 3], datasets.Value("uint8"), ["3", "7"], [1, 0]),
        (["b", "a"], datasets.Value("large_string"), ["a", "b"], [1, 0]),
        (["10", "9", "-1"], None, ["-1", "9", "10"], [2, 1, 0]),
        (["010", "007", "7"], None, ["007", "7", "010"], [2, 0, 1]),
        (["None", "NA", "null"], None, ["NA", "None", "null"], [1, 0, 2]),
        (["10", "9", "x"], None, ["10", "9", "x"], [0, 1, 2]),
    ],
)
def test_single_labels(values: list[Any], feature: Any, names: list[str], encoded: list[int]) -> None:
    rows = _rows(values, feature)
    labels = _labels(rows)
    assert (labels.names, labels.multi_label) == (names, False)
    assert _check(labels, rows).tolist() == encoded
    assert [labels.encode_row(row["label"]) for row in rows] == encoded
    assert labels.targets(encoded).dtype == torch.int64
    assert labels.targets(encoded).tolist() == encoded


@pytest.mark.parametrize(
    ("values", "feature", "names"),
    [
        ([[2, 0], [], [1]], datasets.List(_NAMED), ["cat", "dog", "owl"]),
        ([[30, 10], [], [20]], None, ["10", "20", "30"]),
        ([["c", "a"], [], ["b"]], None, ["a", "b", "c"]),
        ([["c", "a"], None, ["b"]], None, ["a", "b", "c"]),
        ([[2, 0], [], [1]], datasets.LargeList(datasets.Value("int64")), ["0", "1", "2"]),
    ],
)
def test_several_labels_become_zeros_and_ones(values: list[Any], feature: Any, names: list[str]) -> None:
    rows = _rows(values, feature)
    labels = _labels(rows)
    assert (labels.names, labels.multi_label) == (names, True)
    assert _check(labels, rows) is None
    targets = labels.targets([labels.encode_row(row["label"]) for row in rows])
    assert targets.dtype == torch.float32
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_given_names_replace_those_of_the_data_and_serve_where_it_has_none() -> None:
    assert _labels(_rows([0, 1], _NAMED), ["x", "y", "z"]).names == ["x", "y", "z"]
    numbered = _labels(_rows([0, 1]), ["x", "y", "z"], training=False)
    assert (numbered.names, numbered.encode_row(2)) == (["x", "y", "z"], 2)
    named = _labels(_rows(["y"]), ["x", "y"], training=False)
    assert named.encode_row("y") == 1


def test_a_column_of_text_may_have_the_numbers_of_given_names() -> None:
    rows = _rows(["0", "2", "cat"])
    labels = _labels(rows, ["ant", "bee", "cat"], training=False)
    assert _check(labels, rows).tolist() == [0, 2, 2]
    with pytest.raises(ValueError, match=r"'3' is not one of the 3 classes \('ant', 'bee', 'cat'\)"):
        labels.encode_row("3")
    numbered = _labels(_rows(["3"]), ["1", "2", "3"], training=False)
    assert numbered.encode_row("3") == 2
    with pytest.raises(ValueError, match="'0' is not one of the 3 classes"):
        numbered.encode_row("0")


@pytest.mark.parametrize("name", [True, 7, None])
def test_names_that_are_no_strings(name: Any) -> None:
    with pytest.raises(ValueError, match=f"class_names must be strings, got {name}; put names between quotes"):
        _labels(_rows(["y"]), ["x", name])


@pytest.mark.parametrize("value", [-1, 3])
def test_a_label_outside_the_classes_names_its_row(value: int) -> None:
    labels = labels_from("label", _NAMED)
    rows = _rows([0, 2, value, value], datasets.Value("int64"))
    message = rf"split 'test', row 102: label {value} in column 'label' is not one of the 3 classes \(0, 1, 2\); 2 such"
    with pytest.raises(ValueError, match=message):
        _check(labels, rows)
    with pytest.raises(ValueError, match=f"{value} is not one of the 3 classes"):
        labels.encode_row(value)


def test_a_label_that_training_does_not_know_names_its_row() -> None:
    labels = _labels(_rows(["ant", "owl"]))
    with pytest.raises(ValueError, match="row 101: label 'yak' in column 'label' is not one of the 2 classes"):
        _check(labels, _rows(["owl", "yak"]))


def test_one_of_several_labels_outside_the_classes_names_its_row() -> None:
    labels = labels_from("label", datasets.List(_NAMED))
    with pytest.raises(ValueError, match="row 102: label 5"):
        _check(labels, _rows([[0, 1], [], [2, 5]]))


def test_a_missing_label_names_its_row() -> None:
    rows = _rows(["a", None, "b", None])
    with pytest.raises(ValueError, match="2 rows have no value in the label column 'label', the first is row 101"):
        _check(_labels(rows), rows)


def test_long_lists_of_classes_are_cut() -> None:
    labels = _labels(_rows(list(range(50))))
    with pytest.raises(ValueError, match=r"50 classes \(0, 1, .*19, \.\.\.\)"):
        labels.encode_row(50)


@pytest.mark.parametrize("values", [[0.5, 1.5], [[0.5]], [{"a": 1}]])
def test_a_column_of_another_type_is_an_error(values: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"label_column must be a column of class labels .* got 'label'"):
        _labels(_rows(values))


@pytest.mark.parametrize("feature", ["float32", "float64"])
def test_whole_numbers_that_pandas_stores_as_floats_have_a_remedy(feature: str) -> None:
    message = (
        r"got 'label' of type .*float.* Store the labels as whole .*float64 where values are missing: remove these"
    )
    with pytest.raises(ValueError, match=message):
        _labels(_rows([1.0, None], datasets.Value(feature)))


@pytest.mark.parametrize("values", [["1.0", "2.0"], ["0.5", "2"], ["1e-3", ".25", "-1."]])
def test_fractions_in_a_column_of_text_are_an_error_unless_they_are_names(values: list[str]) -> None:
    with pytest.raises(
        ValueError, match=r"got 'label' of numbers with fractions \('.*\). Round them .* or list them by class_names"
    ):
        _labels(_rows(values))
    assert _labels(_rows(values), values).encode_row(values[0]) == 0


def test_a_column_without_any_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="label_column='label': no training row has a label; choose another column"):
        _labels(_rows([None, None], datasets.Value("string")))


def test_classes_that_cannot_be_found_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"label_column='label'.*does not tell its classes.*Give class_names"):
        _labels(_rows([0, 1]), training=False)


def test_the_names_of_the_column_in_another_order_are_an_error() -> None:
    known = _labels(_rows([0, 1], _NAMED)).names
    assert _labels(_rows([0, 1], _NAMED), known).names == known
    with pytest.raises(ValueError, match=r"class_names: column 'label' has these names itself, in the order \('"):
        _labels(_rows([0, 1], _NAMED), known[::-1])


def test_the_wrong_number_of_names_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"class_names must have 3 names, as column 'label' has them.*got 2"):
        _labels(_rows([0, 1], _NAMED), ["x", "y"])


@pytest.mark.parametrize(
    ("values", "feature", "names", "encoded"),
    [
        ([0, 1], datasets.ClassLabel(names=["owl", "cat"]), None, [2, 0]),
        ([0, 1], datasets.ClassLabel(names=["strix", "felis"]), ["owl", "cat"], [2, 0]),
        ([1, 0], datasets.Value("uint8"), ["owl", "cat"], [0, 2]),
        (["owl", "cat"], None, None, [2, 0]),
        ([2, 0], None, None, [2, 0]),
        (["2", "0"], None, None, [2, 0]),
        (["1", "0"], None, ["owl", "cat"], [0, 2]),
    ],
)
def test_labels_of_other_data_are_found_by_name(
    values: list[Any], feature: Any, names: Any, encoded: list[int]
) -> None:
    rows = _rows(values, feature)
    labels = labels_as_trained("label", rows.features["label"], ["cat", "dog", "owl"], class_names=names)
    assert labels.names == ["cat", "dog", "owl"]
    assert _check(labels, rows).tolist() == encoded
    assert [labels.encode_row(value) for value in values] == encoded
    assert labels.targets(encoded).tolist() == encoded


def test_numbers_that_were_the_names_in_training_are_found_as_such() -> None:
    trained = _labels(_rows([30, -7, 9]))
    again = labels_as_trained("label", datasets.Value("int64"), trained.names)
    assert again == trained
    written = labels_as_trained("label", datasets.Value("string"), trained.names)
    assert (
        _check(written, _rows(["30", "-7", "9"])).tolist() == _check(trained, _rows([30, -7, 9])).tolist() == [2, 0, 1]
    )
    truth = _labels(_rows([True, False]))
    assert labels_as_trained("label", datasets.Value("bool"), truth.names) == truth


def test_names_that_several_classes_share_stay_in_their_order() -> None:
    names = ["crane", "maillot", "crane"]
    labels = labels_as_trained("label", datasets.Value("int64"), names, class_names=names)
    assert _check(labels, _rows([0, 1, 2])).tolist() == [0, 1, 2]


def test_classes_that_were_not_trained_on_are_an_error() -> None:
    message = r"2 classes that the task was not trained on: \('dog', 'owl'\); it knows the 2 classes \('cat', 'yak'\)"
    with pytest.raises(ValueError, match=message):
        labels_as_trained("label", _NAMED, ["cat", "yak"])


def test_more_class_names_than_the_type_of_the_column_can_count() -> None:
    names = [f"class {number}" for number in range(300)]
    rows = _rows([7, 255], datasets.Value("uint8"))
    assert _check(_labels(rows, names), rows).tolist() == [7, 255]
