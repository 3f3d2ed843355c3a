"""The plain torch backend: chunks over tokens, forward and backward, so memory beyond the results stays constant in N.

The forward keeps Z and the state of the inverse, M x Dv and M x M a head; kernel matrices are computed again in the
backward. Everything is computed in float32, or float64 for float64 inputs.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from softformer.ops.inverse import Inverse
from softformer.ops.landmark_stage import stage_backward, stage_forward
from softformer.ops.precision import compute_dtype, full_precision
from softformer.ops.reference import landmark_kernel, select_rows

# Elements of one chunk's kernel matrix over all batches and heads: 2 MB in float32, about a core's share of cache.
_CHUNK_ELEMENTS = 1 << 19


class Saved(NamedTuple):
    """What a forward hands to its backward: Z = P_k^T V (B, H, M, Dv) before scaling, and the state of the inverse."""

    product: Tensor
    state: Tensor


class _Landmarks(NamedTuple):
    """Landmarks (B, H, M, D) in the compute type, zero where removed, with half their squared norms (B, H, 1, M)."""

    points: Tensor
    half_square: Tensor
    mask: Tensor | None


def empty_heads(like: Tensor, length: int, width: int, dtype: torch.dtype) -> Tensor:
    """An empty (B, H, length, width) tensor laid out as (B, length, H, width), so merging heads is a view."""
    batch, heads = like.shape[:2]
    return torch.empty((batch, length, heads, width), dtype=dtype, device=like.device).transpose(1, 2)


def _prepare(landmarks: Tensor, mask: Tensor | None, dtype: torch.dtype) -> _Landmarks:
    points = select_rows(landmarks, mask).to(dtype)
    return _Landmarks(points, points.square().sum(-1).unsqueeze(-2) / 2, mask)


def _chunks(x: Tensor, num_landmarks: int) -> Iterator[slice]:
    batch, heads, length = x.shape[:3]
    rows = max(64, _CHUNK_ELEMENTS // max(1, batch * heads * num_landmarks))
    for start in range(0, length, rows):
        yield slice(start, min(start + rows, length))


def _rows(x: Tensor, mask: Tensor | None, chunk: slice, dtype: torch.dtype) -> Tensor:
    """A chunk of x in the compute type, pads selected away."""
    return select_rows(x[:, :, chunk], None if mask is None else mask[:, chunk]).to(dtype)


def _kernel(x: Tensor, landmarks: _Landmarks, mask: Tensor | None, chunk: slice) -> Tensor:
    """P of a chunk of prepared rows."""
    kernel = x @ landmarks.points.mT
    kernel -= x.square().sum(-1, keepdim=True) / 2
    kernel -= landmarks.half_square
    kernel.clamp_(max=0).exp_()
    if mask is not None:
        kernel.masked_fill_(~mask[:, None, chunk, None], 0)
    if landmarks.mask is not None:
        kernel.masked_fill_(~landmarks.mask[:, None, None, :], 0)
    return kernel


def _project(x: Tensor, right: Tensor, mask: Tensor | None, landmarks: _Landmarks) -> Tensor:
    """P^T right, (B, H, M, Dv), over chunks of tokens."""
    points = landmarks.points
    result = points.new_zeros((*points.shape[:3], right.shape[-1]))
    for chunk in _chunks(x, points.shape[-2]):
        kernel = _kernel(_rows(x, mask, chunk, points.dtype), landmarks, mask, chunk)
        result += kernel.mT @ _rows(right, mask, chunk, points.dtype)
    return result


def forward(
    query: Tensor,
    value: Tensor,
    landmarks: Tensor,
    key: Tensor | None,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    landmark_mask: Tensor | None,
    output_scale: Tensor | None,
    inverse: Inverse,
    symmetric_norm: bool,
) -> tuple[Tensor, Saved]:
    """The output (B, H, N, Dv) and what the backward needs; arguments as in `reference.soft_attention`."""
    dtype = compute_dtype(query, value)
    if key is None:
        key, key_mask = query, query_mask
    with full_precision(query.device.type):
        points = _prepare(landmarks, landmark_mask, dtype)
        matrix = landmark_kernel(landmarks.to(dtype), landmark_mask)
        product = _project(key, value, key_mask, points)
        weights, state = stage_forward(matrix, _scaled(product, output_scale), inverse, symmetric_norm)
        out = empty_heads(query, query.shape[-2], value.shape[-1], value.dtype)
        for chunk in _chunks(query, landmarks.shape[-2]):
            kernel = _kernel(_rows(query, query_mask, chunk, dtype), points, query_mask, chunk)
            out[:, :, chunk] = select_rows(kernel @ weights, None if query_mask is None else query_mask[:, chunk])
    return out, Saved(product, state)


def backward(
    grad: Tensor,
    saved: Saved,
    query: Tensor,
    value: Tensor,
    landmarks: Tensor,
    key: Tensor | None,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    landmark_mask: Tensor | None,
    output_scale: Tensor | None,
    inverse: Inverse,
    symmetric_norm: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of query, value, landmarks and key (None in self-attention) from the gradient of the output."""
    dtype = compute_dtype(query, value)
    with full_precision(query.device.type):
        points = _prepare(landmarks, landmark_mask, dtype)
        matrix = landmark_kernel(landmarks.to(dtype), landmark_mask)
        grad_weights = _project(query, grad, query_mask, points)
        product = _scaled(saved.product, output_scale)
        weights, grad_product, grad_matrix = stage_backward(
            grad_weights, saved.state, matrix, product, inverse, symmetric_norm
        )
        grad_product = _scaled(grad_product, output_scale)
        grad_points = _landmark_kernel_backward(grad_matrix, matrix, points.points)
        grad_value = empty_heads(value, value.shape[-2], value.shape[-1], value.dtype)
        grad_query = empty_heads(query, query.shape[-2], query.shape[-1], query.dtype)
        queries, keys = (grad, weights), (value, grad_product)
        if key is None:
            grad_points += _kernel_backward(query, query_mask, points, [queries, keys], grad_query, grad_value)
            grad_key = None
        else:
            grad_key = empty_heads(key, key.shape[-2], key.shape[-1], key.dtype)
            grad_points += _kernel_backward(query, query_mask, points, [queries], grad_query, None)
            grad_points += _kernel_backward(key, key_mask, points, [keys], grad_key, grad_value)
        grad_landmarks = select_rows(grad_points, landmark_mask).to(landmarks.dtype)
    return grad_query, grad_value, grad_landmarks, grad_key


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale[:, None, None, None].to(x.dtype)


