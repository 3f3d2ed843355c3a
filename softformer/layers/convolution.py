"""Depthwise convolutions of tokens (B, N, C), along a sequence or over a grid, and the value convolution of SOFT.

Tokens are not copied: (B, N, C) is a channels-last image with C channels, which depthwise kernels read as it is.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.padding import pack, packing_of, unpack

Grid = tuple[int, int]


def convolve_grid(x: Tensor, weight: Tensor, grid: Grid) -> Tensor:
    """Depthwise convolution of x (B, h w, C) over its grid with one filter for each channel, (C, 1, k, k), k odd."""
    batch, _, width = x.shape
    image = x.reshape(batch, *grid, width).permute(0, 3, 1, 2)
    mixed = F.conv2d(image, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=width)
    return mixed.flatten(2).transpose(1, 2)


def convolve_sequence(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise convolution of x (B, N, C) along its tokens with one filter for each channel, (C, 1, k), k odd."""
    if x.shape[1] == 0:
        return x
    return convolve_grid(x, weight.unsqueeze(2), (1, x.shape[1]))


class ValueConvolution(nn.Module):
    """The depthwise convolution of the values that SOFT adds to its output, with one filter for each head, no bias.

    Along a sequence, real tokens are neighbors even if there is padding between them, and beyond them are zeros.

    Args:
        num_heads: Number of filters H; the C channels are H contiguous groups.
        kernel_size: Side of a filter in tokens, odd.
        axes: 2 for tokens on a grid, 1 for sequences.

    Raises:
        ValueError: kernel_size is even or not positive.

    Source: The published code; sequences and masks are ours.
    """

    def __init__(
        self,
        num_heads: int,
        kernel_size: int,
        axes: Literal[1, 2] = 2,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"value_kernel must be odd, or 0 for none, got {kernel_size}")
        self.axes = axes
        self.weight = nn.Parameter(torch.empty(num_heads, 1, *[kernel_size] * axes, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize as torch initializes a convolution."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, value: Tensor, *, grid: Grid | None = None, mask: Tensor | None = None) -> Tensor:
        """Convolve the values (B, N, C); zero at padding.

        Over two axes the grid (h, w) must be given, and there is no mask, because a grid has no padding.
        """
        weight = self.weight.repeat_interleave(value.shape[-1] // self.weight.shape[0], dim=0)
        if self.axes == 2:
            if grid is None:
                raise ValueError("grid must be given for a value convolution over two axes, got None")
            if mask is not None:
                raise ValueError(
                    "mask must be None for a value convolution over two axes, as grids have no padding, got a mask"
                )
            return convolve_grid(value, weight, grid)
        if mask is None:
            return convolve_sequence(value, weight)
        packing = packing_of(mask)
        return unpack(convolve_sequence(pack(value, packing), weight), packing, mask)

    def extra_repr(self) -> str:
        return f"num_heads={self.weight.shape[0]}, kernel_size={self.weight.shape[-1]}, axes={self.axes}"
