"""The reference against the definition, exact inverses, and numbers computed by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from softformer.ops import Cholesky, Newton
from softformer.ops.attention import reference
from softformer.ops.attention.operands import Inputs

F64 = torch.float64


def points(*shape: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(*shape, dtype=F64)


def plain(query: Tensor, value: Tensor, landmarks: Tensor, key: Tensor | None = None, **changes: Any) -> Tensor:
    inverse, norm = changes.pop("inverse", Cholesky()), changes.pop("symmetric_norm", False)
    return reference.soft_attention(Inputs(query, value, landmarks, key, **changes), inverse, norm)


def test_gaussian_kernel_is_exp_of_half_the_squared_distance() -> None:
    x, y = points(2, 3, 5, 7), points(2, 3, 11, 7)
    expected = torch.exp(-torch.cdist(x, y).square() / 2)
    torch.testing.assert_close(reference.gaussian_kernel(x, y), expected, rtol=1e-12, atol=1e-14)


def test_gaussian_kernel_never_exceeds_one_and_keeps_its_gradient_at_the_clamp() -> None:
    x = (100 * torch.randn(1, 1, 53, 7)).requires_grad_()
    kernel = reference.gaussian_kernel(x, x.detach())
    assert kernel.max() <= 1
    (gradient,) = torch.autograd.grad(kernel.diagonal(dim1=-2, dim2=-1).sum(), x)
    assert gradient.abs().max() <= 1e-3 * x.abs().max()


def test_one_token_one_landmark_by_hand() -> None:
    query, landmark, value = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[3.0]]]])
    kernel = math.exp(-1)
    expected = kernel * (1 / (1 + 0.5)) * kernel * 3
    out = plain(query, value, landmark, inverse=Cholesky(ridge=0.5))
    assert out.item() == pytest.approx(expected, rel=1e-6)


def test_landmarks_at_all_keys_give_the_full_gaussian_attention() -> None:
    query, key, value = points(2, 3, 13, 5, spread=2), points(2, 3, 11, 5, spread=2), points(2, 3, 11, 7)
    out = plain(query, value, key, key, inverse=Cholesky(ridge=0.0))
    torch.testing.assert_close(out, reference.gaussian_attention(query, value, key), rtol=1e-9, atol=1e-12)


def test_low_rank_form_equals_its_dense_matrix() -> None:
    query, key, landmarks, value = points(2, 3, 13, 5), points(2, 3, 11, 5), points(2, 3, 7, 5), points(2, 3, 11, 2)
    factors = reference.attention_factors(Inputs(query, value, landmarks, key), Newton(), True)
    out = plain(query, value, landmarks, key, inverse=Newton(), symmetric_norm=True)
    torch.testing.assert_close(out, reference.attention_matrix(factors) @ value, rtol=1e-10, atol=1e-12)


def test_masks_are_the_same_as_leaving_out() -> None:
    query, key, landmarks, value = points(1, 3, 13, 5), points(1, 3, 11, 5), points(1, 3, 7, 5), points(1, 3, 11, 2)
    query_mask, key_mask, landmark_mask = (torch.rand(1, n) > 0.4 for n in (13, 11, 7))
    out = plain(
        query,
        value,
        landmarks,
        key,
        query_mask=query_mask,
        key_mask=key_mask,
        landmark_mask=landmark_mask,
        inverse=Newton(),
        symmetric_norm=True,
    )
    kept, kept_keys = query_mask[0], key_mask[0]
    expected = plain(
        query[:, :, kept],
        value[:, :, kept_keys],
        landmarks[:, :, landmark_mask[0]],
        key[:, :, kept_keys],
        inverse=Newton(),
        symmetric_norm=True,
    )
    torch.testing.assert_close(out[:, :, kept], expected, rtol=1e-10, atol=1e-12)
    assert (out[:, :, ~kept] == 0).all()


def test_symmetric_norm_scales_by_the_row_sums_of_the_unridged_kernel() -> None:
    landmarks = points(2, 3, 7, 5)
    kernel = reference.landmark_kernel(landmarks, None)
    scale = torch.diag_embed(kernel.sum(-1) ** -0.5)
    plus = torch.linalg.inv(kernel + 0.01 * torch.eye(7, dtype=F64))
    factors = reference.attention_factors(Inputs(landmarks, landmarks, landmarks), Cholesky(), True)
    torch.testing.assert_close(factors.inverse, scale @ plus @ scale, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("start", ["row_sum", "halving"])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("num_landmarks", [1, 5])
def test_newton_inverts_the_identity(start: str, ridge: float, num_landmarks: int) -> None:
    """Distant landmarks, or a single one: a start on the edge of convergence would give exactly zero."""
    matrix = torch.eye(num_landmarks, dtype=F64).expand(2, 3, -1, -1)
    inverse = reference.inverse_matrix(matrix, Newton(ridge=ridge, start=start))  # type: ignore[arg-type]
    torch.testing.assert_close(inverse, matrix / (1 + ridge), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("start", ["row_sum", "halving"])
def test_newton_converges_to_the_inverse_of_spread_landmarks(start: str) -> None:
    matrix = reference.landmark_kernel(points(2, 3, 7, 5, spread=1.5), None)
    inverse = reference.inverse_matrix(matrix, Newton(iterations=40, start=start))  # type: ignore[arg-type]
    expected = torch.linalg.inv(matrix + 0.01 * torch.eye(7, dtype=F64))
    torch.testing.assert_close(inverse, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("start", ["row_sum", "halving"])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_newton_stays_bounded_on_coinciding_landmarks(start: str, ridge: float) -> None:
    landmarks = points(1, 1, 1, 5).expand(2, 3, 13, 5)
    matrix = reference.landmark_kernel(landmarks, None)
    newton = Newton(ridge=ridge, start=start)  # type: ignore[arg-type]
    assert torch.linalg.matrix_norm(reference.inverse_matrix(matrix, newton), ord=2).max() <= 1.1 / max(ridge, 1 / 13)


def test_one_kept_landmark_is_one_landmark() -> None:
    query, value, landmarks = points(2, 3, 11, 5), points(2, 3, 11, 7), points(2, 3, 4, 5)
    mask = torch.tensor([[False, True, False, False]]).expand(2, -1)
    for inverse in (Newton(), Newton(ridge=0.0, start="halving"), Cholesky()):
        out = plain(query, value, landmarks, landmark_mask=mask, inverse=inverse, symmetric_norm=True)
        expected = plain(query, value, landmarks[:, :, 1:2], inverse=inverse, symmetric_norm=True)
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)


def test_halving_looks_at_the_heads_of_one_sample_only() -> None:
    tight, spread = points(1, 3, 9, 5, spread=0.1), points(1, 3, 9, 5, spread=2)
    newton = Newton(ridge=0.0, start="halving")
    together = reference.inverse_matrix(reference.landmark_kernel(torch.cat([tight, spread]), None), newton)
    alone = reference.inverse_matrix(reference.landmark_kernel(spread, None), newton)
    torch.testing.assert_close(together[1:], alone, rtol=1e-12, atol=1e-12)


def test_halving_halves_until_the_start_contracts() -> None:
    matrix = reference.landmark_kernel(points(2, 3, 23, 5, spread=0.3), None)
    step = reference.newton_start(matrix, 0.0, "halving")
    full = 2 / matrix.sum(-1).amax((-2, -1))[:, None, None, None] ** 2
    times = torch.log2(full / step)
    assert (times >= 1).all()
    assert torch.equal(times, times.round())

    def distance(step: Tensor) -> Tensor:
        return (torch.eye(23, dtype=F64) - step * matrix @ matrix).abs().sum(-2).amax((-2, -1))

    assert ((distance(step) <= 1.01) | (times.flatten() == 10)).all()
    assert (distance(2 * step) > 1.01).all()


def test_implicit_gradient_is_that_of_an_exact_inverse_at_the_x_reached() -> None:
    matrix = reference.landmark_kernel(points(2, 3, 7, 5, spread=0.4), None).requires_grad_()
    weight = points(2, 3, 7, 7)
    x = reference.inverse_matrix(matrix, Newton(iterations=3))
    (gradient,) = torch.autograd.grad((x * weight).sum(), matrix)
    torch.testing.assert_close(gradient, -x.mT @ weight @ x.mT, rtol=1e-12, atol=1e-12)


def test_cholesky_of_a_singular_matrix_is_nan_and_spares_the_others() -> None:
    matrix = torch.stack([torch.ones(3, 3, dtype=F64) * 2 - torch.eye(3, dtype=F64), torch.eye(3, dtype=F64)])[:, None]
    inverse = reference.inverse_matrix(matrix, Cholesky(ridge=0.0))
    assert inverse[0].isnan().all()
    torch.testing.assert_close(inverse[1, 0], torch.eye(3, dtype=F64))


def test_second_and_forward_derivatives() -> None:
    query, value, landmarks = (points(1, 2, n, 3).requires_grad_() for n in (5, 5, 2))
    assert torch.autograd.gradgradcheck(lambda q, v, m: plain(q, v, m), (query, value, landmarks))
    assert torch.autograd.gradcheck(lambda q, v, m: plain(q, v, m), (query, value, landmarks), check_forward_ad=True)