def _landmark_kernel_backward(grad: Tensor, matrix: Tensor, points: Tensor) -> Tensor:
    """The gradient of the landmarks through A; its diagonal and removed landmarks are constants."""
    grad = grad * matrix
    grad = grad + grad.mT
    grad.diagonal(dim1=-2, dim2=-1).zero_()
    return grad @ points - grad.sum(-1, keepdim=True) * points


def _kernel_backward(
    x: Tensor,
    mask: Tensor | None,
    landmarks: _Landmarks,
    outer: list[tuple[Tensor, Tensor]],
    grad_x: Tensor,
    grad_value: Tensor | None,
) -> Tensor:
    """Writes the gradients of x, and of the value on the key side, and returns that of the landmarks through P.

    The gradient of P is the sum of left right^T over `outer`, pairs of (B, H, N, Dv) and (B, H, M, Dv); the last
    pair is (value, dZ) on the key side, so the gradient of the value is P dZ.
    """
    points = landmarks.points
    grad_points = torch.zeros_like(points)
    for chunk in _chunks(x, points.shape[-2]):
        rows = _rows(x, mask, chunk, points.dtype)
        kernel = _kernel(rows, landmarks, mask, chunk)
        if grad_value is not None:
            grad_value[:, :, chunk] = kernel @ outer[-1][1]
        grad_exponent = torch.zeros_like(kernel)
        for left, right in outer:
            grad_exponent += _rows(left, mask, chunk, points.dtype) @ right.mT
        grad_exponent *= kernel
        grad_x[:, :, chunk] = grad_exponent @ points - grad_exponent.sum(-1, keepdim=True) * rows
        grad_points += grad_exponent.mT @ rows - grad_exponent.sum(-2).unsqueeze(-1) * points
    return grad_points
