"""Newton iterations for the inverse of the landmark matrix as one Triton kernel: a program a matrix, all on chip."""

import triton
import triton.language as tl

from softformer.ops.attention.triton.tokens import gaussian, load_points


@triton.jit(do_not_specialize=["mask", "heads"])
def newton_kernel(
    points,
    mask,
    steps,
    inverse,
    row_sums,
    heads,
    ridge,
    M: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ITERATIONS: tl.constexpr,
):
    """X after X <- 2 X - X A' X from X0 = a A', and the row sums of A; see `inverse.Newton`.

    `steps` (B H,) holds a; None takes the row-sum rule. `inverse` (B H, M, M) and `row_sums` (B H, M) in float32.
    """
    matrix = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, BLOCK_M)
    inside = rows < M
    near, kept = load_points(points, mask, matrix, matrix // heads, rows, M, D, BLOCK_D)
    diagonal = (rows[:, None] == rows[None, :]) & inside[:, None]
    kernel = tl.where(diagonal, 1.0, gaussian(near, near, kept, kept, False))
    sums = tl.sum(kernel, 1)
    tl.store(row_sums + matrix * M + rows, sums, mask=inside)
    regular = kernel + tl.where(diagonal, ridge, 0.0)
    if steps is None:
        largest = tl.max(sums, 0)
        step = tl.minimum(1.8 / (largest * largest), 1.9 / ((largest + ridge) * (largest + ridge)))
    else:
        step = tl.load(steps + matrix)
    x = step * regular
    for _ in range(ITERATIONS):
        product = tl.dot(x, regular, input_precision="tf32x3")
        x = 2 * x - tl.dot(product, x, input_precision="tf32x3")
    places = matrix * M * M + rows[:, None] * M + rows[None, :]
    tl.store(inverse + places, x, mask=inside[:, None] & inside[None, :])
