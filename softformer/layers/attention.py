"""Softmax-free attention as a module: projections and landmarks around `softformer.ops.soft_attention`.

Letters: B batch, N tokens, S context tokens, C model width, H heads, D = C / H head width, M landmarks.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from softformer.layers.convolution import Grid, ValueConvolution
from softformer.layers.heads import check_context, check_options, check_tokens, merge_heads, split_heads
from softformer.layers.landmarks import GridLandmarks, SegmentLandmarks
from softformer.layers.padding import zero_pads
from softformer.layers.positions import check_rotary, rotate, token_positions
from softformer.layers.segments import segment_positions
from softformer.ops.attention.backends import BackendName
from softformer.ops.attention.health import AttentionHealth, attention_health
from softformer.ops.attention.public import soft_attention
from softformer.ops.inverse import Cholesky, Inverse, check_inverse
from softformer.ops.options import check_choice
from softformer.ops.precision import compute_dtype

_EXACT = Cholesky()


class SoftAttention(nn.Module):
    """Softmax-free attention as a layer: self- and cross-attention, over sequences or over a grid.

    Self-attention projects x to queries, which are also the keys, and to values. Cross-attention projects the context
    to keys and values, and takes its landmarks from these keys. Padding is set to zero before the projections and in
    the output, so neither values nor gradients depend on its contents.

    Args:
        dim: Model width C.
        num_heads: Number of heads H; divides dim.
        landmarks: Module that computes landmarks from queries or keys; None for `SegmentLandmarks(64)`.
        value_kernel: Side of the depthwise convolution of the values that is added to the output, odd; 0 for none. It
            runs over the grid with landmarks on a grid, else along the sequence. Self-attention only.
        inverse: `Cholesky` or `Newton`.
        symmetric_norm: Whether to normalize as in SOFT++.
        context_dim: Width of the context; None for self-attention.
        scale_by_length: Whether to multiply the output by kept landmarks / real keys. Then it does not grow with the
            number of keys, and a network trained on short sequences works on long ones. The published image models do
            not scale.
        rotary: Whether to rotate queries by their positions, and each landmark by the mean position of its segment
            after pooling, because means of rotated queries would cancel. Self-attention over sequences only.
        qkv_bias: Whether the projections to queries, keys, and values have a bias.
        proj_drop: Dropout rate of the output.
        backend: Implementation of the attention, as in `softformer.soft_attention`.

    Raises:
        ValueError: An option is out of range or excludes another.

    Source: Lu et al. 2021 (arXiv 2110.11945), figure 2, and the published code. Masks, cross-attention, and the scaling
    by length are ours.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        landmarks: nn.Module | None = None,
        value_kernel: int = 0,
        inverse: Inverse = _EXACT,
        symmetric_norm: bool = True,
        context_dim: int | None = None,
        scale_by_length: bool = True,
        rotary: bool = False,
        qkv_bias: bool = True,
        proj_drop: float = 0.0,
        backend: BackendName = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options(dim, num_heads, value_kernel, context_dim)
        check_inverse(inverse)
        check_choice("backend", backend, BackendName)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_heads = num_heads
        self.inverse = inverse
        self.symmetric_norm = symmetric_norm
        self.scale_by_length = scale_by_length
        self.rotary = rotary
        self.backend: BackendName = backend
        self.query = nn.Linear(dim, dim, bias=qkv_bias, **factory)
        self.key = None if context_dim is None else nn.Linear(context_dim, dim, bias=qkv_bias, **factory)
        self.value = nn.Linear(dim if context_dim is None else context_dim, dim, bias=qkv_bias, **factory)
        self.landmarks = SegmentLandmarks(64) if landmarks is None else landmarks
        if rotary:
            check_rotary(dim // num_heads)
            if context_dim is not None or not hasattr(self.landmarks, "num_landmarks"):
                raise ValueError(
                    "rotary must be False in cross-attention and on grids, which have no single sequence, got True"
                )
        axes: Literal[1, 2] = 2 if isinstance(landmarks, GridLandmarks) else 1
        self.value_conv = ValueConvolution(num_heads, value_kernel, axes, **factory) if value_kernel else None
        self.proj = nn.Linear(dim, dim, **factory)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        grid: Grid | None = None,
    ) -> Tensor:
        """Attention among the tokens, or from the tokens to a context.

        Args:
            x: (B, N, C).
            mask: (B, N) bool, True at real tokens.
            context: (B, S, context_dim), in cross-attention.
            context_mask: (B, S) bool, True at real tokens of the context.
            grid: (h, w) of the tokens, for landmarks on a grid.

        Returns:
            (B, N, C), zero at padding.

        Raises:
            ValueError: A shape or a mask is wrong, or a context is missing or unexpected.
        """
        inputs, value = self._inputs(x, mask, context, context_mask, grid)
        out = merge_heads(soft_attention(value=split_heads(value, self.num_heads), **inputs, backend=self.backend))
        if self.value_conv is not None:
            out = out + self.value_conv(value, grid=grid, mask=mask)
        return zero_pads(self.proj_drop(self.proj(out)), mask)

    def health(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        grid: Grid | None = None,
    ) -> AttentionHealth:
        """Health figures of this layer's attention; arguments as in `forward`."""
        with torch.no_grad():
            inputs, _ = self._inputs(x, mask, context, context_mask, grid)
            return attention_health(**inputs)

    def _inputs(
        self, x: Tensor, mask: Tensor | None, context: Tensor | None, context_mask: Tensor | None, grid: Grid | None
    ) -> tuple[dict[str, Any], Tensor]:
        """The arguments of the op besides the value, and the values (B, S, C) before their heads are split."""
        check_tokens("x", x, mask, self.query.in_features)
        check_context(self.key, context, context_mask, x)
        x = zero_pads(x, mask)
        query = self._points(self.query, x)
        if self.key is None or context is None:
            source, source_mask, key = x, mask, None
        else:
            source, source_mask = zero_pads(context, context_mask), context_mask
            key = self._points(self.key, source)
        landmarks, landmark_mask = self.landmarks(query if key is None else key, grid=grid, mask=source_mask)
        if self.rotary:
            length, device = x.shape[1], x.device
            centers = segment_positions(length, landmarks.shape[2], mask, device)
            query, landmarks = rotate(query, token_positions(length, mask, device)), rotate(landmarks, centers)
        inputs = {
            "query": query,
            "landmarks": landmarks,
            "key": key,
            "query_mask": mask,
            "key_mask": context_mask,
            "landmark_mask": landmark_mask,
            "inverse": self.inverse,
            "symmetric_norm": self.symmetric_norm,
            "output_scale": self._output_scale(source, source_mask, landmarks, landmark_mask),
        }
        return inputs, self.value(source)

    def _points(self, projection: nn.Linear, x: Tensor) -> Tensor:
        """Queries or keys (B, H, N, D), divided by D^(1/4)."""
        points = split_heads(projection(x), self.num_heads)
        return points * points.shape[-1] ** -0.25

    def _output_scale(
        self, source: Tensor, mask: Tensor | None, landmarks: Tensor, landmark_mask: Tensor | None
    ) -> Tensor | None:
        if not self.scale_by_length:
            return None
        ones = torch.ones(source.shape[0], dtype=compute_dtype(source), device=source.device)
        kept = ones * landmarks.shape[2] if landmark_mask is None else ones * landmark_mask.sum(1)
        real = ones * source.shape[1] if mask is None else ones * mask.sum(1)
        return torch.where(real > 0, kept / real.clamp(min=1), 0.0)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, inverse={self.inverse!r}, symmetric_norm={self.symmetric_norm}"
