"""Splitting and merging of heads, and checks of arguments that all attention layers share.

Letters: B batch, N tokens, C model width, H heads, D = C / H head width.
"""

from torch import Tensor, nn

from softformer.ops.checks import check_mask


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, H, N, D), a view."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, D) -> (B, N, C)."""
    return x.transpose(1, 2).flatten(2)


def check_heads(dim: int, num_heads: int) -> None:
    """Check that the number of heads divides the model width."""
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise ValueError(f"num_heads must divide dim, got num_heads={num_heads} and dim={dim}")


def check_options(dim: int, num_heads: int, value_kernel: int, context_dim: int | None) -> None:
    """Check the options of an attention layer: its heads, and that only self-attention has a value convolution."""
    check_heads(dim, num_heads)
    if value_kernel and context_dim is not None:
        raise ValueError(
            f"value_kernel must be 0 in cross-attention, whose values are not at its queries, got {value_kernel}"
        )


def check_tokens(name: str, x: Tensor, mask: Tensor | None, width: int) -> None:
    """Check that tokens (batch, tokens, width) and their mask fit a layer of this width."""
    if x.ndim != 3 or x.shape[-1] != width:
        raise ValueError(f"{name} must have shape (batch, tokens, {width}), got {tuple(x.shape)}")
    check_mask("mask" if name == "x" else f"{name}_mask", mask, x.shape[0], x.shape[1], x.device)


def check_context(projection: nn.Linear | None, context: Tensor | None, mask: Tensor | None, x: Tensor) -> None:
    """Check that there is a context if and only if the layer has a projection for it."""
    if projection is None:
        if context is not None or mask is not None:
            raise ValueError("context must be None in self-attention, got one; build the layer with context_dim=...")
        return
    if context is None:
        raise ValueError(f"context must be a tensor of width {projection.in_features} in cross-attention, got None")
    check_tokens("context", context, mask, projection.in_features)
    if context.shape[0] != x.shape[0]:
        raise ValueError(f"context must have the batch size of x, {x.shape[0]}, got {context.shape[0]}")
