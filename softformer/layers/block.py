"""Residual blocks around a mixer, which is any module called as ``mixer(x, mask, grid=grid)``.

Letters: B batch, N tokens, C model width.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from softformer.layers.convolution import Grid
from softformer.layers.padding import zero_pads
from softformer.ops.options import check_choice

DropKind = Literal["path", "element"]


class DropPath(nn.Module):
    """Stochastic depth: drops a sample's residual branch with probability `rate`, or scales it by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class Mlp(nn.Module):
    """Linear, GELU, linear for each token, with dropout after both linear layers.

    approximate is ``"tanh"`` for the approximate GELU of the published SOFT blocks, ``"none"`` for the exact GELU.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        approximate: Literal["none", "tanh"] = "none",
        drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim, device=device, dtype=dtype)
        self.act = nn.GELU(approximate=approximate)
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_dim, dim, device=device, dtype=dtype)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class ResidualBlock(nn.Module):
    """Base of the blocks: a mixer and an MLP, each with a norm and a branch drop. Subclasses place the norms.

    Args:
        dim: Model width C.
        mixer: Attention module.
        mlp_ratio: Hidden width of the MLP over dim.
        mlp_drop: Dropout rate in the MLP.
        branch_drop: Drop rate of both residual branches.
        drop_kind: ``"path"`` drops the branch of a sample, ``"element"`` single elements, as the published code does.
        eps: Epsilon of the norms; None for the epsilon of the published blocks.

    Raises:
        ValueError: drop_kind is unknown or branch_drop is out of range.
    """

    published_eps: ClassVar[float]
    approximate: ClassVar[Literal["none", "tanh"]]

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        *,
        mlp_ratio: float = 4.0,
        mlp_drop: float = 0.0,
        branch_drop: float = 0.0,
        drop_kind: DropKind = "path",
        eps: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        eps = self.published_eps if eps is None else eps
        hidden = round(dim * mlp_ratio)
        self.mixer = mixer
        self.drop1 = _branch_drop(branch_drop, drop_kind)
        self.norm1 = nn.LayerNorm(dim, eps=eps, device=device, dtype=dtype)
        self.mlp = Mlp(dim, hidden, approximate=self.approximate, drop=mlp_drop, device=device, dtype=dtype)
        self.drop2 = _branch_drop(branch_drop, drop_kind)
        self.norm2 = nn.LayerNorm(dim, eps=eps, device=device, dtype=dtype)


class PostNormBlock(ResidualBlock):
    """The published SOFT block: x <- LN(x + mixer(x)), x <- LN(x + MLP(x)), with the tanh approximation of GELU."""

    published_eps = 1e-5
    approximate = "tanh"

    def forward(self, x: Tensor, mask: Tensor | None = None, *, grid: Grid | None = None) -> Tensor:
        """Tokens (B, N, C) -> (B, N, C); the mixer gets `mask` (B, N) bool and `grid` (h, w)."""
        x = zero_pads(x, mask)
        x = self.norm1(x + self.drop1(self.mixer(x, mask, grid=grid)))
        return self.norm2(x + self.drop2(self.mlp(x)))


class PreNormBlock(ResidualBlock):
    """The usual block: x <- x + mixer(LN(x)), x <- x + MLP(LN(x)), with the exact GELU."""

    published_eps = 1e-6
    approximate = "none"

    def forward(self, x: Tensor, mask: Tensor | None = None, *, grid: Grid | None = None) -> Tensor:
        """Tokens (B, N, C) -> (B, N, C); the mixer gets `mask` (B, N) bool and `grid` (h, w)."""
        x = zero_pads(x, mask)
        x = x + self.drop1(self.mixer(self.norm1(x), mask, grid=grid))
        return x + self.drop2(self.mlp(self.norm2(x)))


def _branch_drop(rate: float, kind: DropKind) -> nn.Module:
    check_choice("drop_kind", kind, DropKind)
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"branch_drop must be in [0, 1), got {rate}")
    return DropPath(rate) if kind == "path" else nn.Dropout(rate)
