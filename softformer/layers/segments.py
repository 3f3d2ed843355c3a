"""Segments: M contiguous parts of the real tokens of a sequence, of nearly equal size.

Token i of n is in segment floor(i M / n). In a sequence of fewer than M tokens each token is a segment. So the segments
of a sequence depend neither on its padding nor on the rest of the batch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from softformer.layers.padding import packing_of, take_tokens, zero_pads
from softformer.ops.exporting import sizes_are_symbols
from softformer.ops.precision import compute_dtype


class Segments(NamedTuple):
    """Segments as ranges of positions among the real tokens; B is 1 if there is no mask."""

    starts: Tensor
    """(B, M): position of the first token of each segment."""
    sizes: Tensor
    """(B, M): number of tokens of each segment; 0 for segments that a short sequence does not have."""


def clamp_size(size: Any, least: int, most: int) -> Any:
    """A size in [least, most]; it may be a symbol of torch.export or a tensor of torch.jit.trace."""
    if isinstance(size, Tensor):
        return size.clamp(least, most)
    # The compiler does not support sym_min of integers, nor torch.export min of symbols.
    if isinstance(size, int):
        return max(least, min(most, size))
    return torch.sym_max(least, torch.sym_min(most, size))


def segments_of(length: int, num_segments: int, mask: Tensor | None, device: torch.device) -> Segments:
    """The segments of sequences of `length` tokens with the given mask (B, N); min(M, N) of them, but at least one.

    Exported graphs have M segments for any N, because a size that depends on N would fix N; in short sequences the last
    segments are empty.
    """
    possible = clamp_size(length, 1, num_segments)
    used = num_segments if sizes_are_symbols() else possible
    borders = torch.arange(used + 1, device=device).unsqueeze(0)
    if mask is None:
        starts = ((borders * length + possible - 1) // possible).clamp(max=length)
    else:
        count = mask.sum(1, keepdim=True)
        kept = count.clamp(min=1, max=used)
        starts = torch.minimum((borders * count + kept - 1) // kept, count)
    return Segments(starts[:, :-1], starts.diff(dim=1))


def segment_positions(length: int, num_segments: int, mask: Tensor | None, device: torch.device) -> Tensor:
    """The mean position of each segment among the real tokens, (B, M) or (1, M) float32."""
    starts, sizes = segments_of(length, num_segments, mask, device)
    return starts + (sizes - 1).clamp(min=0) / 2


def segment_means(x: Tensor, num_segments: int, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Means of the segments of the real tokens.

    Args:
        x: (B, H, N, D).
        num_segments: M.
        mask: (B, N) bool, or None if all tokens are real.

    Returns:
        Means (B, H, min(M, N), D), at least one, zero for empty segments; and their mask (B, min(M, N)), False at empty
        segments, or None without a mask. Exported graphs have M means and always a mask.
    """
    heads, length = x.shape[1], x.shape[2]
    tokens = x.transpose(1, 2).flatten(2)
    segments = segments_of(length, num_segments, mask, x.device)
    sizes = segments.sizes
    if sizes_are_symbols():
        sums = _sums_by_product(tokens, segments, mask)
    elif mask is None and length > 0 and length % sizes.shape[1] == 0:
        sums = tokens.unflatten(1, (sizes.shape[1], -1)).sum(2, dtype=compute_dtype(x))
    else:
        sums = _sums_by_gathering(tokens, segments, mask)
    means = (sums / sizes.clamp(min=1).unsqueeze(-1)).to(x.dtype)
    found = None if mask is None and not sizes_are_symbols() else (sizes > 0).expand(x.shape[0], -1)
    return means.unflatten(-1, (heads, -1)).transpose(1, 2), found


def _sums_by_gathering(tokens: Tensor, segments: Segments, mask: Tensor | None) -> Tensor:
    """Sums of segments, (B, M, C), by gathering the tokens of each segment; memory is linear in N."""
    starts, sizes = segments
    longest: Any = (tokens.shape[1] + starts.shape[1] - 1) // starts.shape[1]
    inside = torch.arange(longest, device=tokens.device) < sizes.unsqueeze(-1)
    places = torch.where(inside, starts.unsqueeze(-1) + torch.arange(longest, device=tokens.device), 0).flatten(1)
    if mask is None:
        members = tokens.index_select(1, places[0])
    else:
        members = take_tokens(tokens, packing_of(mask).order.gather(1, places))
    members = members.unflatten(1, (starts.shape[1], longest)).masked_fill(~inside.unsqueeze(-1), 0)
    return members.sum(2, dtype=compute_dtype(tokens))


def _sums_by_product(tokens: Tensor, segments: Segments, mask: Tensor | None) -> Tensor:
    """Sums of segments, (B, M, C), as the product of a membership matrix and the tokens, for graphs of any length."""
    ranks = torch.arange(tokens.shape[1], device=tokens.device) if mask is None else mask.cumsum(1) - 1
    after = ranks.unsqueeze(-2) - segments.starts.unsqueeze(-1)
    inside = (after >= 0) & (after < segments.sizes.unsqueeze(-1))
    if mask is not None:
        inside = inside & mask.unsqueeze(1)
    dtype = compute_dtype(tokens)
    return inside.to(dtype).expand(tokens.shape[0], -1, -1).bmm(zero_pads(tokens, mask).to(dtype))
