"""Position encodings of tokens in a sequence: sinusoidal and learned ones are added, rotary ones rotate the tokens.

Letters: B batch, N tokens, C model width, H heads, D head width. Positions count real tokens from 0.
"""

from math import log, pi
from typing import Literal

import torch
from torch import Tensor, nn

from softformer.ops.options import check_positive

PositionKind = Literal["none", "sinusoidal", "learned", "rotary"]

_BASE = 10_000.0
# In tokens. Longer waves would take values on long sequences that they do not take on the shorter training sequences.
_LONGEST_WAVE = 256


def _angles(positions: Tensor, width: int, base: float) -> Tensor:
    """p / base^(2 i / width) for i < width / 2, in float32: (...) -> (..., ceil(width / 2))."""
    steps = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    return positions.float().unsqueeze(-1) * torch.exp(steps * (-log(base) / width))


def sinusoids(positions: Tensor, width: int, base: float = _BASE) -> Tensor:
    """The position encoding of Vaswani et al.: sines in even columns, cosines in odd columns.

    Args:
        positions: Positions, of any shape and number type.
        width: Model width C.
        base: Wavelengths are 2 pi to 2 pi base tokens.

    Returns:
        (..., C) float32.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.
    """
    angles = _angles(positions, width, base)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., :width]


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotate the pairs (x_i, x_(i + D / 2)) by the angle p / 10000^(2 i / D), in float32.

    The inner product and the distance of two rotated points depend only on the difference of their positions.

    Args:
        x: Queries, keys or landmarks, (B, H, N, D), D even.
        positions: (B, N) or (1, N); they may be fractional.

    Returns:
        (B, H, N, D), in the type of x.

    Source: Su et al. 2021 (arXiv 2104.09864), with the pairs of GPT-NeoX.
    """
    angles = _angles(positions, x.shape[-1], _BASE).unsqueeze(1)
    cos, sin = angles.cos(), angles.sin()
    if x.dtype == torch.float64:
        cos, sin = cos.double(), sin.double()
    first, second = x.to(cos.dtype).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def check_rotary(head_dim: int) -> None:
    """Check that the head width is even, because rotary positions rotate pairs."""
    if head_dim % 2:
        raise ValueError(
            f"head width must be even for rotary positions, got {head_dim}; choose another dim or num_heads"
        )


def token_positions(length: int, mask: Tensor | None, device: torch.device) -> Tensor:
    """The position of each token among the real tokens, (B, N) or (1, N); meaningless at padding."""
    if mask is None:
        return torch.arange(length, device=device).unsqueeze(0)
    return mask.cumsum(1) - 1


class SinusoidalPositions(nn.Module):
    """Adds sines and cosines of the position, for any length and without parameters.

    The wavelengths are 2 pi to 256 tokens. With the wavelengths of Vaswani et al., up to 63,000 tokens, a network that
    was trained on 512 tokens gets values at 4,096 that it was not trained on: the accuracy of a classifier, 100 % at
    512 tokens, fell to 22 % and 43 % (two seeds), and is 100 % with these (`tests/models/test_longer_sequences.py`).
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
    """Adds a learned vector for each of `max_length` positions, in tokens."""

    def __init__(
        self, dim: int, max_length: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        check_positive("max_length", max_length)
        self.weight = nn.Parameter(torch.empty(max_length, dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize with a standard deviation of 0.02."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) plus their positions, 0 to N - 1.

        Raises:
            ValueError: There are more than max_length tokens.
        """
        if x.shape[1] > self.weight.shape[0]:
            raise ValueError(
                f"x must have at most {self.weight.shape[0]} tokens, one for each learned position, got {x.shape[1]}; "
                "build the encoder with a larger max_length, truncate the sequences, or use other positions"
            )
        return x + self.weight[: x.shape[1]]

    def extra_repr(self) -> str:
        return f"dim={self.weight.shape[1]}, max_length={self.weight.shape[0]}"
