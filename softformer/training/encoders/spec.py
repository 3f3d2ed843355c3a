"""The base of all encoders as configuration."""

from abc import ABC, abstractmethod

from torch import nn

from softformer.training.specs import Spec


class EncoderSpec(Spec, ABC):
    """Describes a network and builds it.

    Subclass it to use a network of your own in any task, from Python or, by ``class_path``, from YAML. The arguments
    of ``__init__`` are recorded without further code. Checkpoints, which have weights of their own, store an argument
    named ``pretrained`` as False.
    """

    @abstractmethod
    def build(self) -> nn.Module:
        """A new network.

        An image network either has timm's ``reset_classifier`` and its own head, or has ``num_features`` and maps
        (B, C, H, W) to (B, num_features).
        """
