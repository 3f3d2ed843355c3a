"""What data modules of labelled rows share: the classes of the label column, found, named and counted."""

from functools import cached_property
from typing import ClassVar

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from tasks.data.examples import Split
from tasks.data.labels import Labels, labels_as_trained, labels_from, shortened
from tasks.data.module import TaskDataModule
from tasks.data.sources import choose_split, split_parts


class LabelledDataModule(TaskDataModule):
    """Base of the data modules whose rows have labels.

    A subclass sets the attributes.

    Attributes:
        label_column: Column of the labels; None for rows without.
        given_names: Names that the user gives to the classes.
    """

    csv_as_text: ClassVar[bool] = True
    label_column: str | None
    given_names: list[str] | None

    @property
    def labels(self) -> Labels | None:
        """The classes of the label column, in an evaluation those of the task, found by their names; None without."""
        if self.label_column is None:
            return None
        known = (self.trained_settings or {}).get("class_names")
        if not known:
            return self._own_labels
        self._check_columns(self.features, next(iter(self.splits)))
        return labels_as_trained(
            self.label_column, self.features[self.label_column], known, class_names=self.given_names
        )

    @cached_property
    def _own_labels(self) -> Labels:
        assert self.label_column is not None
        self._check_columns(self.features, next(iter(self.splits)))
        feature = self.features[self.label_column]
        rows = None
        readable = not self.source.streaming and all(part in self.splits for part in split_parts(self.train_split))
        if readable and self.given_names is None:
            rows = choose_split(self.source, self.splits, "train_split", self.train_split)
        labels = labels_from(self.label_column, feature, class_names=self.given_names, training_rows=rows)
        if not hasattr(feature, "names"):
            rank_zero_info(f"Classes of column {self.label_column!r}: {len(labels.names)} {shortened(labels.names)}")
        return labels

    @property
    def num_classes(self) -> int | None:
        """How many classes the data has; None for rows without labels."""
        return None if self.labels is None else len(self.labels.names)

    @property
    def class_names(self) -> list[str]:
        """Their names, in the order of their numbers."""
        return [] if self.labels is None else list(self.labels.names)

    @property
    def multi_label(self) -> bool:
        """Whether a row may have several classes."""
        return self.labels is not None and self.labels.multi_label

    @property
    def class_counts(self) -> list[int] | None:
        """How many training rows each class has; None where there are no labels, or they cannot be counted."""
        if self.labels is None or self.source.streaming:
            return None
        return self.labels.counts(self.split_for("train").rows)

    def classes_of(self, split: Split) -> np.ndarray | None:
        """Check the labels of a split; its class numbers, for dividing it."""
        return None if self.labels is None else self.labels.check(split.rows, split.name, split.numbers)
