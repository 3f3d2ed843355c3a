"""The factors of the attention matrix and figures of their conditioning, for plots, logs, and tests."""

from typing import NamedTuple

import torch
from torch import Tensor

from softformer.ops.attention import reference
from softformer.ops.attention.checks import check_inputs, scale_tensor
from softformer.ops.attention.operands import Inputs
from softformer.ops.attention.reference import Factors
from softformer.ops.inverse import Inverse, Newton, check_inverse
from softformer.ops.precision import compute_dtype, full_precision

_PAPER = Newton()


class AttentionHealth(NamedTuple):
    """Health figures of each head, all of shape (B, H).

    Attributes:
        query_norm: Spectral norm of P_q.
        key_norm: Spectral norm of P_k.
        inverse_norm: Spectral norm of A+, after the symmetric normalization if there is one.
        attention_norm: Spectral norm of the attention matrix P_q A+ P_k^T times the output scale; about 1 for softmax
            attention.
        residual: Frobenius norm of A' X - I, with A' = A + ridge I, over the norm of I: 0 for an exact inverse, near 1
            where Newton has not converged, NaN where a Cholesky factor does not exist.
        effective_rank: exp of the entropy of the normalized eigenvalues of A: 1 if all landmarks coincide, M if they
            are far apart. Removed landmarks are excluded; 0 where all are removed.
    """

    query_norm: Tensor
    key_norm: Tensor
    inverse_norm: Tensor
    attention_norm: Tensor
    residual: Tensor
    effective_rank: Tensor


def attention_factors(
    query: Tensor,
    landmarks: Tensor,
    *,
    key: Tensor | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    landmark_mask: Tensor | None = None,
    inverse: Inverse = _PAPER,
    symmetric_norm: bool = False,
) -> Factors:
    """The three factors of the attention matrix P_q A+ P_k^T; the N x S product is not formed.

    Args:
        query: (B, H, N, D), scaled as for `softformer.soft_attention`.
        landmarks: (B, H, M, D), scaled as the query.
        key: (B, H, S, D), scaled as the query; None for self-attention.
        query_mask: (B, N) bool.
        key_mask: (B, S) bool, only with `key`.
        landmark_mask: (B, M) bool.
        inverse: `Newton` or `Cholesky`.
        symmetric_norm: Whether A+ is normalized as in SOFT++.

    Returns:
        P_q (B, H, N, M), A+ (B, H, M, M) and P_k (B, H, S, M), in float32 (float64 for float64), differentiable.

    Raises:
        ValueError: As `softformer.soft_attention`.
    """
    # The keys take the place of the value, on which no factor depends.
    inputs = Inputs(query, query if key is None else key, landmarks, key, query_mask, key_mask, landmark_mask)
    check_inputs(inputs)
    check_inverse(inverse)
    inputs = inputs._replace(landmarks=landmarks.to(query.dtype)).to(compute_dtype(query))
    with full_precision(query.device.type):
        return reference.attention_factors(inputs, inverse, symmetric_norm)


@torch.no_grad()
def attention_health(
    query: Tensor,
    landmarks: Tensor,
    *,
    key: Tensor | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    landmark_mask: Tensor | None = None,
    inverse: Inverse = _PAPER,
    symmetric_norm: bool = False,
    output_scale: float | Tensor | None = None,
) -> AttentionHealth:
    """Figures of the conditioning of the attention, described in `AttentionHealth`.

    The cost is a few M x M decompositions for each head, and memory linear in the number of tokens. Arguments and
    errors are as in `attention_factors`, output_scale as in `softformer.soft_attention`.
    """
    masks = {"query_mask": query_mask, "key_mask": key_mask, "landmark_mask": landmark_mask}
    factors = attention_factors(query, landmarks, key=key, **masks, inverse=inverse, symmetric_norm=symmetric_norm)
    with full_precision(query.device.type):
        matrix = reference.landmark_kernel(landmarks.to(query.dtype).to(compute_dtype(query)), landmark_mask)
        query_root, key_root = _root(factors.query_kernel), _root(factors.key_kernel)
        attention_norm = _spectral_norm(query_root @ factors.inverse @ key_root.mT)
        scale = scale_tensor(output_scale, query)
        return AttentionHealth(
            query_norm=_spectral_norm(query_root),
            key_norm=_spectral_norm(key_root),
            inverse_norm=_spectral_norm(factors.inverse),
            attention_norm=attention_norm if scale is None else attention_norm * scale[:, None].abs(),
            residual=_residual(matrix, inverse),
            effective_rank=_effective_rank(matrix, landmark_mask),
        )


def _root(kernel: Tensor) -> Tensor:
    """R (M x M) with R^T R = P^T P, which may replace P in the norm of a product; NaN where P is not finite."""
    gram = kernel.mT @ kernel
    values, vectors = torch.linalg.eigh(_finite(gram))
    root = values.clamp(min=0).sqrt().unsqueeze(-1) * vectors.mT
    return root.masked_fill(_broken(gram)[..., None, None], torch.nan)


def _broken(matrix: Tensor) -> Tensor:
    return ~matrix.isfinite().all(-1).all(-1)


def _finite(matrix: Tensor) -> Tensor:
    """The matrix, or zeros where it holds NaN or Inf, for which decompositions would raise an error."""
    return matrix.masked_fill(_broken(matrix)[..., None, None], 0)


def _spectral_norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(_finite(matrix), ord=2).masked_fill(_broken(matrix), torch.nan)


def _residual(matrix: Tensor, inverse: Inverse) -> Tensor:
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    product = (matrix + inverse.ridge * identity) @ reference.inverse_matrix(matrix, inverse)
    return torch.linalg.matrix_norm(product - identity) / matrix.shape[-1] ** 0.5


def _effective_rank(matrix: Tensor, landmark_mask: Tensor | None) -> Tensor:
    if landmark_mask is not None:
        matrix = matrix.masked_fill(~landmark_mask[:, None, :, None], 0)
    values = torch.linalg.eigvalsh(_finite(matrix)).clamp(min=0)
    total = values.sum(-1, keepdim=True)
    rank = torch.special.entr(values / total.clamp(min=torch.finfo(values.dtype).tiny)).sum(-1).exp()
    return rank.masked_fill(total.squeeze(-1) == 0, 0).masked_fill(_broken(matrix), torch.nan)
