"""The passes over tokens as Triton kernels: P^T R, P W, and the gradients that go back through P.

A program works on one head of one sample and on a run of token blocks; P exists a tile at a time, on chip. What is
summed over tokens is written once a program and added up afterwards in a fixed order, so results are deterministic.

Letters: x (B, H, N, D) queries or keys, points (B, H, M, D) landmarks, P = k(x, points). Strides come as tuples,
tensors that no call needs as None. Sizes that a network fixes are compile-time constants; B, H, N are not.
"""

import triton
import triton.language as tl

# Arguments whose values must not select a kernel: another batch size, head count or length compiles nothing.
_FREE = [
    *("x_strides", "mask_strides", "right_strides", "points_strides", "points_mask_strides", "out_strides"),
    *("grad_strides", "value_strides", "grad_x_strides", "grad_value_strides"),
    *("heads", "length", "blocks", "splits"),
]


@triton.jit
def _row_offsets(strides, sample, head, ALIGNED: tl.constexpr):
    """Where a head begins, and the distance of its rows."""
    offset = sample * strides[0] + head * strides[1]
    distance = strides[2].to(tl.int64)
    if ALIGNED:
        offset, distance = tl.multiple_of(offset, 8), tl.multiple_of(distance, 8)
    return offset, distance


@triton.jit
def _load_rows(
    pointer, strides, sample, head, rows, real, WIDTH: tl.constexpr, BLOCK: tl.constexpr, LAYOUT: tl.constexpr
):
    """Rows (rows, BLOCK) with zeros where they are not real and beyond the width; nothing else is read."""
    offset, distance = _row_offsets(strides, sample, head, LAYOUT == 2)
    columns = tl.arange(0, BLOCK)
    places = columns if LAYOUT else columns * strides[3]
    offsets = offset + rows[:, None] * distance + places[None, :]
    return tl.load(pointer + offsets, mask=real[:, None] & (columns < WIDTH)[None, :], other=0.0)


@triton.jit
def _store_rows(
    pointer, strides, sample, head, rows, inside, values, WIDTH: tl.constexpr, BLOCK: tl.constexpr, LAYOUT: tl.constexpr
):
    """Writes rows in the type of the tensor."""
    offset, distance = _row_offsets(strides, sample, head, LAYOUT == 2)
    columns = tl.arange(0, BLOCK)
    places = columns if LAYOUT else columns * strides[3]
    offsets = offset + rows[:, None] * distance + places[None, :]
    mask = inside[:, None] & (columns < WIDTH)[None, :]
    tl.store(pointer + offsets, values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def real_rows(mask, strides, sample, rows, length):
    """Which rows exist and are not masked."""
    real = rows < length
    if mask is not None:
        real = real & (tl.load(mask + sample * strides[0] + rows * strides[1], mask=real, other=0) != 0)
    return real


@triton.jit
def half_square(x):
    """|x|^2 / 2 of rows, in float32."""
    wide = x.to(tl.float32)
    return tl.sum(wide * wide, 1) / 2


@triton.jit
def gaussian(x, y, real_x, real_y, PRECISION: tl.constexpr):
    """k(x, y) between rows, zero where one of them is not real; a NaN stays a NaN."""
    exponent = tl.dot(x, tl.trans(y), input_precision=PRECISION) - half_square(x)[:, None] - half_square(y)[None, :]
    kernel = tl.exp(tl.minimum(exponent, 0.0, propagate_nan=tl.PropagateNan.ALL))
    return tl.where(real_x[:, None] & real_y[None, :], kernel, 0.0)


@triton.jit
def _load_points(
    points, strides, mask, mask_strides, sample, head, rows, M: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr
):
    """A tile of landmarks, and which of its rows count."""
    kept = real_rows(mask, mask_strides, sample, rows, M)
    return _load_rows(points, strides, sample, head, rows, kept, D, BLOCK, 0), kept


@triton.jit
def _load_weights(pointer, matrix, rows, M: tl.constexpr, DV: tl.constexpr, BLOCK: tl.constexpr):
    """Rows of a contiguous (B H, M, Dv) tensor, zero beyond it."""
    columns = tl.arange(0, BLOCK)
    mask = (rows < M)[:, None] & (columns < DV)[None, :]
    return tl.load(pointer + matrix * M * DV + rows[:, None] * DV + columns[None, :], mask=mask, other=0.0)


@triton.jit(do_not_specialize=_FREE)
def project_kernel(
    x,
    mask,
    right,
    points,
    points_mask,
    partial,
    x_strides,
    mask_strides,
    right_strides,
    points_strides,
    points_mask_strides,
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
    POINT_TYPE: tl.constexpr,
    PRODUCT_TYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """P^T R over the tokens of a program: `partial` (B H, splits, M, Dv). The second axis of the grid is over M."""
    program = tl.program_id(0).to(tl.int64)
    matrix, split = program // splits, program % splits
    sample, head = matrix // heads, matrix % heads
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    near, kept = _load_points(
        points, points_strides, points_mask, points_mask_strides, sample, head, rows, M, D, BLOCK_D
    )
    near = near.to(POINT_TYPE)
    total = tl.zeros((BLOCK_M, BLOCK_DV), tl.float32)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(length, BLOCK_N))):
        tokens = block * BLOCK_N + tl.arange(0, BLOCK_N).to(tl.int64)
        real = real_rows(mask, mask_strides, sample, tokens, length)
        here = _load_rows(x, x_strides, sample, head, tokens, real, D, BLOCK_D, LAYOUT).to(POINT_TYPE)
        values = _load_rows(right, right_strides, sample, head, tokens, real, DV, BLOCK_DV, LAYOUT)
        kernel = gaussian(near, here, kept, real, PRECISION)
        total = tl.dot(kernel.to(PRODUCT_TYPE), values.to(PRODUCT_TYPE), total, input_precision=PRECISION)
    columns = tl.arange(0, BLOCK_DV)
    offsets = program * M * DV + rows[:, None] * DV + columns[None, :]
    tl.store(partial + offsets, total, mask=(rows < M)[:, None] & (columns < DV)[None, :])


