"""The processor: the one object that a data module and a task agree on."""

from abc import ABC, abstractmethod
from typing import Any, TypeVar

from softformer.training.checkpoints.weights import WeightReport
from softformer.training.specs import Spec

P = TypeVar("P", bound="Processor")


class Processor(Spec, ABC):
    """How raw inputs become tensors, and the names of the classes.

    A data module makes a processor from its data, or follows the one that it is given. A task keeps the processor that
    it was trained with in its hyperparameters and predicts with it.

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
        """Accept the starting weights of a task that trains with this processor; all of them, here.

        Raises:
            ValueError: The weights were trained on inputs that were prepared in another way.
        """
        return

    @abstractmethod
    def difference(self, other: Any) -> str | None:
        """How `other` prepares the same input in a way that a network trained with this processor was not made for.

        Class names are compared by the task.
        """
