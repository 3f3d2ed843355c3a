"""The passes over tokens as Triton kernels: P^T R, P W, and the gradients that go back through P.

A program works on one head of one sample and on a run of token blocks. Tiles of P exist on chip only. Sums over tokens
are written once a program and added afterwards in a fixed order, so results are deterministic.

Letters: x (B, H, N, D) queries or keys, points (B, H, M, D) landmarks, P = k(x, points). Tensors that a launch does not
need are None. Landmarks, masks, and weights are contiguous; results lie in memory as (B, N, H, width). Other tensors
are read by their strides, which LAYOUT describes: 8 means contiguous rows and strides counted in groups of eight
elements, so that the compiler may read sixteen bytes at once; 1 means contiguous rows; 0 any strides. Sizes that the
network fixes are compile-time constants; B, H, N, and strides are not.
"""

import triton
import triton.language as tl

# Arguments whose values must not select a kernel: another batch size, head count, or length compiles nothing. Triton
# specializes the elements of tuples whatever is listed here, so strides are arguments of their own.
_FREE = [
    *("mask", "points_mask", "heads", "length", "blocks", "splits"),
    *(f"{name}_{axis}" for name in ("x", "right", "grad", "value") for axis in ("batch", "head", "row", "column")),
]


@triton.jit
def _at_head(pointer, batch_stride, head_stride, sample, head, LAYOUT: tl.constexpr):
    """The pointer to the first row of a head."""
    return pointer + (sample * batch_stride + head * head_stride) * (8 if LAYOUT == 8 else 1)


@triton.jit
def _places(rows, row_stride, column_stride, BLOCK: tl.constexpr, LAYOUT: tl.constexpr):
    """Offsets (rows, BLOCK) from the first row of a head."""
    columns = tl.arange(0, BLOCK)
    places = columns if LAYOUT else columns.to(tl.int64) * column_stride
    return rows[:, None] * (row_stride * (8 if LAYOUT == 8 else 1)) + places[None, :]


@triton.jit
def _load_rows(
    pointer, row_stride, column_stride, rows, real, WIDTH: tl.constexpr, BLOCK: tl.constexpr, LAYOUT: tl.constexpr
):
    """Rows (rows, BLOCK) of a head, zero where they are not real and beyond the width; nothing else is read."""
    mask = real[:, None] & (tl.arange(0, BLOCK) < WIDTH)[None, :]
    return tl.load(pointer + _places(rows, row_stride, column_stride, BLOCK, LAYOUT), mask=mask, other=0.0)


