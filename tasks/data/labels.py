"""Class labels of a column: the names and the numbers of the classes, one or several for a row."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from tasks.data.examples import ReadError

_MOST_LISTED = 20
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Labels:
    """The classes of a column, and the class numbers of its values.

    Args:
        column: Name of the column.
        names: (K,) class names in the order of their numbers.
        number_of: Class numbers by value, a number or a string; a class need not occur.
        multi_label: Whether a row has a list of classes instead of one.
        digits: Class numbers of values that are numbers written as text, where the classes have other names.
    """

    column: str
    names: list[str]
    number_of: dict[Any, int]
    multi_label: bool
    digits: dict[str, int] = field(default_factory=dict, compare=False)

    def encode_row(self, value: Any) -> int | list[int]:
        """Class number of one row's value, or its numbers if multi-label; a `ReadError` for an unknown class."""
        return [self._number(entry) for entry in value or []] if self.multi_label else self._number(value)

    def _number(self, value: Any) -> int:
        number = self.number_of.get(value, self.digits.get(value))
        if number is None:
            raise ReadError(f"{value!r} is not one of the {self._described()}")
        return number

    def check(self, rows: datasets.Dataset, split: str, numbers: np.ndarray) -> np.ndarray | None:
        """Class numbers of the labels of a split, (N,) int64, None if multi-label.

        A ValueError with the number of the row if a label is missing or not one of the classes.
        """
        column, row_of = self._entries(rows)
        if not self.multi_label and column.null_count:
            first = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise ValueError(
                f"{split}: {column.null_count} rows have no value in the label column {self.column!r}, the first is "
                f"row {numbers[first]}. Remove these rows"
            )
        classes = self._classes(column)
        bad = np.flatnonzero(classes < 0)
        if len(bad):
            first = int(bad[0])
            value = column[first].as_py()
            raise ValueError(
                f"{split}, row {numbers[row_of[first]]}: label {value!r} in column {self.column!r} is not one of the "
                f"{self._described()}; {len(bad)} such labels in all. Correct them, or choose another split or column"
            )
        return None if self.multi_label else classes

    def counts(self, rows: datasets.Dataset) -> list[int]:
        """Numbers of rows of the classes, in the order of the class numbers."""
        column, row_of = self._entries(rows)
        classes = self._classes(column)
        # A row that names a class twice counts once.
        known = np.unique(np.stack([row_of, classes])[:, classes >= 0], axis=1)[1]
        return np.bincount(known, minlength=len(self.names)).tolist()

    def _entries(self, rows: datasets.Dataset) -> tuple[pa.Array, np.ndarray]:
        """All labels of the rows in one array, and the place of the row of each."""
        column = rows.select_columns([self.column]).with_format("arrow")[:].column(0).combine_chunks()
        row_of = np.arange(len(column))
        if self.multi_label:
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
            row_of, column = np.repeat(row_of, lengths), column.flatten()
        return column, row_of

    def _classes(self, column: pa.Array) -> np.ndarray:
        """(n,) int64 class numbers of labels; -1 for values that are no class."""
        known = self.digits | self.number_of
        values = pa.array(list(known))
        places = pc.fill_null(pc.index_in(column.cast(values.type), values), -1).to_numpy()
        # The last entry is for the place -1.
        return np.array([*known.values(), -1], dtype=np.int64)[places]

    def _described(self) -> str:
        return f"{len(self.number_of)} classes {shortened(list(self.number_of))}"

    def targets(self, encoded: Sequence[int | list[int]]) -> Tensor:
        """Targets of a batch: int64 (B,), or float32 (B, K) of zeros and ones if multi-label."""
        if not self.multi_label:
            return torch.tensor(encoded, dtype=torch.int64)
        hot = torch.zeros(len(encoded), len(self.names))
        for row, numbers in enumerate(encoded):
            hot[row, numbers] = 1.0
        return hot


def shortened(values: Sequence[object]) -> str:
    """Values in brackets, at most twenty of them."""
    shown = ", ".join(repr(value) for value in values[:_MOST_LISTED])
    return f"({shown}, ...)" if len(values) > _MOST_LISTED else f"({shown})"


def _element(feature: Any) -> tuple[Any, bool]:
    """The feature of a single label, and whether the column holds lists of them."""
    if isinstance(feature, datasets.List | datasets.LargeList):
        return feature.feature, True
    if isinstance(feature, list):
        return feature[0], True
    return feature, False


