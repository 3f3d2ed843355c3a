"""The options of the two inverses of the landmark matrix, `Newton` and `Cholesky`, which users pass."""

from typing import Any, Literal

from softformer.ops.options import Options, check_choice, check_positive

NewtonStart = Literal["row_sum", "halving"]
NewtonGradient = Literal["implicit", "unrolled"]


class Inverse(Options):
    """Base of the options of an inverse A+ of the M x M landmark matrix A: `Newton` or `Cholesky`.

    Attributes:
        ridge: Multiple of the identity that is added to A before it is inverted.
    """

    ridge: float

    @property
    def init_args(self) -> dict[str, Any]:
        """The arguments of the constructor, which are the attributes."""
        # The compiler cannot trace how `Options` records arguments, and a compiled function may construct an inverse.
        return dict(vars(self))

    def __init__(self, ridge: float) -> None:
        if isinstance(ridge, bool) or not isinstance(ridge, int | float):
            raise ValueError(f"ridge must be a number, got {ridge!r}")
        self.ridge = float(ridge)
        if not 0.0 <= self.ridge < float("inf"):
            raise ValueError(f"ridge must be zero or positive and finite, got {ridge!r}")


class Newton(Inverse):
    """Newton-Schulz iterations X <- 2 X - X A' X with A' = A + ridge I, as the papers do.

    The start X0 = a A' takes its step a from the largest row sum r:

    - ``"row_sum"`` (SOFT): a = min(1.8 / r^2, 1.9 / (r + ridge)^2), r of A, for each matrix.
    - ``"halving"`` (SOFT++): a = 2 / r^2, r of A' over all heads of a sample, halved at most ten times while the
      largest column sum of |I - a A' A'| exceeds 1.01; times 0.9 where no halving happened, because a start on
      the edge of convergence turns A = I into exactly zero.

    Twenty iterations may not converge where landmarks nearly coincide. The implicit gradient then differs from the
    gradient of the forward; `softformer.attention_health` gives the residual.

    Args:
        iterations: Number of iterations, at least 1.
        ridge: Multiple of the identity added to A. 0.01 in SOFT, 0 in SOFT++.
        start: Rule for the first iterate.
        gradient: ``"implicit"`` is the gradient of an exact inverse, -X^T G X^T, at the last iterate X (SOFT);
            ``"unrolled"`` differentiates through the iterations (SOFT++), which is the gradient of the forward.

    Raises:
        ValueError: An option is out of range.

    Source: Lu et al. 2021 (arXiv 2110.11945), section 3.3; Lu et al. 2024 (arXiv 2207.03341) for the halving. Ours
    differs from the published code in taking maxima over the heads of a sample, not over the batch, and in the 0.9.
    """

    def __init__(
        self,
        iterations: int = 20,
        ridge: float = 0.01,
        start: NewtonStart = "row_sum",
        gradient: NewtonGradient = "implicit",
    ) -> None:
        self.iterations = check_positive("iterations", iterations)
        super().__init__(ridge)
        self.start = check_choice("start", start, NewtonStart)
        self.gradient = check_choice("gradient", gradient, NewtonGradient)


class Cholesky(Inverse):
    """The exact inverse of A + ridge I by a Cholesky factorization, with its true gradient.

    It takes M^3 / 3 operations and no iterations. Where A + ridge I is not positive definite in floating point (ridge 0
    and coinciding landmarks), the result is NaN; no host synchronization tests for it.

    Args:
        ridge: Multiple of the identity added to A; bounds the norm of the inverse by 1 / ridge.

    Raises:
        ValueError: ridge is negative or not finite.
    """

    def __init__(self, ridge: float = 0.01) -> None:
        super().__init__(ridge)


def check_inverse(inverse: Inverse) -> None:
    """Check that the inverse is a `Newton` or a `Cholesky` object, not a class or a name."""
    if not isinstance(inverse, Newton | Cholesky):
        raise ValueError(f"inverse must be a Newton(...) or a Cholesky(...) object, got {inverse!r}")
