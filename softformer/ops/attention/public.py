"""The public function of the attention: it checks the arguments and calls a backend."""

import torch
from torch import Tensor

from softformer.ops.attention import reference
from softformer.ops.attention.backends import BackendName
from softformer.ops.attention.checks import check_inputs, scale_tensor
from softformer.ops.attention.operands import Inputs
from softformer.ops.attention.registration import call_backend
from softformer.ops.exporting import is_exporting, is_exporting_to_onnx
from softformer.ops.inverse import Cholesky, Inverse, Newton, check_inverse
from softformer.ops.options import check_choice
from softformer.ops.precision import compute_dtype, full_precision

_PAPER = Newton()


def soft_attention(
    query: Tensor,
    value: Tensor,
    landmarks: Tensor,
    *,
    key: Tensor | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    landmark_mask: Tensor | None = None,
    inverse: Inverse = _PAPER,
    symmetric_norm: bool = False,
    output_scale: float | Tensor | None = None,
    backend: BackendName = "auto",
) -> Tensor:
    """Softmax-free attention, linear in the number of tokens.

    out = P_q A+ (P_k^T V), with P_q = k(query, landmarks), P_k = k(key, landmarks), A = k(landmarks, landmarks) and
    the Gaussian kernel k(x, y) = exp(-|x - y|^2 / 2). Evaluated from right to left; no N x S matrix exists.

    Shapes: B batch, H heads, N queries, S keys, M landmarks, D head width, Dv value width.

    Args:
        query: (B, H, N, D), divided by D^(1/4), which makes the exponent the papers' -|q - k|^2 / (2 sqrt(D)).
        value: (B, H, S, Dv).
        landmarks: (B, H, M, D), scaled as the query; cast to its type. M is at least 1.
        key: (B, H, S, D), scaled as the query. None means key = query (self-attention).
        query_mask: (B, N) bool, True at real tokens. Outputs at padding are 0. In self-attention it masks the keys,
            too.
        key_mask: (B, S) bool, True at real keys; only with `key`.
        landmark_mask: (B, M) bool, True at landmarks to keep.
        inverse: `Newton` (the papers) or `Cholesky` (exact).
        symmetric_norm: Whether A+ becomes T^(-1/2) A+ T^(-1/2), with T = diag(A 1), as in SOFT++.
        output_scale: Number or (B,) tensor that multiplies the output; it gets no gradient. Without a softmax the
            output grows with the number of keys, so sequence models pass kept landmarks / real keys.
        backend: ``"eager"`` is plain torch in chunks of tokens, ``"triton"`` fused kernels for CUDA devices, and
            ``"reference"`` the formula under autograd, which supports double backward, vmap, and jvp. ``"auto"`` takes
            the fastest that is released for the device and passes a check there, which the first call of a kind makes;
            no fused kernel is released yet, so it is ``"eager"`` today.

    Returns:
        (B, H, N, Dv) in the type of `value`, laid out so that ``out.transpose(1, 2).reshape(B, N, H * Dv)`` is a view.
        The contents of padding and removed landmarks, NaN included, change neither values nor gradients. B, N, or S of
        0 gives zeros. Sequences packed into one row are not supported: pad them and pass masks.

    Raises:
        ValueError: A shape, type, device, or option is invalid, or the backend does not support the inputs.

    Exponents are differences of squares: in float32 their error is about 1e-7 |x|^2, in every backend. Where points lie
    close together far from the origin (|x| of 100 and more), subtract a common point from queries, keys, and landmarks
    first, which changes no result.

    Source: Lu et al. 2021 (arXiv 2110.11945); Lu et al. 2024 (arXiv 2207.03341). Masks, cross-attention, the exact
    inverse, and the output scale are ours.
    """
    inputs = Inputs(query, value, landmarks, key, query_mask, key_mask, landmark_mask)
    check_inputs(inputs)
    check_inverse(inverse)
    check_choice("backend", backend, BackendName)
    inputs = inputs._replace(landmarks=landmarks.to(query.dtype), output_scale=scale_tensor(output_scale, query))
    if is_exporting():
        if isinstance(inverse, Cholesky) and is_exporting_to_onnx():
            raise ValueError("inverse must be a Newton for ONNX, which has no Cholesky factorization, got a Cholesky")
        return _plain(inputs, inverse, symmetric_norm)
    if backend == "reference":
        return _reference(inputs, inverse, symmetric_norm)
    return call_backend(backend, inputs, inverse, symmetric_norm)


def _plain(inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> Tensor:
    """The reference in the compute type, its result in the type and layout that `soft_attention` promises."""
    wide = inputs.to(compute_dtype(inputs.query, inputs.value))
    out = reference.soft_attention(wide, inverse, symmetric_norm)
    return out.to(inputs.value.dtype).transpose(1, 2).contiguous().transpose(1, 2)


@torch.compiler.disable(reason="the reference sets the global float32 precision; the other backends compile")
def _reference(inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> Tensor:
    with full_precision(inputs.query.device.type):
        return _plain(inputs, inverse, symmetric_norm)