@triton.jit
def _store_rows(pointer, row_stride, rows, inside, values, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Write contiguous rows in the type of the tensor."""
    mask = inside[:, None] & (tl.arange(0, BLOCK) < WIDTH)[None, :]
    tl.store(pointer + _places(rows, row_stride, 1, BLOCK, 1), values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def real_rows(mask, rows, length):
    """Whether rows exist and are not masked."""
    real = rows < length
    if mask is not None:
        real = real & (tl.load(mask + rows, mask=real, other=0) != 0)
    return real


@triton.jit
def _split(x, HALF: tl.constexpr):
    """x as the sum of one or two parts that tensor cores multiply exactly, the high part first.

    Tensor cores round float32 operands to 11 bits, which shows in the gradients of landmarks that lie close together.
    Where the inputs are half precision (HALF), operands are therefore two parts of bfloat16, 16 bits together. Parts
    of float16 would have more bits, but weights and gradients exceed its range. Else they stay float32, which `_dot`
    splits in three parts of tf32.
    """
    if not HALF:
        return (x.to(tl.float32),)
    elif x.dtype == tl.bfloat16:
        return (x,)
    else:
        high = x.to(tl.bfloat16)
        return high, (x.to(tl.float32) - high.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def _transposed(parts):
    if len(parts) == 1:
        return (tl.trans(parts[0]),)
    else:
        return tl.trans(parts[0]), tl.trans(parts[1])


@triton.jit
def _dot(left, right, total):
    """left right + total in float32 of split operands; the product of two low parts is below their rounding."""
    total = tl.dot(left[0], right[0], total, input_precision="tf32x3")
    if len(right) == 2:
        total = tl.dot(left[0], right[1], total)
    if len(left) == 2:
        total = tl.dot(left[1], right[0], total)
    return total


@triton.jit
def _half_square(x):
    """|x|^2 / 2 of rows, in float32."""
    wide = x.to(tl.float32)
    return tl.sum(wide * wide, 1) / 2


@triton.jit
def gaussian(x, y, real_x, real_y, HALF: tl.constexpr):
    """k(x, y) between rows, zero where one of them is not real; a NaN stays a NaN."""
    if not HALF:
        x, y = x.to(tl.float32), y.to(tl.float32)
    # Products of half-precision numbers are exact in float32.
    exponent = tl.dot(x, tl.trans(y), input_precision="tf32x3") - _half_square(x)[:, None] - _half_square(y)[None, :]
    kernel = tl.exp(tl.minimum(exponent, 0.0, propagate_nan=tl.PropagateNan.ALL))
    return tl.where(real_x[:, None] & real_y[None, :], kernel, 0.0)


@triton.jit
def load_points(points, mask, matrix, sample, rows, M: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr):
    """A tile of the landmarks of a head, and which of its rows are kept."""
    kept = real_rows(None if mask is None else mask + sample * M, rows, M)
    return _load_rows(points + matrix * M * D, D, 1, rows, kept, D, BLOCK, 1), kept


@triton.jit
def _load_weights(weights, matrix, rows, M: tl.constexpr, DV: tl.constexpr, BLOCK: tl.constexpr, HALF: tl.constexpr):
    """A split tile of rows of the M x Dv matrix of a head, zero beyond it."""
    return _split(_load_rows(weights + matrix * M * DV, DV, 1, rows, rows < M, DV, BLOCK, 1), HALF)


@triton.jit
def _program(splits, heads):
    """Which program this is, its head among all B H, its share of the tokens, its sample, and its head."""
    program = tl.program_id(0)
    matrix = program // splits
    sample, head = matrix // heads, matrix % heads
    return program.to(tl.int64), matrix.to(tl.int64), program % splits, sample.to(tl.int64), head


@triton.jit(do_not_specialize=_FREE)
def project_kernel(
    x,
    mask,
    points,
    points_mask,
    right,
    partial,
    x_batch: tl.int64,
    x_head: tl.int64,
    x_row: tl.int64,
    x_column: tl.int64,
    right_batch: tl.int64,
    right_head: tl.int64,
    right_row: tl.int64,
    right_column: tl.int64,
    heads,
    length,
    blocks,
    splits,
    M: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    HALF: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """P^T R over the tokens of a program: `partial` (B H, splits, M, Dv). The second axis of the grid is over M."""
    program, matrix, split, sample, head = _program(splits, heads)
    x = _at_head(x, x_batch, x_head, sample, head, LAYOUT)
    right = _at_head(right, right_batch, right_head, sample, head, LAYOUT)
    if mask is not None:
        mask += sample * length
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    near, kept = load_points(points, points_mask, matrix, sample, rows, M, D, BLOCK_D)
    total = tl.zeros((BLOCK_M, BLOCK_DV), tl.float32)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(length, BLOCK_N))):
        tokens = block * BLOCK_N + tl.arange(0, BLOCK_N).to(tl.int64)
        real = real_rows(mask, tokens, length)
        here = _load_rows(x, x_row, x_column, tokens, real, D, BLOCK_D, LAYOUT)
        values = _load_rows(right, right_row, right_column, tokens, real, DV, BLOCK_DV, LAYOUT)
        kernel = gaussian(near, here, kept, real, HALF)
        total = _dot(_split(kernel, HALF), _split(values, HALF), total)
    _store_rows(partial + program * M * DV, DV, rows, rows < M, total, DV, BLOCK_DV)


@triton.jit(do_not_specialize=_FREE)
def expand_kernel(
    x,
    mask,
    points,
    points_mask,
    weights,
    out,
    x_batch: tl.int64,
    x_head: tl.int64,
    x_row: tl.int64,
    x_column: tl.int64,
    heads,
    length,
    blocks,
    splits,
    M: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    TILES: tl.constexpr,
    HALF: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """P W for the tokens of a program, zero at padding: `weights` (B H, M, Dv) in float32, `out` (B, N, H, Dv)."""
    _, matrix, split, sample, head = _program(splits, heads)
    x = _at_head(x, x_batch, x_head, sample, head, LAYOUT)
    out += (sample * length * heads + head) * DV
    if mask is not None:
        mask += sample * length
    rows = tl.arange(0, BLOCK_M)
    near, kept = load_points(points, points_mask, matrix, sample, rows, M, D, BLOCK_D)
    factor = _load_weights(weights, matrix, rows, M, DV, BLOCK_DV, HALF)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(length, BLOCK_N))):
        tokens = block * BLOCK_N + tl.arange(0, BLOCK_N).to(tl.int64)
        real = real_rows(mask, tokens, length)
        here = _load_rows(x, x_row, x_column, tokens, real, D, BLOCK_D, LAYOUT)
        total = tl.zeros((BLOCK_N, BLOCK_DV), tl.float32)
        for tile in range(TILES):
            if TILES > 1:
                rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
                near, kept = load_points(points, points_mask, matrix, sample, rows, M, D, BLOCK_D)
                factor = _load_weights(weights, matrix, rows, M, DV, BLOCK_DV, HALF)
            total = _dot(_split(gaussian(here, near, real, kept, HALF), HALF), factor, total)
        total = tl.where(real[:, None], total, 0.0)
        _store_rows(out, heads * DV, tokens, tokens < length, total, DV, BLOCK_DV)


@triton.jit(do_not_specialize=_FREE)
def backward_kernel(
    x,
    mask,
    points,
    points_mask,
    grad,
    weights,
    value,
    grad_product,
    grad_x,
    grad_value,
    partial,
    x_batch: tl.int64,
    x_head: tl.int64,
    x_row: tl.int64,
    x_column: tl.int64,
    grad_batch: tl.int64,
    grad_head: tl.int64,
    grad_row: tl.int64,
    grad_column: tl.int64,
    value_batch: tl.int64,
    value_head: tl.int64,
    value_row: tl.int64,
    value_column: tl.int64,
    heads,
    length,
    blocks,
    splits,
    M: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    TILES: tl.constexpr,
    HALF: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """Gradients through P of the tokens of a program.

    dP = dOut W^T (where `grad` is given) + V dZ^T (where `value` is), and dE = P dP, entry by entry. Writes
    dx = dE L - (dE 1) x to `grad_x` and P dZ to `grad_value`, both (B, N, H, width), or sums
    dL = dE^T x - (dE^T 1) L over the tokens into `partial` (B H, splits, M, D), or both. `partial` takes one tile of
    landmarks, which the second axis of the grid names; `grad_x` sums over all of them, `TILES`.
    """
    program, matrix, split, sample, head = _program(splits, heads)
    x = _at_head(x, x_batch, x_head, sample, head, LAYOUT)
    if mask is not None:
        mask += sample * length
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    near, kept = load_points(points, points_mask, matrix, sample, rows, M, D, BLOCK_D)
    if grad is not None:
        grad = _at_head(grad, grad_batch, grad_head, sample, head, LAYOUT)
        outward = _load_weights(weights, matrix, rows, M, DV, BLOCK_DV, HALF)
    if value is not None:
        value = _at_head(value, value_batch, value_head, sample, head, LAYOUT)
        inward = _load_weights(grad_product, matrix, rows, M, DV, BLOCK_DV, HALF)
    collected = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    column_sums = tl.zeros((BLOCK_M,), tl.float32)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(length, BLOCK_N))):
        tokens = block * BLOCK_N + tl.arange(0, BLOCK_N).to(tl.int64)
        real = real_rows(mask, tokens, length)
        here = _load_rows(x, x_row, x_column, tokens, real, D, BLOCK_D, LAYOUT)
        if grad is not None:
            grads = _load_rows(grad, grad_row, grad_column, tokens, real, DV, BLOCK_DV, LAYOUT)
        if value is not None:
            values = _load_rows(value, value_row, value_column, tokens, real, DV, BLOCK_DV, LAYOUT)
            grad_values = tl.zeros((BLOCK_N, BLOCK_DV), tl.float32)
        pulled = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
        row_sums = tl.zeros((BLOCK_N,), tl.float32)
        for tile in range(TILES):
            if TILES > 1:
                rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
                near, kept = load_points(points, points_mask, matrix, sample, rows, M, D, BLOCK_D)
                if grad is not None:
                    outward = _load_weights(weights, matrix, rows, M, DV, BLOCK_DV, HALF)
                if value is not None:
                    inward = _load_weights(grad_product, matrix, rows, M, DV, BLOCK_DV, HALF)
            kernel = gaussian(here, near, real, kept, HALF)
            grad_kernel = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
            if grad_value is not None:
                grad_values = _dot(_split(kernel, HALF), inward, grad_values)
            if grad is not None:
                grad_kernel = _dot(_split(grads, HALF), _transposed(outward), grad_kernel)
            if value is not None:
                grad_kernel = _dot(_split(values, HALF), _transposed(inward), grad_kernel)
            grad_exponent = kernel * grad_kernel
            parts = _split(grad_exponent, HALF)
            if grad_x is not None:
                pulled = _dot(parts, _split(near, HALF), pulled)
                row_sums += tl.sum(grad_exponent, 1)
            if partial is not None:
                collected = _dot(_transposed(parts), _split(here, HALF), collected)
                column_sums += tl.sum(grad_exponent, 0)
        inside = tokens < length
        if grad_x is not None:
            pulled = tl.where(real[:, None], pulled - row_sums[:, None] * here.to(tl.float32), 0.0)
            grad_x_head = grad_x + (sample * length * heads + head) * D
            _store_rows(grad_x_head, heads * D, tokens, inside, pulled, D, BLOCK_D)
        if grad_value is not None:
            grad_values = tl.where(real[:, None], grad_values, 0.0)
            grad_value_head = grad_value + (sample * length * heads + head) * DV
            _store_rows(grad_value_head, heads * DV, tokens, inside, grad_values, DV, BLOCK_DV)
    if partial is not None:
        collected -= column_sums[:, None] * near.to(tl.float32)
        _store_rows(partial + program * M * D, D, rows, rows < M, collected, D, BLOCK_D)