@triton.jit(do_not_specialize=_FREE)
def expand_kernel(
    x,
    mask,
    weights,
    points,
    points_mask,
    out,
    x_strides,
    mask_strides,
    points_strides,
    points_mask_strides,
    out_strides,
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
    POINT_TYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """P W for the tokens of a program, zero at pads: `weights` (B H, M, Dv) in float32, `out` (B, H, N, Dv)."""
    program = tl.program_id(0).to(tl.int64)
    matrix, split = program // splits, program % splits
    sample, head = matrix // heads, matrix % heads
    rows = tl.arange(0, BLOCK_M)
    near, kept = _load_points(
        points, points_strides, points_mask, points_mask_strides, sample, head, rows, M, D, BLOCK_D
    )
    near = near.to(POINT_TYPE)
    factor = _load_weights(weights, matrix, rows, M, DV, BLOCK_DV)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(length, BLOCK_N))):
        tokens = block * BLOCK_N + tl.arange(0, BLOCK_N).to(tl.int64)
        real = real_rows(mask, mask_strides, sample, tokens, length)
        here = _load_rows(x, x_strides, sample, head, tokens, real, D, BLOCK_D, LAYOUT).to(POINT_TYPE)
        total = tl.zeros((BLOCK_N, BLOCK_DV), tl.float32)
        for tile in range(TILES):
            if TILES > 1:
                rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
                near, kept = _load_points(
                    points, points_strides, points_mask, points_mask_strides, sample, head, rows, M, D, BLOCK_D
                )
                near = near.to(POINT_TYPE)
                factor = _load_weights(weights, matrix, rows, M, DV, BLOCK_DV)
            total = tl.dot(gaussian(here, near, real, kept, PRECISION), factor, total, input_precision=WIDE)
        total = tl.where(real[:, None], total, 0.0)
        _store_rows(out, out_strides, sample, head, tokens, tokens < length, total, DV, BLOCK_DV, LAYOUT)


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
    x_strides,
    mask_strides,
    points_strides,
    points_mask_strides,
    grad_strides,
    value_strides,
    grad_x_strides,
    grad_value_strides,
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
    POINT_TYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """Gradients through P of the tokens of a program.

    dP = dOut W^T (where `grad` is given) + V dZ^T (where `value` is), and dE = P dP, entry by entry. Writes
    dx = dE L - (dE 1) x to `grad_x` and P dZ to `grad_value`, or sums dL = dE^T x - (dE^T 1) L over the tokens into
    `partial` (B H, splits, M, D), or both. `partial` takes one tile of landmarks, which the second axis of the grid
    names; `grad_x` sums over all of them, `TILES`.
    """
    program = tl.program_id(0).to(tl.int64)
    matrix, split = program // splits, program % splits
    sample, head = matrix // heads, matrix % heads
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    near, kept = _load_points(
        points, points_strides, points_mask, points_mask_strides, sample, head, rows, M, D, BLOCK_D
    )
    if grad is not None:
        outward = _load_weights(weights, matrix, rows, M, DV, BLOCK_DV)
    if value is not None:
        inward = _load_weights(grad_product, matrix, rows, M, DV, BLOCK_DV)
    collected = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    column_sums = tl.zeros((BLOCK_M,), tl.float32)
    for block in range(split * blocks, tl.minimum((split + 1) * blocks, tl.cdiv(length, BLOCK_N))):
        tokens = block * BLOCK_N + tl.arange(0, BLOCK_N).to(tl.int64)
        real = real_rows(mask, mask_strides, sample, tokens, length)
        here = _load_rows(x, x_strides, sample, head, tokens, real, D, BLOCK_D, LAYOUT)
        if grad is not None:
            grads = _load_rows(grad, grad_strides, sample, head, tokens, real, DV, BLOCK_DV, LAYOUT).to(tl.float32)
        if value is not None:
            values = _load_rows(value, value_strides, sample, head, tokens, real, DV, BLOCK_DV, LAYOUT).to(tl.float32)
            grad_values = tl.zeros((BLOCK_N, BLOCK_DV), tl.float32)
        pulled = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
        row_sums = tl.zeros((BLOCK_N,), tl.float32)
        for tile in range(TILES):
            if TILES > 1:
                rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
                near, kept = _load_points(
                    points, points_strides, points_mask, points_mask_strides, sample, head, rows, M, D, BLOCK_D
                )
                if grad is not None:
                    outward = _load_weights(weights, matrix, rows, M, DV, BLOCK_DV)
                if value is not None:
                    inward = _load_weights(grad_product, matrix, rows, M, DV, BLOCK_DV)
            kernel = gaussian(here.to(POINT_TYPE), near.to(POINT_TYPE), real, kept, PRECISION)
            grad_kernel = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
            if grad is not None:
                grad_kernel = tl.dot(grads, tl.trans(outward), grad_kernel, input_precision=WIDE)
            if value is not None:
                grad_kernel = tl.dot(values, tl.trans(inward), grad_kernel, input_precision=WIDE)
                if grad_value is not None:
                    grad_values = tl.dot(kernel, inward, grad_values, input_precision=WIDE)
            grad_exponent = kernel * grad_kernel
            if grad_x is not None:
                pulled = tl.dot(grad_exponent, near.to(tl.float32), pulled, input_precision=WIDE)
                row_sums += tl.sum(grad_exponent, 1)
            if partial is not None:
                collected = tl.dot(tl.trans(grad_exponent), here.to(tl.float32), collected, input_precision=WIDE)
                column_sums += tl.sum(grad_exponent, 0)
        inside = tokens < length
        if grad_x is not None:
            pulled = tl.where(real[:, None], pulled - row_sums[:, None] * here.to(tl.float32), 0.0)
            _store_rows(grad_x, grad_x_strides, sample, head, tokens, inside, pulled, D, BLOCK_D, LAYOUT)
        if grad_value is not None:
            grad_values = tl.where(real[:, None], grad_values, 0.0)
            _store_rows(grad_value, grad_value_strides, sample, head, tokens, inside, grad_values, DV, BLOCK_DV, LAYOUT)
    if partial is not None:
        columns = tl.arange(0, BLOCK_D)
        collected -= column_sums[:, None] * near.to(tl.float32)
        offsets = program * M * D + rows[:, None] * D + columns[None, :]
        tl.store(partial + offsets, collected, mask=(rows < M)[:, None] & (columns < D)[None, :])
