"""Positions of tokens in a sequence: added to them (sinusoidal, learned), or turned into them (rotary).

Letters: B batch, N tokens, C model width, H heads, D head width. Positions count real tokens from 0.
"""

from math import log, pi
from typing import Literal

import torch
from torch import Tensor, nn

PositionKind = Literal["none", "sinusoidal", "learned", "rotary"]

_BASE = 10_000.0
# Tokens. Waves longer than the training sequences would show longer ones values that were never trained on.
_LONGEST_WAVE = 256


def _angles(positions: Tensor, width: int, base: float) -> Tensor:
    """p / base^(2 i / width) for i < width / 2, in float32: (...) -> (..., ceil(width / 2))."""
    steps = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    return positions.float().unsqueeze(-1) * torch.exp(steps * (-log(base) / width))


def sinusoids(positions: Tensor, width: int, base: float = _BASE) -> Tensor:
    """The position code of Vaswani et al.: sines in even columns, cosines in odd ones.

    Args:
        positions: Positions, of any shape and number type.
        width: Model width C.
        base: Waves are 2 pi to 2 pi base tokens long.

    Returns:
        (..., C) float32.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.
    """
    angles = _angles(positions, width, base)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., :width]


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Turns the pairs (x_i, x_(i + D / 2)) by the angle p / 10000^(2 i / D), in float32.

    The product and the distance of two rotated points depend on the difference of their positions alone.

    Args:
        x: Queries, keys or landmarks, (B, H, N, D), D even.
        positions: (B, N) or (1, N); they may be fractions.

    Returns:
        (B, H, N, D), of x's type.

    Source: Su et al. 2021 (arXiv 2104.09864), with the pairs of GPT-NeoX.
    """
    angles = _angles(positions, x.shape[-1], _BASE).unsqueeze(1)
    cos, sin = angles.cos(), angles.sin()
    if x.dtype == torch.float64:
        cos, sin = cos.double(), sin.double()
    first, second = x.to(cos.dtype).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def check_rotary(head_dim: int) -> None:
    """Rotary positions turn pairs.

    Raises:
        ValueError: The head width is odd.
    """
    if head_dim % 2:
        raise ValueError(f"rotary positions need an even head width, got {head_dim}; choose another dim or num_heads")


def token_positions(length: int, mask: Tensor | None, device: torch.device) -> Tensor:
    """The number of each token among the real ones, (B, N) or (1, N); what pads get says nothing."""
    if mask is None:
        return torch.arange(length, device=device).unsqueeze(0)
    return mask.cumsum(1) - 1


class SinusoidalPositions(nn.Module):
    """Adds sines and cosines of the position; nothing is learned, and any length works.

    The waves are 2 pi to 256 tokens long. With those of up to 63,000 tokens of Vaswani et al., a network that was
    trained on 512 tokens meets values at 4,096 that it never saw: a classifier whose accuracy was 100 % at 512 tokens
    had 22 % and 43 % there (two seeds), and 100 % with these (`tests/models/test_longer_sequences.py`).

    Args:
        dim: Model width C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) plus their positions, 0 to N - 1."""
        positions = torch.arange(x.shape[1], device=x.device)
        return x + sinusoids(positions, self.dim, _LONGEST_WAVE / (2 * pi)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LearnedPositions(nn.Module):
    """Adds a learned vector for each position.

    Args:
        dim: Model width C.
        max_length: Number of positions in tokens.
        device: Where parameters live.
        dtype: Type of the parameters.

    Raises:
        ValueError: max_length is not positive.
    """

    def __init__(
        self, dim: int, max_length: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if max_length < 1:
            raise ValueError(f"max_length must be an integer of at least 1, got {max_length}")
        self.weight = nn.Parameter(torch.empty(max_length, dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Positions start small beside the tokens."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) plus their positions, 0 to N - 1.

        Raises:
            ValueError: There are more tokens than positions.
        """
        if x.shape[1] > self.weight.shape[0]:
            raise ValueError(
                f"x has {x.shape[1]} tokens, but there are learned positions for {self.weight.shape[0]}: build the "
                "encoder with a larger max_length, cut the sequences, or use sinusoidal or rotary positions"
            )
        return x + self.weight[: x.shape[1]]

    def extra_repr(self) -> str:
        return f"dim={self.weight.shape[1]}, max_length={self.weight.shape[0]}"
