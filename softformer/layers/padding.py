"""Padding masks: pads are selected away, never multiplied, so NaN in a pad reaches nothing.

Masks are (B, N) bool, True at real tokens. They may have holes: pads between real tokens.
"""

import torch
from torch import Tensor


def zero_pads(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (B, N, C) with zeros at pads; the gradient there is exactly 0. Without a mask, x itself."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


def compact(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Moves the real tokens of each sequence to its front, in their order, and puts zeros behind them.

    What looks at neighbours (a convolution) then sees the sequence as if it had never been padded.

    Args:
        x: (B, N, C).
        mask: (B, N) bool.

    Returns:
        The compacted tokens (B, N, C), and the order (B, N) that `expand` needs to put them back.
    """
    order = torch.argsort(~mask, dim=1, stable=True)
    front = mask.gather(1, order)
    return zero_pads(x.gather(1, order.unsqueeze(-1).expand_as(x)), front), order


def expand(x: Tensor, order: Tensor, mask: Tensor) -> Tensor:
    """Puts compacted tokens (B, N, C) back to their places, with zeros at pads."""
    places = torch.argsort(order, dim=1).unsqueeze(-1).expand_as(x)
    return zero_pads(x.gather(1, places), mask)
