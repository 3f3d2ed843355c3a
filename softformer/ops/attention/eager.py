"""The backend in plain torch, which computes kernel matrices in chunks of samples and tokens that fit the cache.

Besides the results it allocates one number for each token and head. The forward saves Z and the state of the inverse,
M x Dv and M x M for each head; the backward computes kernel matrices again. Everything is computed in float32, or in
float64 for float64 inputs.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from softformer.ops.attention.kernel_chunks import KernelChunks
from softformer.ops.attention.landmark_stage import (
    apply_inverse,
    inverse_state,
    landmark_kernel,
    landmark_kernel_backward,
    row_scale,
    scaled,
    stage_backward,
)
from softformer.ops.attention.operands import Gradients, Inputs, Saved, empty_heads, select_rows
from softformer.ops.inverse import Inverse
from softformer.ops.precision import compute_dtype, full_precision

# Elements of the kernel matrix of a chunk, over its samples and heads. On a CPU 1 MB in float32 for each thread, half
# the second-level cache of a core; on other devices launches cost more than memory traffic.
_CHUNK_ELEMENTS_A_THREAD = 1 << 18
_CHUNK_ELEMENTS_ELSEWHERE = 1 << 24


def forward(inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> tuple[Tensor, Saved]:
    """The output (B, H, N, Dv), and the tensors that the backward needs."""
    query, value, landmarks = inputs.query, inputs.value, inputs.landmarks
    out = empty_heads(query, query.shape[2], value.shape[3], value.dtype)
    product = landmarks.new_empty((*landmarks.shape[:3], value.shape[3]), dtype=compute_dtype(query, value))
    with full_precision(query.device.type):
        points, matrix = _landmarks(inputs)
        state = inverse_state(matrix, inverse)
        scale = row_scale(matrix) if symmetric_norm else None
        for part in _sample_groups(inputs):
            sample = inputs.samples(part)
            queries, keys = _sides(sample, points[part])
            product[part] = keys.project(sample.value)
            right = scaled(product[part], sample.output_scale)
            weights = apply_inverse(state[part], right, inverse, None if scale is None else scale[part])
            queries.expand(weights, out[part])
    return out, Saved(product, state)


def backward(grad: Tensor, saved: Saved, inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> Gradients:
    """The gradients of the inputs from the gradient of the output."""
    grad_query, grad_value, grad_landmarks, grad_key = inputs.empty_gradients()
    with full_precision(inputs.query.device.type):
        points, matrix = _landmarks(inputs)
        for part in _sample_groups(inputs):
            sample = inputs.samples(part)
            queries, keys = _sides(sample, points[part])
            weights, grad_product, grad_matrix = stage_backward(
                queries.project(grad[part]),
                saved.state[part],
                matrix[part],
                scaled(saved.product[part], sample.output_scale),
                inverse,
                symmetric_norm,
            )
            grad_product = scaled(grad_product, sample.output_scale)
            outward, inward = (grad[part], weights), (sample.value, grad_product)
            if grad_key is None:
                grad_points = queries.backward([outward, inward], grad_query[part], grad_value[part])
            else:
                grad_points = queries.backward([outward], grad_query[part], None)
                grad_points += keys.backward([inward], grad_key[part], grad_value[part])
            grad_points += landmark_kernel_backward(grad_matrix, matrix[part], points[part])
            grad_landmarks[part] = select_rows(grad_points, sample.landmark_mask)
    return grad_query, grad_value, grad_landmarks, grad_key


def _landmarks(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The landmarks in the compute type, zero where removed, and their kernel A."""
    mask = inputs.landmark_mask
    points = select_rows(inputs.landmarks, mask).to(compute_dtype(inputs.query, inputs.value))
    return points, landmark_kernel(points, mask)


def _sides(inputs: Inputs, points: Tensor) -> tuple[KernelChunks, KernelChunks]:
    """The kernel matrices of queries and of keys; the same object in self-attention."""
    landmarks = points, inputs.landmark_mask, _chunk_elements(points)
    queries = KernelChunks(inputs.query, inputs.query_mask, *landmarks)
    return queries, queries if inputs.key is None else KernelChunks(inputs.key, inputs.key_mask, *landmarks)


def _chunk_elements(like: Tensor) -> int:
    if like.device.type == "cpu":
        return _CHUNK_ELEMENTS_A_THREAD * torch.get_num_threads()
    return _CHUNK_ELEMENTS_ELSEWHERE


def _sample_groups(inputs: Inputs) -> Iterator[slice]:
    """Slices of the batch, of at least one sample, whose kernel matrices fill a chunk."""
    batch, heads, num_landmarks = inputs.landmarks.shape[:3]
    length = max(inputs.query.shape[2], inputs.value.shape[2])
    size = max(1, _chunk_elements(inputs.landmarks) // max(1, heads * num_landmarks * length))
    for start in range(0, batch, size):
        yield slice(start, min(start + size, batch))
