"""The attention as custom operators, so that compilers take it whole; which backend runs is decided inside.

Operators reject objects: an `Inverse` travels as its class name and its options. The backward is an operator of its
own; a second backward, vmap and forward-mode derivatives are left to ``backend="reference"``.
"""

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from softformer.ops.attention.backends import choose_backend
from softformer.ops.attention.operands import Saved, empty_heads
from softformer.ops.inverse import Cholesky, Inverse, Newton
from softformer.ops.precision import compute_dtype

_INPUTS = (
    "Tensor query, Tensor value, Tensor landmarks, Tensor? key, Tensor? query_mask, Tensor? key_mask, "
    "Tensor? landmark_mask, Tensor? output_scale"
)
_OPTIONS = "str backend, int iterations, float ridge, str start, str gradient, bool symmetric_norm"


def _pack(inverse: Inverse) -> tuple[int, float, str, str]:
    """An inverse as plain values; no iterations stand for Cholesky."""
    if isinstance(inverse, Newton):
        return inverse.iterations, inverse.ridge, inverse.start, inverse.gradient
    return 0, inverse.ridge, "", ""


def _unpack(iterations: int, ridge: float, start: str, gradient: str) -> Inverse:
    return Newton(iterations, ridge, start, gradient) if iterations else Cholesky(ridge)  # type: ignore[arg-type]


@torch.library.custom_op(
    "softformer::soft_attention", mutates_args=(), schema=f"({_INPUTS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor)"
)
def _forward_op(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    tensors, (backend, *options, symmetric_norm) = arguments[:8], arguments[8:]
    out, saved = choose_backend(backend, *tensors[:3]).load().forward(*tensors, _unpack(*options), symmetric_norm)
    return out, saved.product, saved.state


@_forward_op.register_fake
def _forward_fake(query: Tensor, value: Tensor, landmarks: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(query, value)
    batch, heads, num_landmarks = landmarks.shape[:3]
    return (
        empty_heads(query, query.shape[2], value.shape[3], value.dtype),
        landmarks.new_empty((batch, heads, num_landmarks, value.shape[3]), dtype=dtype),
        landmarks.new_empty((batch, heads, num_landmarks, num_landmarks), dtype=dtype),
    )


@torch.library.custom_op(
    "softformer::soft_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor product, Tensor state, {_INPUTS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward_op(grad: Tensor, product: Tensor, state: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    tensors, (backend, *options, symmetric_norm) = arguments[:8], arguments[8:]
    *grads, grad_key = (
        choose_backend(backend, *tensors[:3])
        .load()
        .backward(grad, Saved(product, state), *tensors, _unpack(*options), symmetric_norm)
    )
    return (*grads, tensors[0].new_empty(0) if grad_key is None else grad_key)


@_backward_op.register_fake
def _backward_fake(
    grad: Tensor,
    product: Tensor,
    state: Tensor,
    query: Tensor,
    value: Tensor,
    landmarks: Tensor,
    key: Tensor | None,
    *arguments: Any,
) -> tuple[Tensor, ...]:
    return (
        empty_heads(query, query.shape[2], query.shape[3], query.dtype),
        empty_heads(value, value.shape[2], value.shape[3], value.dtype),
        landmarks.new_empty(landmarks.shape),
        query.new_empty(0) if key is None else empty_heads(key, key.shape[2], key.shape[3], key.dtype),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.options = inputs[8:]
    ctx.save_for_backward(*inputs[:8], *output[1:])


def _backward(ctx: Any, grad: Tensor, grad_product: Tensor | None, grad_state: Tensor | None) -> tuple[Any, ...]:
    *tensors, product, state = ctx.saved_tensors
    *grads, grad_key = torch.ops.softformer.soft_attention_backward(grad, product, state, *tensors, *ctx.options)
    return (*grads, None if tensors[3] is None else grad_key, *[None] * 10)


def _no_second_backward(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError("soft_attention is differentiable once here; a second backward needs backend='reference'")


def _no_vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> NoReturn:
    raise RuntimeError("soft_attention takes batches in its first axis; vmap over it needs backend='reference'")


_forward_op.register_autograd(_backward, setup_context=_save)
_backward_op.register_autograd(_no_second_backward)
_forward_op.register_vmap(_no_vmap)
_backward_op.register_vmap(_no_vmap)


def call_backend(name: str, *arguments: Any) -> Tensor:
    """The output of the named backend; arguments as in `reference.soft_attention`.

    Raises:
        RuntimeError: An input carries a forward-mode tangent, which an operator would drop without a word.
    """
    *tensors, inverse, symmetric_norm = arguments
    if not torch.compiler.is_compiling() and any(x is not None and unpack_dual(x).tangent is not None for x in tensors):
        raise RuntimeError("soft_attention has no forward-mode derivative here; jvp needs backend='reference'")
    out, _, _ = torch.ops.softformer.soft_attention(*tensors, name, *_pack(inverse), symmetric_norm)
    return out
