"""What all attention layers share: splitting heads, and what they ask of their arguments.

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
    """The heads share the width equally."""
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise ValueError(f"num_heads must divide dim, got num_heads={num_heads} and dim={dim}")


def check_value_kernel(value_kernel: int, context_dim: int | None) -> None:
    """A value convolution goes with self-attention, where values lie along the queries.

    Raises:
        ValueError: There is one in cross-attention.
    """
    if value_kernel and context_dim is not None:
        raise ValueError(
            f"value_kernel must be 0 in cross-attention (its values lie along the context), got {value_kernel}"
        )


def check_tokens(name: str, x: Tensor, mask: Tensor | None, width: int) -> None:
    """Tokens and their mask have the shapes of a layer of that width."""
    if x.ndim != 3 or x.shape[-1] != width:
        raise ValueError(f"{name} must have shape (batch, tokens, {width}), got {tuple(x.shape)}")
    check_mask("mask" if name == "x" else f"{name}_mask", mask, x.shape[0], x.shape[1], x.device)


def check_context(projection: nn.Linear | None, context: Tensor | None, mask: Tensor | None, x: Tensor) -> None:
    """A context comes if, and only if, there is a projection for it."""
    if projection is None:
        if context is not None or mask is not None:
            raise ValueError("context must be None in self-attention; build the layer with context_dim=... to take one")
        return
    if context is None:
        raise ValueError(f"context must be given, of width {projection.in_features}: the layer has a context_dim")
    check_tokens("context", context, mask, projection.in_features)
    if context.shape[0] != x.shape[0]:
        raise ValueError(f"context must have the batch size of x, {x.shape[0]}, got {context.shape[0]}")
