"""The reference: softmax-free attention as the papers write it, in plain torch and any floating-point type.

Every backend is compared with this file in float64, values and all gradients, and shares no computation with it.
Autograd differentiates it, so double backward, vmap, and forward-mode derivatives work. Letters: B batch, H heads,
N queries, S keys, M landmarks, D head width, Dv value width. Queries, keys, and landmarks are divided by D^(1/4).

Source: Lu et al. 2021 (arXiv 2110.11945), equations 6 to 13; Lu et al. 2024 (arXiv 2207.03341) for the symmetric
normalization. Ours adds masks, cross-attention and the clamp of the exponent at 0.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from softformer.ops.attention.operands import Inputs
from softformer.ops.exporting import is_exporting
from softformer.ops.inverse import Cholesky, Inverse, Newton


class Factors(NamedTuple):
    """The three factors of the N x S attention matrix P_q A+ P_k^T."""

    query_kernel: Tensor
    inverse: Tensor
    key_kernel: Tensor


def gaussian_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = exp(-|x - y|^2 / 2) between rows: (..., N, D) and (..., M, D) -> (..., N, M).

    The exponent is x.y - |x|^2 / 2 - |y|^2 / 2, clamped at 0 because of rounding; the gradient ignores the clamp.
    """
    exponent = x @ y.mT - x.square().sum(-1).unsqueeze(-1) / 2 - y.square().sum(-1).unsqueeze(-2) / 2
    return torch.exp(exponent + (exponent.clamp(max=0) - exponent).detach())


def select_rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (B, H, N, D) with zeros where mask (B, N) is False, whatever the rows hold, NaN included."""
    return x if mask is None else x.masked_fill(~mask[:, None, :, None], 0)


def masked_kernel(x: Tensor, landmarks: Tensor, mask: Tensor | None, landmark_mask: Tensor | None) -> Tensor:
    """P = k(x, landmarks), (B, H, N, M), zero in the rows of padding and in the columns of removed landmarks."""
    kernel = select_rows(gaussian_kernel(select_rows(x, mask), select_rows(landmarks, landmark_mask)), mask)
    return kernel if landmark_mask is None else kernel.masked_fill(~landmark_mask[:, None, None, :], 0)


def landmark_kernel(landmarks: Tensor, landmark_mask: Tensor | None) -> Tensor:
    """A = k(landmarks, landmarks), (B, H, M, M), with 1 on the diagonal and the identity at removed landmarks."""
    kernel = masked_kernel(landmarks, landmarks, landmark_mask, landmark_mask)
    diagonal = torch.eye(landmarks.shape[-2], dtype=torch.bool, device=landmarks.device)
    return kernel.masked_fill(diagonal, 1)


def newton_start(matrix: Tensor, ridge: float, start: str) -> Tensor:
    """The step a of the first iterate X0 = a A', shape (B, H, 1, 1) or (B, 1, 1, 1): see `Newton`."""
    if start == "row_sum":
        largest = matrix.sum(-1).amax(-1)[..., None, None]
        return torch.minimum(1.8 / largest.square(), 1.9 / (largest + ridge).square())
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    regular = matrix + ridge * identity
    step = 2 / regular.sum(-1).amax((-2, -1))[..., None, None, None].square()
    first = step.detach()
    scale = torch.ones_like(first)
    square = (regular @ regular).detach()
    for _ in range(10):
        distance = (identity - first * scale * square).abs().sum(-2).amax((-2, -1))[..., None, None, None]
        scale = torch.where(distance > 1.01, scale / 2, scale)
    return step * torch.where(scale == 1, 0.9, scale)


def newton_iterates(matrix: Tensor, inverse: Newton) -> Tensor:
    """X after the iterations X <- 2 X - X A' X, shape (B, H, M, M)."""
    regular = matrix + inverse.ridge * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    x = newton_start(matrix, inverse.ridge, inverse.start) * regular
    for _ in range(inverse.iterations):
        x = 2 * x - x @ regular @ x
    return x


class ImplicitNewton(torch.autograd.Function):
    """Newton iterations with the derivative of an exact inverse: dX = -X dA X, and -X^T G X^T in the backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, inverse: Newton) -> Tensor:
        return newton_iterates(matrix, inverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Newton], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return -(x.mT @ grad @ x.mT), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (x,) = ctx.saved_tensors
        return -(x @ tangent @ x)


def inverse_matrix(matrix: Tensor, inverse: Inverse) -> Tensor:
    """A+ of the landmark kernel A, (B, H, M, M), by the given inverse; NaN where a Cholesky factor does not exist."""
    if isinstance(inverse, Newton):
        if inverse.gradient == "implicit" and not is_exporting():
            return ImplicitNewton.apply(matrix, inverse)
        return newton_iterates(matrix, inverse)
    if isinstance(inverse, Cholesky):
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        factor, failure = torch.linalg.cholesky_ex(matrix + inverse.ridge * identity)
        factor = factor.masked_fill((failure > 0)[..., None, None], torch.nan)
        return torch.cholesky_solve(identity.expand_as(matrix), factor)
    raise ValueError(f"inverse must be a Newton or a Cholesky, got {inverse!r}")


def attention_factors(inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> Factors:
    """P_q (B, H, N, M), A+ (B, H, M, M) and P_k (B, H, S, M); with symmetric_norm A+ is T^(-1/2) A+ T^(-1/2)."""
    query, _, landmarks, key, query_mask, key_mask, landmark_mask, _ = inputs
    matrix = landmark_kernel(landmarks, landmark_mask)
    plus = inverse_matrix(matrix, inverse)
    if symmetric_norm:
        scale = matrix.sum(-1).rsqrt()
        plus = scale.unsqueeze(-1) * plus * scale.unsqueeze(-2)
    query_kernel = masked_kernel(query, landmarks, query_mask, landmark_mask)
    key_kernel = query_kernel if key is None else masked_kernel(key, landmarks, key_mask, landmark_mask)
    return Factors(query_kernel, plus, key_kernel)


def soft_attention(inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> Tensor:
    """out = P_q (A+ (P_k^T V)) times output_scale (B,), (B, H, N, Dv)."""
    factors = attention_factors(inputs, inverse, symmetric_norm)
    mask = inputs.query_mask if inputs.key is None else inputs.key_mask
    product = factors.key_kernel.mT @ select_rows(inputs.value, mask)
    if inputs.output_scale is not None:
        product = product * inputs.output_scale[:, None, None, None]
    return select_rows(factors.query_kernel @ (factors.inverse @ product), inputs.query_mask)


def gaussian_attention(query: Tensor, value: Tensor, key: Tensor | None = None) -> Tensor:
    """The dense form that SOFT approximates, k(Q, K) V; equal to it with landmarks at all keys and no ridge."""
    return gaussian_kernel(query, query if key is None else key) @ value


def attention_matrix(factors: Factors) -> Tensor:
    """The dense N x S matrix P_q A+ P_k^T of the low-rank form, for tests and figures of short inputs."""
    return factors.query_kernel @ factors.inverse @ factors.key_kernel.mT
