"""The base of data modules with labels: it finds, names, and counts the classes of the label column."""

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from tasks.data.examples import Split
from tasks.data.labels import Labels, labels_as_trained, labels_from, shortened
from tasks.data.module import TaskDataModule
from tasks.data.sources import choose_split, split_parts


class LabelledDataModule(TaskDataModule):
    """Base of the data modules whose rows have labels.

    Args:
        path: Hub name, local folder, format of local files, or built-in name.
        label_column: Column of the labels: class labels, whole numbers or strings, or lists of these. None for rows
            without labels.
        class_names: Names of the classes where the data has none; by default they are found in the training split.
        kwargs: As in `TaskDataModule`.
    """

    csv_as_text: ClassVar[bool] = True

    def __init__(
        self, path: str, *, label_column: str | None = "label", class_names: list[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(path, **kwargs)
        self.label_column = label_column
        self.given_names = class_names

    @property
    def labels(self) -> Labels | None:
        """The classes of the label column, found by name among those of a given processor; None without labels."""
        if self.label_column is None:
            return None
        known = None if self.given_processor is None else self.given_processor.class_names
        if not known:
            return self._own_labels
        return labels_as_trained(self.label_column, self._label_feature, known, class_names=self.given_names)

    @property
    def _label_feature(self) -> Any:
        self._check_columns(self.features, next(iter(self.splits)))
        return self.features[self.label_column or ""]

    @cached_property
    def _own_labels(self) -> Labels:
        assert self.label_column is not None
        feature = self._label_feature
        rows = None
        readable = not self.source.streaming and all(part in self.splits for part in split_parts(self.train_split))
        if readable and self.given_names is None:
            rows = choose_split(self.source, self.splits, "train_split", self.train_split)
        labels = labels_from(self.label_column, feature, class_names=self.given_names, training_rows=rows)
        if not hasattr(feature, "names"):
            rank_zero_info(f"Classes of column {self.label_column!r}: {len(labels.names)} {shortened(labels.names)}")
        return labels

    @property
    def some_labels(self) -> Labels:
        """The classes of the label column, where there is one."""
        assert self.labels is not None
        return self.labels

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for rows without labels."""
        return None if self.labels is None else len(self.labels.names)

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes in the order of their numbers; None for rows without labels."""
        return None if self.labels is None else list(self.labels.names)

    @property
    def multi_label(self) -> bool:
        """Whether a row may have several classes."""
        return self.labels is not None and self.labels.multi_label

    @property
    def class_counts(self) -> list[int] | None:
        """Numbers of training rows of the classes; None without labels or where they cannot be counted."""
        if self.labels is None or self.source.streaming:
            return None
        return self.labels.counts(self.split_for("train").rows)

    def classes_of(self, split: Split) -> np.ndarray | None:
        """As in `TaskDataModule`."""
        return None if self.labels is None else self.labels.check(split.rows, split.name, split.numbers)
