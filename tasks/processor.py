"""The processor: the preprocessing that a data module and a task share."""

from abc import ABC, abstractmethod
from typing import Any, TypeVar

from softformer.training.checkpoints.weights import WeightReport
from softformer.training.specs import Spec

P = TypeVar("P", bound="Processor")


class Processor(Spec, ABC):
    """The preprocessing of raw inputs, and the names of the classes.

    A data module makes a processor from its data, or follows a given one. A task stores the processor of its training
    in its hyperparameters and predicts with it.

    Attributes:
        class_names: (K,) names of the classes in the order of their numbers; None for inputs without classes.
        multi_label: Whether an input has any number of classes instead of one.
    """

    class_names: list[str] | None = None
    multi_label: bool = False

    def replace(self: P, **changes: Any) -> P:
        """A processor with other values for some arguments."""
        return type(self)(**{**self.init_args, **changes})

    def check_weights(self, report: WeightReport) -> None:
        """Raise a ValueError for starting weights of other preprocessing; by default, accept all."""
        return

    @abstractmethod
    def difference(self, other: Any) -> str | None:
        """A description of the preprocessing of `other` that does not suit a network trained with this processor.

        Class names do not count; the task compares them.
        """
