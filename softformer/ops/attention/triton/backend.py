"""The fused GPU backend: Triton kernels for everything that is as long as the sequence, and for Newton's iterations.

The forward reads queries twice and values once; the backward reads queries, values and the gradient of the output
twice at most, computing kernel matrices again. No N x M tensor is ever in global memory, sums over tokens have a fixed
order, so results are deterministic, and memory beyond the results is constant in N.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
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
        with _inverse(landmarks, inverse) as (state, row_sums):
            product = launch.project(keys, value, landmarks)
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
        points, matrix = _landmark_matrix(landmarks)
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
    return Points(inputs.landmarks.contiguous(), inputs.landmark_mask), queries, keys


def _landmark_matrix(landmarks: Points) -> tuple[Tensor, Tensor]:
    """The landmarks in float32, zero where removed, and their kernel A."""
    points = select_rows(landmarks.points, landmarks.mask).float()
    return points, landmark_kernel(points, landmarks.mask)


@contextmanager
def _inverse(landmarks: Points, inverse: Inverse) -> Iterator[tuple[Tensor, Tensor]]:
    """The state of the inverse (B, H, M, M) and the row sums of A (B, H, M), complete at the end of the block.

    Newton's iterations for few landmarks run in one launch, which overlaps with the launches of the block.
    """
    shape, device = landmarks.points.shape, landmarks.points.device
    if not isinstance(inverse, Newton) or shape[2] > launch.MOST_ON_CHIP:
        _, matrix = _landmark_matrix(landmarks)
        yield inverse_state(matrix, inverse), matrix.sum(-1)
        return
    steps = None
    if inverse.start == "halving":
        _, matrix = _landmark_matrix(landmarks)
        steps = newton_start(matrix, inverse.ridge, inverse.start).expand(*shape[:2], 1, 1).contiguous()
    state = torch.empty((*shape[:3], shape[2]), device=device)
    row_sums = torch.empty(shape[:3], device=device)
    run = partial(launch.newton, landmarks, steps, inverse.iterations, inverse.ridge, state, row_sums)
    with _on_side_stream(device, run):
        yield state, row_sums


@contextmanager
def _on_side_stream(device: torch.device, run: Callable[[], None]) -> Iterator[None]:
    """Call `run` on its own stream; the current stream waits for it at the end of the block, also after an error.

    `run` must hold every tensor that its launches read or write, so that no memory is reused before the wait.
    """
    if device.type != "cuda":
        run()
        yield
        return
    stream, side = torch.cuda.current_stream(device), _side_stream(device)
    side.wait_stream(stream)
    try:
        with torch.cuda.stream(side):
            run()
        yield
    finally:
        stream.wait_stream(side)


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
