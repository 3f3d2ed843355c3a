"""Padding masks: pads are selected away, never multiplied, so NaN in a pad reaches nothing.

Masks are (B, N) bool, True at real tokens. They may have holes: pads between real tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor


def zero_pads(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (B, N, C) with zeros at pads; the gradient there is exactly 0. Without a mask, x itself."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


class Packing(NamedTuple):
    """How the real tokens of each sequence move to its front, in their order.

    What looks at neighbours or at places then sees a sequence as if it had never been padded.
    """

    order: Tensor
    """(B, N): which token stands at a place of the packed sequence; pads follow the real ones."""
    places: Tensor
    """(B, N): where a token stands in the packed sequence."""
    mask: Tensor
    """(B, N) bool: True at the real tokens of the packed sequence."""


def packing_of(mask: Tensor) -> Packing:
    """The packing of sequences with the given mask (B, N)."""
    numbers = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    count = mask.sum(1, keepdim=True)
    places = torch.where(mask, mask.cumsum(1), count + (~mask).cumsum(1)) - 1
    order = torch.zeros_like(places).scatter(1, places, numbers)
    return Packing(order, places, numbers < count)


def take_tokens(x: Tensor, places: Tensor) -> Tensor:
    """The tokens of x (B, N, C) at the given places (B, K) of their sequences, (B, K, C)."""
    rows = places + x.shape[1] * torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    # Whole rows are copied; gather would look up each number by itself.
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(*places.shape, x.shape[2])


def pack(x: Tensor, packing: Packing) -> Tensor:
    """The real tokens of x (B, N, C) at the front, zeros behind them."""
    return zero_pads(take_tokens(x, packing.order), packing.mask)


def unpack(x: Tensor, packing: Packing, mask: Tensor) -> Tensor:
    """Packed tokens x (B, N, C) back at their places, with zeros at pads."""
    return zero_pads(take_tokens(x, packing.places), mask)
