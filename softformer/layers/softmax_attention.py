"""Softmax attention with the interface of `SoftAttention`."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.convolution import Grid, ValueConvolution
from softformer.layers.heads import check_context, check_options, check_tokens, merge_heads, split_heads
from softformer.layers.padding import zero_pads
from softformer.layers.positions import check_rotary, rotate, token_positions


class SoftmaxAttention(nn.Module):
    """Multi-head softmax attention with the interface of `SoftAttention`, for comparisons and for last stages.

    Args:
        value_axes: 2 if the convolution of the values runs over a grid, 1 for sequences.
        rotary: Whether to rotate queries and keys by their positions. Self-attention only.

    The other arguments and the errors are as in `SoftAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        value_kernel: int = 0,
        value_axes: Literal[1, 2] = 1,
        context_dim: int | None = None,
        rotary: bool = False,
        qkv_bias: bool = True,
        proj_drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_options(dim, num_heads, value_kernel, context_dim)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_heads = num_heads
        if rotary:
            check_rotary(dim // num_heads)
            if context_dim is not None:
                raise ValueError("rotary must be False in cross-attention, which has no single sequence, got True")
        self.context_dim = context_dim
        self.rotary = rotary
        self.query = nn.Linear(dim, dim, bias=qkv_bias, **factory)
        self.key_value = nn.Linear(dim if context_dim is None else context_dim, 2 * dim, bias=qkv_bias, **factory)
        self.value_conv = ValueConvolution(num_heads, value_kernel, value_axes, **factory) if value_kernel else None
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
        """Attention among the tokens, or from the tokens to a context; arguments as in `SoftAttention.forward`."""
        check_tokens("x", x, mask, self.query.in_features)
        check_context(None if self.context_dim is None else self.key_value, context, context_mask, x)
        x = zero_pads(x, mask)
        source, source_mask = (x, mask) if context is None else (zero_pads(context, context_mask), context_mask)
        key, value = self.key_value(source).chunk(2, dim=-1)
        query, keys, values = (split_heads(part, self.num_heads) for part in (self.query(x), key, value))
        if self.rotary:
            positions = token_positions(x.shape[1], mask, x.device)
            query, keys = rotate(query, positions), rotate(keys, positions)
        if source_mask is None:
            out = merge_heads(F.scaled_dot_product_attention(query, keys, values))
        else:
            # A sample without real keys attends to all keys and is set to zero, since a softmax over no key is NaN.
            any_real = source_mask.any(1, keepdim=True)
            attended = (source_mask | ~any_real)[:, None, None, :]
            out = merge_heads(F.scaled_dot_product_attention(query, keys, values, attn_mask=attended))
            out = zero_pads(out, any_real.expand(-1, out.shape[1]))
        if self.value_conv is not None:
            out = out + self.value_conv(value, grid=grid, mask=mask)
        return zero_pads(self.proj_drop(self.proj(out)), mask)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"
