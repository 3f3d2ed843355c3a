"""The fused GPU backend: Triton kernels for everything that is as long as the sequence, and for Newton's iterations.

The forward reads queries twice and values once; the backward reads queries, values and the gradient of the output
twice at most, computing kernel matrices again. No N x M tensor is ever in global memory, sums over tokens have a fixed
order, so results are deterministic, and memory beyond the results is constant in N.

Packed sequences of various lengths in one row are not supported; pad them and pass masks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from subprocess import CalledProcessError

import torch
from torch import Tensor
from triton.errors import TritonError

from softformer.ops.attention.landmark_stage import (
    apply_inverse,
    inverse_state,
    landmark_kernel,
    landmark_kernel_backward,
    newton_start,
    scaled,
    stage_backward,
)
from softformer.ops.attention.operands import Gradients, Inputs, Saved, empty_heads, select_rows
from softformer.ops.attention.triton import launch
from softformer.ops.attention.triton.launch import OuterProducts, Points
from softformer.ops.inverse import Inverse, Newton
from softformer.ops.precision import full_precision

# A kernel that does not compile or launch, the C compiler of Triton's launcher, a driver library that is not found.
ERRORS = (TritonError, CalledProcessError, AssertionError)
# Bytes of shared memory that Newton's iterations take for more than 64 landmarks: three float32 matrices of 128 x 128.
_LARGE_SHARED_MEMORY = 192 * 1024


def forward(inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> tuple[Tensor, Saved]:
    """The output (B, H, N, Dv), and the tensors that the backward needs."""
    query, value = inputs.query, inputs.value
    out = empty_heads(query, query.shape[2], value.shape[3], value.dtype)
    batch, heads, num_landmarks = inputs.landmarks.shape[:3]
    if batch * heads == 0:
        widths = (value.shape[3], num_landmarks)
        product, state = (
            query.new_empty((batch, heads, num_landmarks, width), dtype=torch.float32) for width in widths
        )
        return out, Saved(product, state)
    landmarks, queries, keys = _parts(inputs)
    with _device(query):
        state, row_sums, beside = _inverse(landmarks, inverse)
        product = launch.project(keys, value, landmarks)
        if beside is not None:
            torch.cuda.current_stream(query.device).wait_stream(beside)
        scale = row_sums.rsqrt().unsqueeze(-1) if symmetric_norm else None
        weights = apply_inverse(state, scaled(product, inputs.output_scale), inverse, scale)
        launch.expand(queries, weights.contiguous(), landmarks, out)
    return out, Saved(product, state)


def backward(grad: Tensor, saved: Saved, inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> Gradients:
    """The gradients of the inputs from the gradient of the output."""
    query, value = inputs.query, inputs.value
    grad_query, grad_value, grad_landmarks, grad_key = inputs.empty_gradients()
    if grad_landmarks.numel() == 0:
        return grad_query, grad_value, grad_landmarks, grad_key
    landmarks, queries, keys = _parts(inputs)
    with _device(query):
        points = select_rows(inputs.landmarks, inputs.landmark_mask).float()
        matrix = landmark_kernel(points, inputs.landmark_mask)
        weights, grad_product, grad_matrix = stage_backward(
            launch.project(queries, grad, landmarks),
            saved.state,
            matrix,
            scaled(saved.product, inputs.output_scale),
            inverse,
            symmetric_norm,
        )
        weights = weights.contiguous()
        grad_product = scaled(grad_product, inputs.output_scale).contiguous()
        if grad_key is None:
            both = OuterProducts(grad, weights, value, grad_product)
            grad_points = launch.backward(queries, both, landmarks, grad_query, grad_value)
        else:
            outward, inward = OuterProducts(grad, weights, None, None), OuterProducts(None, None, value, grad_product)
            grad_points = launch.backward(queries, outward, landmarks, grad_query, None)
            grad_points = grad_points + launch.backward(keys, inward, landmarks, grad_key, grad_value)
        grad_points = grad_points + landmark_kernel_backward(grad_matrix, matrix, points)
        grad_landmarks.copy_(select_rows(grad_points, inputs.landmark_mask))
    return grad_query, grad_value, grad_landmarks, grad_key


def _parts(inputs: Inputs) -> tuple[Points, Points, Points]:
    """Landmarks, queries and keys with their masks."""
    queries = Points(inputs.query, inputs.query_mask)
    keys = queries if inputs.key is None else Points(inputs.key, inputs.key_mask)
    return Points(inputs.landmarks, inputs.landmark_mask), queries, keys


def _inverse(landmarks: Points, inverse: Inverse) -> tuple[Tensor, Tensor, torch.cuda.Stream | None]:
    """The state of the inverse (B, H, M, M), the row sums of A (B, H, M), and the stream to wait for, if any.

    Newton's iterations run in one launch on a stream of their own, beside the first pass over the tokens. What they
    write is allocated before, by the stream that reads it.
    """
    points = landmarks.points
    batch, heads, num_landmarks = points.shape[:3]
    on_chip = isinstance(inverse, Newton) and num_landmarks <= _largest_on_chip(points.device)
    matrix = None
    if not on_chip or (isinstance(inverse, Newton) and inverse.start == "halving"):
        matrix = landmark_kernel(select_rows(points, landmarks.mask).float(), landmarks.mask)
    if not on_chip:
        assert matrix is not None
        return inverse_state(matrix, inverse), matrix.sum(-1), None
    assert isinstance(inverse, Newton)
    steps = None
    if matrix is not None:
        steps = newton_start(matrix, inverse.ridge, inverse.start).expand(batch, heads, 1, 1).contiguous()
    state = points.new_empty((batch, heads, num_landmarks, num_landmarks), dtype=torch.float32)
    row_sums = points.new_empty((batch, heads, num_landmarks), dtype=torch.float32)
    if not points.is_cuda:
        launch.newton(landmarks, steps, inverse.iterations, inverse.ridge, state, row_sums)
        return state, row_sums, None
    beside = _side_stream(points.device)
    beside.wait_stream(torch.cuda.current_stream(points.device))
    with torch.cuda.stream(beside):
        launch.newton(landmarks, steps, inverse.iterations, inverse.ridge, state, row_sums)
    return state, row_sums, beside


@cache
def _largest_on_chip(device: torch.device) -> int:
    """The most landmarks whose matrix a program keeps on chip."""
    if device.type != "cuda":
        return 128
    shared = torch.cuda.get_device_properties(device).shared_memory_per_block_optin  # type: ignore[attr-defined]
    return 128 if shared >= _LARGE_SHARED_MEMORY else 64


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@contextmanager
def _device(x: Tensor) -> Iterator[None]:
    """Launches go to the device of x, and float32 products are float32 products."""
    with full_precision(x.device.type):
        if x.is_cuda:
            with torch.cuda.device(x.device):
                yield
        else:
            yield
