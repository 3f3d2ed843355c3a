"""The parts that text and audio networks share: the width of an encoder, and a classifier on a backbone."""

from typing import Any

from torch import Tensor, nn

from softformer.layers.pooling import Pooling, PoolingKind
from softformer.ops.options import check_positive


def encoder_width(encoder: nn.Module) -> int:
    """The width C of the tokens of an encoder, its attribute `dim`."""
    dim = getattr(encoder, "dim", None)
    if not isinstance(dim, int):
        raise ValueError(
            f"encoder must have its width as the attribute dim, got {type(encoder).__name__}, which has "
            f"{'none' if dim is None else repr(dim)}"
        )
    return dim


class ClassifierNetwork(nn.Module):
    """Base of classifiers: a backbone, a pooling over real tokens, dropout, and a linear layer.

    Args:
        backbone: Inputs to hidden states (B, N, C), with the attribute `dim`, which is C.
        num_classes: Number of classes K.
        pooling: "mean", "cls" (the first real token), or "attention".
        dropout: Dropout rate before the linear layer.
    """

    def __init__(self, backbone: Any, num_classes: int, *, pooling: PoolingKind = "mean", dropout: float = 0.0) -> None:
        super().__init__()
        check_positive("num_classes", num_classes)
        self.backbone = backbone
        self.pooling = Pooling(pooling, backbone.dim)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.dim, num_classes)

    def classify(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Logits (B, K) of hidden states (B, N, C) and their mask (B, N)."""
        return self.head(self.drop(self.pooling(hidden, mask)))
