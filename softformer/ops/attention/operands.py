"""What every backend takes, and what its forward hands to its backward."""

from typing import NamedTuple

import torch
from torch import Tensor


class Saved(NamedTuple):
    """What a forward hands to its backward: Z = P_k^T V (B, H, M, Dv) before scaling, and the state of the inverse."""

    product: Tensor
    state: Tensor


class Inputs(NamedTuple):
    """The tensors of an attention, as in `reference.soft_attention`."""

    query: Tensor
    value: Tensor
    landmarks: Tensor
    key: Tensor | None
    query_mask: Tensor | None
    key_mask: Tensor | None
    landmark_mask: Tensor | None
    output_scale: Tensor | None

    def samples(self, part: slice) -> "Inputs":
        """The same for some samples of the batch."""
        return Inputs(*(None if x is None else x[part] for x in self))  # type: ignore[arg-type]

    def empty_gradients(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Uninitialized gradients of query, value, landmarks and key, in the layout of the contract."""
        query, value = (empty_heads(x, x.shape[2], x.shape[3], x.dtype) for x in (self.query, self.value))
        key = None if self.key is None else empty_heads(self.key, self.key.shape[2], self.key.shape[3], self.key.dtype)
        return query, value, torch.empty_like(self.landmarks, memory_format=torch.contiguous_format), key


def empty_heads(like: Tensor, length: int, width: int, dtype: torch.dtype) -> Tensor:
    """An empty (B, H, length, width) tensor laid out as (B, length, H, width), so merging heads is a view."""
    batch, heads = like.shape[:2]
    return torch.empty((batch, length, heads, width), dtype=dtype, device=like.device).transpose(1, 2)
