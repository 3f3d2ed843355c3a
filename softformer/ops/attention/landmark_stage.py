"""The M x M stage of all backends: W = A+ Z from the landmark kernel A and Z = P_k^T V, with its backward.

A backend streams over the tokens to compute Z and P_q W; the products in between are small. The backward is written
out because it runs inside a custom operator, where autograd records nothing. README.md derives the formulas.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from softformer.ops.inverse import Cholesky, Inverse, Newton

# Gradients below this become zero: their products could be subnormal, which processors compute slowly.
_SUBNORMAL = 1e-30


def landmark_kernel(points: Tensor, mask: Tensor | None) -> Tensor:
    """A = k(L, L), (B, H, M, M), of landmarks that are zero where removed; the identity at removed landmarks."""
    half_squares = points.square().sum(-1) / 2
    exponents = points @ points.mT - half_squares.unsqueeze(-1) - half_squares.unsqueeze(-2)
    kernel = exponents.clamp_(max=0).exp_()
    if mask is not None:
        kernel.masked_fill_(~(mask.unsqueeze(-1) & mask.unsqueeze(-2)).unsqueeze(1), 0)
    kernel.diagonal(dim1=-2, dim2=-1).fill_(1)
    return kernel


def _regular(matrix: Tensor, ridge: float) -> Tensor:
    return matrix + ridge * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def inverse_state(matrix: Tensor, inverse: Inverse) -> Tensor:
    """X of Newton, or the lower Cholesky factor of A + ridge I with NaN where it does not exist."""
    if isinstance(inverse, Newton):
        return _newton_iterates(matrix, inverse, all_of_them=False)[-1]
    factor, failure = torch.linalg.cholesky_ex(_regular(matrix, inverse.ridge))
    # LAPACK returns columns; the operator declares one layout for both inverses.
    return factor.masked_fill((failure > 0)[..., None, None], torch.nan).contiguous()


def solve(state: Tensor, right: Tensor, inverse: Inverse, *, transpose: bool = False) -> Tensor:
    """A+ right, or (A+)^T right, from the state of the inverse."""
    if isinstance(inverse, Cholesky):
        return torch.cholesky_solve(right, state)
    return (state.mT if transpose else state) @ right


def row_scale(matrix: Tensor) -> Tensor:
    """T^(-1/2) of the symmetric normalization, T = diag(A 1), as (B, H, M, 1)."""
    return matrix.sum(-1, keepdim=True).rsqrt()


def apply_inverse(state: Tensor, product: Tensor, inverse: Inverse, scale: Tensor | None) -> Tensor:
    """W from Z and the state of the inverse; scale is T^(-1/2), (B, H, M, 1), or None without normalization."""
    return solve(state, product, inverse) if scale is None else scale * solve(state, scale * product, inverse)


def scaled(product: Tensor, output_scale: Tensor | None) -> Tensor:
    """Z, or its gradient, times the output scale (B,)."""
    return product if output_scale is None else product * output_scale[:, None, None, None].to(product.dtype)


def stage_backward(
    grad: Tensor, state: Tensor, matrix: Tensor, product: Tensor, inverse: Inverse, symmetric_norm: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """W, and the gradients of Z and A from the gradient of W; the M^2 entries of A are taken as independent.

    With Y = (A+)^T dW the gradient of A is -Y W^T, both for an exact inverse and for Newton's implicit gradient.
    """
    scale = row_scale(matrix) if symmetric_norm else None
    right = product if scale is None else scale * product
    solution = solve(state, right, inverse)
    grad_solution = grad if scale is None else scale * grad
    grad_right = solve(state, grad_solution, inverse, transpose=True)
    if isinstance(inverse, Newton) and inverse.gradient == "unrolled":
        grad_matrix = _unrolled_backward(grad_solution @ right.mT, matrix, inverse)
    else:
        grad_matrix = -grad_right @ solution.mT
    if scale is None:
        return solution, grad_right, grad_matrix
    grad_scale = (grad * solution + grad_right * product).sum(-1, keepdim=True)
    return scale * solution, scale * grad_right, grad_matrix - grad_scale * scale.pow(3) / 2


def newton_start(matrix: Tensor, ridge: float, start: str) -> Tensor:
    """The step a of Newton's first iterate X0 = a A', (B, H, 1, 1) or, by halving, (B, 1, 1, 1); see `Newton`."""
    sums = matrix.sum(-1, keepdim=True)
    if start == "row_sum":
        largest = sums.amax(-2, keepdim=True)
        return torch.minimum(1.8 / largest.square(), 1.9 / (largest + ridge).square())
    full = 2 / (sums + ridge).amax((-3, -2), keepdim=True).square()
    regular, step = _regular(matrix, ridge), full
    square, identity = regular @ regular, torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(10):
        distance = (identity - step * square).abs().sum(-2, keepdim=True).amax((-3, -1), keepdim=True)
        step = torch.where(distance > 1.01, step / 2, step)
    return torch.where(step == full, 0.9 * full, step)


def _newton_iterates(matrix: Tensor, inverse: Newton, *, all_of_them: bool) -> list[Tensor]:
    """The iterates X0 to Xn, or only Xn."""
    regular = _regular(matrix, inverse.ridge)
    iterates = [newton_start(matrix, inverse.ridge, inverse.start) * regular]
    for _ in range(inverse.iterations):
        # 2 X - X A' X; one call computes the second product and the sum.
        x = iterates[-1].flatten(0, 1)
        following = torch.baddbmm(x, x @ regular.flatten(0, 1), x, beta=2, alpha=-1).view(matrix.shape)
        iterates = [*iterates, following] if all_of_them else [following]
    return iterates


def _unrolled_backward(grad: Tensor, matrix: Tensor, inverse: Newton) -> Tensor:
    """The gradient of A through X <- 2 X - X A' X and X0 = a A', from the gradient G of the last X.

    All iterates are polynomials of A', so they are symmetric and commute with it. Only the symmetric part of the
    gradient of A matters, so G may be made symmetric: then G <- T + T^T with T = G (I - X A'), and A' receives -X G X.
    """
    regular = _regular(matrix, inverse.ridge)
    grad_matrix = torch.zeros_like(matrix)
    grad = (grad + grad.mT) / 2
    for x in reversed(_newton_iterates(matrix, inverse, all_of_them=True)[:-1]):
        left = grad @ x
        grad_matrix -= x @ left
        grad = grad - left @ regular
        # G vanishes where the iterations have converged.
        grad = F.hardshrink(grad + grad.mT, _SUBNORMAL)
    step = newton_start(matrix, inverse.ridge, inverse.start)
    grad_step = (grad * regular).sum((-2, -1), keepdim=True)
    return grad_matrix + step * grad + _step_backward(grad_step, step, matrix, inverse)


def _step_backward(grad_step: Tensor, step: Tensor, matrix: Tensor, inverse: Newton) -> Tensor:
    """The gradient of A through the step a = c / r^2 of the largest row sum r; equal row sums share it evenly."""
    sums = matrix.sum(-1, keepdim=True)
    if inverse.start == "row_sum":
        largest = sums.amax(-2, keepdim=True)
        inner, outer = 1.8 / largest.square(), 1.9 / (largest + inverse.ridge).square()
        # Equal arguments share the gradient, as in torch.minimum.
        share = torch.where(inner < outer, 1.0, torch.where(inner > outer, 0.0, 0.5))
        slope = -2 * step * (share / largest + (1 - share) / (largest + inverse.ridge))
        ties = sums == largest
        return grad_step * slope * ties / ties.sum(-2, keepdim=True)
    sums = sums + inverse.ridge
    largest = sums.amax((-3, -2), keepdim=True)
    ties = sums == largest
    slope = grad_step.sum(-3, keepdim=True) * -2 * step / largest
    return slope * ties / ties.sum((-3, -2), keepdim=True)


def landmark_kernel_backward(grad: Tensor, matrix: Tensor, points: Tensor) -> Tensor:
    """The gradient of the landmarks through A, whose diagonal and removed rows and columns are constants."""
    grad = grad * matrix
    grad = grad + grad.mT
    grad.diagonal(dim1=-2, dim2=-1).zero_()
    return grad @ points - grad.sum(-1, keepdim=True) * points
