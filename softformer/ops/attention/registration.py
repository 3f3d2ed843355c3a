"""The attention as custom operators, so that compilers take it whole; the backend is chosen inside the operator.

Operators take no objects: tensors are positional arguments in the order of `Inputs`, options are keyword arguments, and
an `Inverse` is passed as its attributes. The backward is an operator of its own; a second backward, vmap, and
forward-mode derivatives are left to ``backend="reference"``.
"""

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from softformer.ops.attention.backends import choose_backend
from softformer.ops.attention.operands import Gradients, Inputs, Saved, empty_heads
from softformer.ops.inverse import Cholesky, Inverse, Newton
from softformer.ops.precision import compute_dtype

_INPUTS = ", ".join(f"Tensor{'?' if name in Inputs._field_defaults else ''} {name}" for name in Inputs._fields)
# Zero iterations stand for Cholesky, which has only a ridge.
_OPTIONS = 'str backend, bool symmetric_norm, float ridge, int iterations=0, str start="", str gradient=""'


def _inverse(ridge: float, iterations: int = 0, **newton: Any) -> Inverse:
    return Newton(iterations, ridge, **newton) if iterations else Cholesky(ridge)


@torch.library.custom_op(
    "softformer::soft_attention", mutates_args=(), schema=f"({_INPUTS}, *, {_OPTIONS}) -> (Tensor, Tensor, Tensor)"
)
def _forward_op(*tensors: Any, backend: str, symmetric_norm: bool, **inverse: Any) -> tuple[Tensor, Tensor, Tensor]:
    call = Inputs(*tensors), _inverse(**inverse), symmetric_norm
    out, saved = choose_backend(backend, *call).load().forward(*call)
    return out, saved.product, saved.state


@_forward_op.register_fake
def _forward_fake(*tensors: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    query, value, landmarks, *_ = tensors
    out = empty_heads(query, query.shape[2], value.shape[3], value.dtype)
    widths = (value.shape[3], landmarks.shape[2])
    dtype = compute_dtype(query, value)
    product, state = (landmarks.new_empty((*landmarks.shape[:3], width), dtype=dtype) for width in widths)
    return out, product, state


@torch.library.custom_op(
    "softformer::soft_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor product, Tensor state, {_INPUTS}, *, {_OPTIONS}) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward_op(
    grad: Tensor, product: Tensor, state: Tensor, *tensors: Any, backend: str, symmetric_norm: bool, **inverse: Any
) -> tuple[Tensor, ...]:
    inputs = Inputs(*tensors)
    call = inputs, _inverse(**inverse), symmetric_norm
    gradients = choose_backend(backend, *call).load().backward(grad, Saved(product, state), *call)
    return _without_none(inputs, gradients)


@_backward_op.register_fake
def _backward_fake(grad: Tensor, product: Tensor, state: Tensor, *tensors: Any, **options: Any) -> tuple[Tensor, ...]:
    inputs = Inputs(*tensors)
    return _without_none(inputs, inputs.empty_gradients())


def _without_none(inputs: Inputs, gradients: Gradients) -> tuple[Tensor, ...]:
    """The gradients with an empty tensor for the key of self-attention, because operators return tensors only."""
    return tuple(inputs.query.new_empty(0) if x is None else x for x in gradients)


def _save(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, product, state = output
    ctx.options = keyword_only_inputs
    ctx.save_for_backward(product, state, *inputs)


def _backward(ctx: Any, grad: Tensor, grad_product: Tensor | None, grad_state: Tensor | None) -> tuple[Any, ...]:
    product, state, *tensors = ctx.saved_tensors
    gradients = torch.ops.softformer.soft_attention_backward(grad, product, state, *tensors, **ctx.options)
    query, value, landmarks, key = gradients
    return Inputs(query, value, landmarks, None if Inputs(*tensors).key is None else key)


def _no_second_backward(ctx: Any, *grads: Tensor) -> NoReturn:
    raise RuntimeError(
        "soft_attention has no second backward in this backend; a second backward needs backend='reference'"
    )


def _no_vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Any, **options: Any) -> NoReturn:
    raise RuntimeError("soft_attention does not support vmap in this backend; vmap over it needs backend='reference'")


_forward_op.register_autograd(_backward, setup_context=_save)
_backward_op.register_autograd(_no_second_backward)
_forward_op.register_vmap(_no_vmap)
_backward_op.register_vmap(_no_vmap)


def call_backend(backend: str, inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> Tensor:
    """The output of the named backend. A forward-mode tangent, which the operator would drop silently, is an error."""
    if not torch.compiler.is_compiling() and any(x is not None and unpack_dual(x).tangent is not None for x in inputs):
        raise RuntimeError(
            "soft_attention has no forward-mode derivative in this backend; jvp needs backend='reference'"
        )
    options = {"backend": backend, "symmetric_norm": symmetric_norm, **inverse.init_args}
    out, _, _ = torch.ops.softformer.soft_attention(*inputs, **options)
    return out