def labels_from(
    column: str, feature: Any, *, class_names: list[str] | None = None, training_rows: datasets.Dataset | None = None
) -> Labels:
    """Find the classes of a label column.

    A `ClassLabel` names its classes. Whole numbers and strings without such a feature are, with `class_names`, the
    numbers or the names of these classes; otherwise the classes are the sorted distinct values of the training split.
    Strings that are all whole numbers are sorted as numbers.

    Args:
        column: Name of the column.
        feature: Type of the column.
        class_names: The user's names of the classes.
        training_rows: The training split, where it can be read as a whole.

    Raises:
        ValueError: The column's type holds no classes, the names do not fit, or the classes cannot be found.
    """
    element, multi_label = _element(feature)
    for name in class_names or []:
        if not isinstance(name, str):
            raise ValueError(
                f"class_names must be strings, got {name!r}; put names between quotes in YAML, which takes yes, no, "
                "on and off for booleans"
            )
    if isinstance(element, datasets.ClassLabel):
        names = list(element.names)
        if class_names is not None and len(class_names) != len(names):
            raise ValueError(
                f"class_names must have {len(names)} names, as column {column!r} has them {shortened(names)}, "
                f"got {len(class_names)}"
            )
        if class_names is not None and class_names != names and sorted(class_names) == sorted(names):
            raise ValueError(
                f"class_names: column {column!r} has these names itself, in the order {shortened(names)}; leave "
                "class_names out, as in another order each class would be called by the name of another"
            )
        return Labels(column, class_names or names, _numbered(range(len(names))), multi_label)
    dtype = getattr(element, "dtype", None)
    text = dtype in ("string", "large_string")
    if not (text or dtype == "bool" or str(dtype).startswith(("int", "uint"))):
        remedy = "Choose another column"
        if str(dtype).startswith("float"):
            remedy = (
                "Store the labels as whole numbers or strings (a pandas column of whole numbers becomes float64 where "
                "values are missing: remove these rows first)"
            )
        raise ValueError(
            "label_column must be a column of class labels (whole numbers, strings, or lists of them), got "
            f"{column!r} of type {feature}. {remedy}"
        )
    if class_names is not None:
        numbers = range(len(class_names))
        digits = _numbered(map(str, numbers)) if text and not any(map(_is_whole, class_names)) else {}
        return Labels(column, class_names, _numbered(class_names if text else numbers), multi_label, digits)
    if training_rows is None:
        raise ValueError(
            f"label_column={column!r}: the column is of type {dtype}, which does not tell its classes, and there is no "
            "training split to find them in (a streamed one cannot be searched). Give class_names, or name the "
            "training split by train_split"
        )
    values = training_rows.select_columns([column]).with_format("arrow")[:].column(0).combine_chunks()
    if multi_label:
        values = values.flatten()
    distinct = sorted(value for value in values.unique().to_pylist() if value is not None)
    if not distinct:
        raise ValueError(f"label_column={column!r}: no training row has a label; choose another column")
    if text and all(map(_is_whole, distinct)):
        distinct.sort(key=int)
    elif text and all(map(_NUMBER.fullmatch, distinct)):
        raise ValueError(
            "label_column must be a column of class labels (whole numbers, strings, or lists of them), got "
            f"{column!r} of numbers with fractions {shortened(distinct)}. Round them to whole numbers, or list them by "
            "class_names if they are names"
        )
    return Labels(column, [str(value) for value in distinct], _numbered(distinct), multi_label)


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _numbered(values: Iterable[Any]) -> dict[Any, int]:
    return {value: number for number, value in enumerate(values)}


def labels_as_trained(column: str, feature: Any, known: list[str], *, class_names: list[str] | None = None) -> Labels:
    """The classes of a label column with the class numbers of a trained task; a ValueError for other classes.

    Classes are matched by name: the names of a `ClassLabel`, `class_names`, or strings themselves. Whole numbers
    without names are the task's own names where these are whole numbers, else the task's class numbers.

    Args:
        column: Name of the column.
        feature: Type of the column.
        known: (K,) names of the task's classes.
        class_names: The user's names of the classes of the data.
    """
    named = class_names is not None or isinstance(_element(feature)[0], datasets.ClassLabel)
    labels = labels_from(column, feature, class_names=class_names if named else known)
    if not named and all(map(_is_whole, known)) and not any(isinstance(value, str) for value in labels.number_of):
        return replace(labels, number_of=_numbered(int(name) for name in known))
    if labels.names == known:
        return labels
    number_of = _numbered(known)
    unknown = [name for name in labels.names if name not in number_of]
    if unknown:
        raise ValueError(
            f"label_column={column!r}: the data has {len(unknown)} classes that the task was not trained on: "
            f"{shortened(unknown)}; it knows the {len(known)} classes {shortened(known)}. Leave these rows out, or "
            "give the names under which the task knows the classes of the data by class_names"
        )
    mapped, digits = (
        {value: number_of[labels.names[number]] for value, number in numbers.items()}
        for numbers in (labels.number_of, labels.digits)
    )
    return Labels(column, known, mapped, labels.multi_label, digits)
