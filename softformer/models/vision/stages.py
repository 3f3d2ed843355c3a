"""The parts of the SOFT pyramid: convolutional stem, downsampling, and a stage of blocks.

Letters: B batch, h x w grid of tokens, N = h w, C model width. Images and maps are in channels-last memory, so the
conversion from (B, C, h, w) to tokens (B, N, C) and back is a view.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from softformer.layers.convolution import Grid

# Strides of the three convolutions of the stem, by total stride.
STEM_STRIDES = {4: (2, 1, 2), 2: (2, 1, 1), 1: (1, 1, 1)}


def halved(grid: Grid, stride: int = 2) -> Grid:
    """The grid after convolutions that round up: ceil(side / stride)."""
    return -(-grid[0] // stride), -(-grid[1] // stride)


def to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """(B, N, C) -> (B, C, h, w), a channels-last view."""
    return tokens.unflatten(1, grid).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Image to the input of the first stage: three 3 x 3 convolutions, each with BatchNorm and ReLU.

    Args:
        in_chans: Channels of the image.
        width: Channels of the first two convolutions.
        dim: Channels of the result.
        stride: Total stride, 4 as published, 2 or 1 for small images.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        dim: int,
        stride: int = 4,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        strides = STEM_STRIDES[stride]
        self.conv1 = nn.Conv2d(in_chans, width, 3, strides[0], padding=1, device=device, dtype=dtype)
        self.norm1 = nn.BatchNorm2d(width, device=device, dtype=dtype)
        self.conv2 = nn.Conv2d(width, width, 3, strides[1], padding=1, device=device, dtype=dtype)
        self.norm2 = nn.BatchNorm2d(width, device=device, dtype=dtype)
        self.conv3 = nn.Conv2d(width, dim, 3, strides[2], padding=1, device=device, dtype=dtype)
        self.norm3 = nn.BatchNorm2d(dim, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        return F.relu(self.norm3(self.conv3(x)), inplace=True)


class Downsample(nn.Module):
    """Between stages: a 3 x 3 convolution of stride 2 with BatchNorm and ReLU. Odd sides round up."""

    def __init__(
        self, in_dim: int, dim: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 3, 2, padding=1, device=device, dtype=dtype)
        self.norm = nn.BatchNorm2d(dim, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


class Stage(nn.Module):
    """One level of the pyramid: downsampling, a learned position embedding, optionally a class token, and blocks.

    Args:
        dim: Model width C.
        grid: Grid of the position embedding; other grids interpolate it bilinearly.
        downsample: Module from the map of the previous stage to the map of this one; None in the first stage.
        blocks: Residual blocks, called as ``block(tokens, grid=grid)``.
        class_token: Whether a class token with its own position precedes the tokens.
        pos_drop: Dropout rate after the position embedding.
    """

    def __init__(
        self,
        dim: int,
        grid: Grid,
        downsample: nn.Module | None,
        blocks: Sequence[nn.Module],
        *,
        class_token: bool = False,
        pos_drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = downsample
        self.pos_embed = nn.Parameter(torch.empty(1, *grid, dim, device=device, dtype=dtype))
        self.class_token: nn.Parameter | None = None
        self.class_pos: nn.Parameter | None = None
        if class_token:
            self.class_token = nn.Parameter(torch.empty(1, 1, dim, device=device, dtype=dtype))
            self.class_pos = nn.Parameter(torch.empty(1, 1, dim, device=device, dtype=dtype))
        self.pos_drop = nn.Dropout(pos_drop)
        self.blocks = nn.ModuleList(blocks)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize positions and class token near zero; submodules initialize themselves."""
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)

    @property
    def num_prefix_tokens(self) -> int:
        """1 with a class token, else 0."""
        return 0 if self.class_token is None else 1

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Tokens (B, N, C), or (B, 1 + N, C) with the class token first, and their grid, of a map (B, C', h', w')."""
        x = x if self.downsample is None else self.downsample(x)
        grid = x.shape[2], x.shape[3]
        tokens = self.pos_drop(x.flatten(2).transpose(1, 2) + resize_positions(self.pos_embed, grid).flatten(1, 2))
        if self.class_token is not None and self.class_pos is not None:
            first = (self.class_token + self.class_pos).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat((first, tokens), dim=1)
        for block in self.blocks:
            if self.grad_checkpointing:
                tokens = checkpoint(block, tokens, grid=grid, use_reentrant=False)
            else:
                tokens = block(tokens, grid=grid)
        return tokens, grid


def resize_positions(positions: Tensor, grid: Grid) -> Tensor:
    """Position embedding (1, h, w, C) interpolated bilinearly to another grid, (1, h', w', C)."""
    # An exported graph of any size keeps the interpolation, which is the identity where the grids agree.
    symbolic = any(isinstance(side, torch.SymInt) for side in grid)
    if not symbolic and (positions.shape[1], positions.shape[2]) == tuple(grid):
        return positions
    resized = F.interpolate(positions.permute(0, 3, 1, 2), size=tuple(grid), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1)
