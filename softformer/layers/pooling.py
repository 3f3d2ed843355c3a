"""Pooling of the real tokens of a sequence to one vector.

Letters: B batch, N tokens, C model width. Masks are (B, N) bool, True at real tokens.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from softformer.layers.padding import zero_pads
from softformer.ops.options import check_choice
from softformer.ops.precision import compute_dtype

PoolingKind = Literal["mean", "cls", "attention"]


def mean_pool(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of the real tokens, (B, N, C) -> (B, C); zero if there is none."""
    dtype = compute_dtype(x)
    if mask is None:
        return (x.sum(1, dtype=dtype) / max(1, x.shape[1])).to(x.dtype)
    return (zero_pads(x, mask).sum(1, dtype=dtype) / mask.sum(1, keepdim=True).clamp(min=1)).to(x.dtype)


def first_token(x: Tensor, mask: Tensor | None) -> Tensor:
    """The first real token, (B, N, C) -> (B, C); zero if there is none."""
    if x.shape[1] == 0:
        return x.sum(1)
    if mask is None:
        return x[:, 0]
    first = mask.int().argmax(1)[:, None, None].expand(-1, -1, x.shape[2])
    return zero_pads(x, mask).gather(1, first).squeeze(1)


class AttentionPooling(nn.Module):
    """A mean of the real tokens, weighted by the softmax of a learned score."""

    def __init__(self, dim: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False, device=device, dtype=dtype)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) -> (B, C); zero if there is no real token."""
        x = zero_pads(x, mask)
        scores = self.score(x).to(compute_dtype(x))
        if mask is not None:
            # Finite, so that a sequence without real tokens does not give NaN.
            scores = scores.masked_fill(~mask.unsqueeze(-1), torch.finfo(scores.dtype).min)
        return (scores.softmax(1).to(x.dtype) * x).sum(1)


class Pooling(nn.Module):
    """Pools tokens to one vector.

    Args:
        kind: ``"mean"`` of the real tokens, ``"cls"`` for the first of them, or ``"attention"`` for a learned mean.
        dim: Model width C.

    Raises:
        ValueError: The kind is unknown.
    """

    def __init__(self, kind: PoolingKind, dim: int) -> None:
        super().__init__()
        self.kind = check_choice("pooling", kind, PoolingKind)
        self.attention = AttentionPooling(dim) if kind == "attention" else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) and their mask (B, N) -> (B, C)."""
        if self.attention is not None:
            return self.attention(x, mask)
        return mean_pool(x, mask) if self.kind == "mean" else first_token(x, mask)

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}"
