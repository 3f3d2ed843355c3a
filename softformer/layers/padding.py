"""Padding masks, (B, N) bool, True at real tokens; there may be padding between real tokens.

Padding is selected away and never multiplied by zero, so NaN in it has no effect.
"""

from typing import NamedTuple

import torch
from torch import Tensor


def zero_pads(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (B, N, C) with zeros at padding, where the gradient is exactly 0; x itself if there is no mask."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


class Packing(NamedTuple):
    """A permutation of the tokens of each sequence that moves the real ones to its front and keeps their order.

    Layers that depend on neighbors or on positions then give the results of the sequence without padding.
    """

    order: Tensor
    """(B, N): index of the token at each position of the packed sequence."""
    places: Tensor
    """(B, N): position of each token in the packed sequence."""
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
    """The tokens of x (B, N, C) at the given positions (B, K) of their sequences, (B, K, C)."""
    rows = places + x.shape[1] * torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    # index_select copies whole rows, where gather would index each number.
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(*places.shape, x.shape[2])


def pack(x: Tensor, packing: Packing) -> Tensor:
    """The real tokens of x (B, N, C) at the front, followed by zeros."""
    return zero_pads(take_tokens(x, packing.order), packing.mask)


def unpack(x: Tensor, packing: Packing, mask: Tensor) -> Tensor:
    """Packed tokens x (B, N, C) at their original positions, with zeros at padding."""
    return zero_pads(take_tokens(x, packing.places), mask)
