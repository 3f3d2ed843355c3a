"""The tensors that every backend takes, and the tensors that its forward saves for its backward."""

from typing import NamedTuple

import torch
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Gradients of query, value, landmarks and key; None for the key of self-attention."""


class Saved(NamedTuple):
    """The tensors that a forward saves: Z = P_k^T V (B, H, M, Dv), unscaled, and the state of the inverse.

    All backends save the same two, so the forward and the backward of an attention may run on different backends.
    """

    product: Tensor
    state: Tensor


class Inputs(NamedTuple):
    """The tensors of an attention; shapes and meaning as in `softformer.soft_attention`."""

    query: Tensor
    value: Tensor
    landmarks: Tensor
    key: Tensor | None = None
    query_mask: Tensor | None = None
    key_mask: Tensor | None = None
    landmark_mask: Tensor | None = None
    output_scale: Tensor | None = None

    def samples(self, part: slice) -> "Inputs":
        """The inputs of some samples of the batch."""
        return Inputs(*(None if x is None else x[part] for x in self))  # type: ignore[arg-type]

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The inputs with query, value, landmarks and key in the given type."""
        query, value, landmarks = self.query.to(dtype), self.value.to(dtype), self.landmarks.to(dtype)
        key = None if self.key is None else self.key.to(dtype)
        return self._replace(query=query, value=value, landmarks=landmarks, key=key)

    def empty_gradients(self) -> Gradients:
        """Uninitialized gradients in the layout of the output, with heads that merge as a view."""
        query, value, key = (
            None if x is None else empty_heads(x, x.shape[2], x.shape[3], x.dtype)
            for x in (self.query, self.value, self.key)
        )
        return query, value, torch.empty_like(self.landmarks, memory_format=torch.contiguous_format), key  # type: ignore[return-value]


def empty_heads(like: Tensor, length: int, width: int, dtype: torch.dtype) -> Tensor:
    """An empty (B, H, length, width) tensor laid out as (B, length, H, width), so merging heads is a view."""
    batch, heads = like.shape[:2]
    return torch.empty((batch, length, heads, width), dtype=dtype, device=like.device).transpose(1, 2)


def select_rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (B, H, N, D) with zeros where mask (B, N) is False, whatever the rows hold, NaN included."""
    return x if mask is None else x.masked_fill(~mask[:, None, :, None], 0)
