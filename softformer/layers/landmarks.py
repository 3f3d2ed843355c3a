"""Landmarks: a few points that represent many tokens.

Letters: B batch, H heads, N tokens, M landmarks, D head width. Tokens are the queries or keys of the attention,
(B, H, N, D), divided by D^(1/4).

On a grid (tokens in raster order) each landmark is computed from a window of the image, in a sequence from one of M
segments of the real tokens (`softformer.layers.segments`).
"""

from abc import ABC, abstractmethod
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.convolution import Grid, convolve_sequence
from softformer.layers.padding import pack, packing_of
from softformer.layers.segments import clamp_size, segment_means
from softformer.ops.exporting import is_exporting
from softformer.ops.options import check_positive


class GridLandmarks(nn.Module, ABC):
    """Base of landmarks on a grid: arranges the tokens on the grid, where `pool` computes the landmarks."""

    stride = 0
    """Side of a window, in tokens; 0 for landmarks without fixed windows."""

    def forward(
        self, x: Tensor, *, grid: Grid | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Landmarks of x.

        Args:
            x: Scaled queries or keys, (B, H, N, D).
            grid: (h, w) in tokens, h w = N.
            mask: None, as grids have no padding.

        Returns:
            Landmarks (B, H, M, D), and None for their mask.

        Raises:
            ValueError: The grid is missing, has no whole window or not N cells, or there is a mask.
        """
        if mask is not None:
            raise ValueError(
                f"mask must be None for {type(self).__name__}, got a mask; crop or resize images of other sizes"
            )
        if grid is None:
            raise ValueError(f"grid must be the (rows, columns) of the tokens for {type(self).__name__}, got None")
        batch, heads, length, width = x.shape
        if grid[0] * grid[1] != length:
            raise ValueError(f"grid must have one cell for each of the {length} tokens, got {tuple(grid)}")
        if grid[0] < self.stride or grid[1] < self.stride:
            raise ValueError(
                f"grid must be at least {self.stride} x {self.stride} for a landmark stride of {self.stride}, got "
                f"{grid[0]} x {grid[1]}; use a smaller landmark stride or a larger image"
            )
        points = self.pool(x.transpose(1, 2).reshape(batch, *grid, heads, width))
        return points.transpose(1, 2), None

    @abstractmethod
    def pool(self, x: Tensor) -> Tensor:
        """Landmarks (B, M, H, D) of tokens on their grid (B, h, w, H, D)."""


class ConvGridLandmarks(GridLandmarks):
    """The published landmarks: a strided convolution that the heads share, LayerNorm, exact GELU.

    Windows do not overlap, so the convolution is one matrix product over patches. Incomplete windows at the right and
    lower edges are dropped.

    Args:
        head_dim: Head width D.
        stride: Side of a window, in tokens.

    Source: Lu et al. 2021 (arXiv 2110.11945), section 3.2, and the published code.
    """

    def __init__(
        self, head_dim: int, stride: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.stride = check_positive("stride", stride)
        # The shape of a convolution (out, in, rows, columns), so that published weights fit as they are.
        self.weight = nn.Parameter(torch.empty(head_dim, head_dim, stride, stride, device=device, dtype=dtype))
        self.norm = nn.LayerNorm(head_dim, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the weight as torch initializes a convolution."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def pool(self, x: Tensor) -> Tensor:
        patches = _windows(x, self.stride).flatten(4).flatten(1, 2)
        return F.gelu(self.norm(F.linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1))))

    def extra_repr(self) -> str:
        return f"head_dim={self.weight.shape[0]}, stride={self.stride}"


class PooledGridLandmarks(GridLandmarks):
    """Means over windows, without parameters. The paper finds them as accurate as the convolution (table 4).

    Args:
        stride: Side of a window, in tokens.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = check_positive("stride", stride)

    def pool(self, x: Tensor) -> Tensor:
        return _from_map(F.avg_pool2d(_to_map(x), self.stride), x.shape[3])

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class AdaptiveGridLandmarks(GridLandmarks):
    """A fixed number of means for images of any size, so that the cost is linear in the number of tokens.

    Adaptive average pooling gives a square of landmarks, with fewer rows or columns if the grid has fewer.

    Args:
        num_landmarks: Largest number of landmarks, a square number.

    Raises:
        ValueError: num_landmarks is not a square.

    Source: Ours; the published models use a fixed stride.
    """

    def __init__(self, num_landmarks: int = 49) -> None:
        super().__init__()
        self.side = isqrt(check_positive("num_landmarks", num_landmarks))
        if self.side**2 != num_landmarks:
            raise ValueError(
                f"num_landmarks must be a square number for landmarks on a grid, got {num_landmarks}; the nearest are "
                f"{self.side**2} and {(self.side + 1) ** 2}"
            )

    def pool(self, x: Tensor) -> Tensor:
        rows, columns = (clamp_size(side, 0, self.side) for side in x.shape[1:3])
        return _from_map(F.adaptive_avg_pool2d(_to_map(x), (rows, columns)), x.shape[3])

    def extra_repr(self) -> str:
        return f"num_landmarks={self.side**2}"


class SegmentLandmarks(nn.Module):
    """Means of segments, without parameters.

    Args:
        num_landmarks: Number of segments M; shorter sequences have one for each token.

    Raises:
        ValueError: num_landmarks is not a positive integer.

    Source: Segment means as Nystrom landmarks, Xiong et al. 2021 (arXiv 2102.03902); here of the real tokens only.
    """

    def __init__(self, num_landmarks: int = 64) -> None:
        super().__init__()
        self.num_landmarks = check_positive("num_landmarks", num_landmarks)

    def forward(
        self, x: Tensor, *, grid: Grid | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Landmarks (B, H, min(M, N), D) of x (B, H, N, D) with its mask (B, N), and their mask (B, min(M, N)).

        Their mask is None where mask is None; the grid is not used.
        """
        return segment_means(x, self.num_landmarks, mask)

    def extra_repr(self) -> str:
        return f"num_landmarks={self.num_landmarks}"


class ConvSegmentLandmarks(nn.Module):
    """A depthwise convolution along the tokens, segment means, LayerNorm, exact GELU.

    The counterpart for sequences of the published landmarks of images. The convolution has stride 1 and one filter for
    each of the D channels, which the heads share. It skips padding between real tokens.

    Args:
        head_dim: Head width D.
        num_landmarks: Number of segments M.
        kernel_size: Width of the convolution in tokens, odd.

    Raises:
        ValueError: num_landmarks or kernel_size is out of range.
    """

    def __init__(
        self,
        head_dim: int,
        num_landmarks: int = 64,
        kernel_size: int = 3,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
        self.num_landmarks = check_positive("num_landmarks", num_landmarks)
        self.weight = nn.Parameter(torch.empty(head_dim, 1, kernel_size, device=device, dtype=dtype))
        self.norm = nn.LayerNorm(head_dim, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the weight as torch initializes a convolution."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(
        self, x: Tensor, *, grid: Grid | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Landmarks of x; arguments and result as in `SegmentLandmarks.forward`."""
        heads = x.shape[1]
        tokens = x.transpose(1, 2).flatten(2)
        if mask is not None:
            packing = packing_of(mask)
            tokens, mask = pack(tokens, packing), packing.mask
        mixed = convolve_sequence(tokens, self.weight.repeat(heads, 1, 1))
        points, landmark_mask = segment_means(
            mixed.unflatten(-1, (heads, -1)).transpose(1, 2), self.num_landmarks, mask
        )
        return F.gelu(self.norm(points)), landmark_mask

    def extra_repr(self) -> str:
        return (
            f"head_dim={self.weight.shape[0]}, num_landmarks={self.num_landmarks}, kernel_size={self.weight.shape[2]}"
        )


def _windows(x: Tensor, stride: int) -> Tensor:
    """(B, h, w, H, D) -> whole windows (B, h // stride, w // stride, H, stride, stride, D), a view."""
    if is_exporting():
        # It fixes no size in the graph, but torch 2.11 compiles its gradient to code that overruns memory.
        return x.unfold(1, stride, stride).unfold(2, stride, stride).permute(0, 1, 2, 3, 5, 6, 4)
    rows, columns = x.shape[1] // stride, x.shape[2] // stride
    whole = x[:, : rows * stride, : columns * stride]
    return whole.unflatten(2, (columns, stride)).unflatten(1, (rows, stride)).permute(0, 1, 3, 5, 2, 4, 6)


def _to_map(x: Tensor) -> Tensor:
    """(B, h, w, H, D) -> (B, H D, h, w), a channels-last view."""
    return x.flatten(3).permute(0, 3, 1, 2)


def _from_map(x: Tensor, heads: int) -> Tensor:
    """(B, H D, rows, columns) -> (B, M, H, D)."""
    return x.flatten(2).transpose(1, 2).unflatten(-1, (heads, -1))
