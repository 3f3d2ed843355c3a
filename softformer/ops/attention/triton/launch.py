"""How the Triton kernels are launched: tile sizes, the share of tokens a program takes, types and precisions.

All follow from the shapes that a network fixes (widths, landmarks, types) and from the device; nothing is tuned at
call time.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from softformer.ops.attention.triton.newton import newton_kernel
from softformer.ops.attention.triton.tokens import backward_kernel, expand_kernel, project_kernel

INTERPRETED = bool(triton.knobs.runtime.interpret)
_HALF_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
# Programs that a multiprocessor should get, over all heads: enough to fill it several times.
_PROGRAMS_A_PROCESSOR = 8


class Points(NamedTuple):
    """Queries or keys (B, H, N, D), or landmarks (B, H, M, D), and which of them count."""

    points: Tensor
    mask: Tensor | None


class OuterProducts(NamedTuple):
    """The gradient of P in parts: dOut (B, H, N, Dv) with W, V with dZ, (B, H, M, Dv) each; a part may be missing."""

    grad: Tensor | None
    weights: Tensor | None
    value: Tensor | None
    grad_product: Tensor | None


def _block(size: int, largest: int = 128) -> int:
    """The tile side for a width or a number of landmarks; products need 16 at least."""
    return min(max(16, triton.next_power_of_2(size)), largest)


def _bytes(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.view(torch.uint8)


def _strides(x: Tensor | None) -> tuple[int, ...] | None:
    return None if x is None else x.stride()


def _layout(*tensors: Tensor | None) -> int:
    """2: rows lie in aligned groups of eight; 1: rows are contiguous; 0: anything."""
    strides = [x.stride() for x in tensors if x is not None]
    if any(stride[-1] != 1 for stride in strides):
        return 0
    return 2 if all(step % 8 == 0 for stride in strides for step in stride[:-1]) else 1


def _types(points: Tensor, *others: Tensor | None) -> dict[str, Any]:
    """Types and precisions of the products.

    Half-precision points are multiplied as they are: such products are exact in float32. W and dZ, and what is
    multiplied with them, stay in float32: their entries may be large and cancel.
    """
    half = _are_half(points, *others)
    point_type = tl.float32 if INTERPRETED else _HALF_TYPES.get(points.dtype, tl.float32)
    return {"POINT_TYPE": point_type, "PRECISION": "tf32x3", "WIDE": "tf32" if half else "tf32x3"}


# By whether types are half precision and by the wider head: most landmarks and tokens of a tile, depth of the pipeline.
# Each fits the 99 KB of shared memory that the smallest devices of capability 8 give a program.
_TILES = {
    (True, 32): (64, 64, 2),
    (True, 64): (64, 32, 1),
    (True, 128): (32, 32, 1),
    (False, 32): (64, 16, 1),
    (False, 64): (32, 32, 1),
    (False, 128): (16, 16, 1),
}


def _tiles(num_landmarks: int, width: int, value_width: int, *tensors: Tensor | None) -> dict[str, int]:
    """Sides of the tiles and depth of the pipeline."""
    sides = {"BLOCK_D": _block(width), "BLOCK_DV": _block(value_width)}
    most, tokens, stages = _TILES[_are_half(*tensors), max(32, *sides.values())]
    return {**sides, "BLOCK_M": _block(num_landmarks, most), "BLOCK_N": tokens, "num_stages": stages}


def _are_half(*tensors: Tensor | None) -> bool:
    return all(x is None or x.dtype in _HALF_TYPES for x in tensors)


def _share(matrices: int, length: int, block: int, device: torch.device) -> tuple[int, int]:
    """Token blocks of a program, and programs a matrix, so that all together fill the device."""
    processors = 1 if INTERPRETED else torch.cuda.get_device_properties(device).multi_processor_count
    all_blocks = triton.cdiv(length, block)
    splits = max(1, min(all_blocks, triton.cdiv(_PROGRAMS_A_PROCESSOR * processors, matrices)))
    blocks = triton.cdiv(all_blocks, splits)
    return blocks, triton.cdiv(all_blocks, blocks)


def _sum_parts(parts: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B H, splits, M, E) -> (B, H, M, E), in a fixed order."""
    return (parts[:, 0] if parts.shape[1] == 1 else parts.sum(1)).view(shape)


def project(tokens: Points, right: Tensor, landmarks: Points) -> Tensor:
    """P^T right, (B, H, M, E) in float32; zeros without tokens."""
    x, points = tokens.points, landmarks.points
    batch, heads, length, width = x.shape
    num_landmarks, value_width = points.shape[2], right.shape[3]
    if length == 0:
        return points.new_zeros((batch, heads, num_landmarks, value_width), dtype=torch.float32)
    tiles = _tiles(num_landmarks, width, value_width, x, right)
    blocks, splits = _share(batch * heads, length, tiles["BLOCK_N"], x.device)
    partial = x.new_empty((batch * heads, splits, num_landmarks, value_width), dtype=torch.float32)
    types = _types(x, right)
    half = not INTERPRETED and x.dtype == right.dtype
    project_kernel[(batch * heads * splits, triton.cdiv(num_landmarks, tiles["BLOCK_M"]))](
        x,
        _bytes(tokens.mask),
        right,
        points,
        _bytes(landmarks.mask),
        partial,
        _strides(x),
        _strides(tokens.mask),
        _strides(right),
        _strides(points),
        _strides(landmarks.mask),
        heads,
        length,
        blocks,
        splits,
        M=num_landmarks,
        D=width,
        DV=value_width,
        POINT_TYPE=types["POINT_TYPE"],
        PRODUCT_TYPE=_HALF_TYPES.get(x.dtype, tl.float32) if half else tl.float32,
        PRECISION=types["PRECISION"],
        LAYOUT=_layout(x, right),
        **tiles,
    )
    return _sum_parts(partial, (batch, heads, num_landmarks, value_width))


def expand(tokens: Points, weights: Tensor, landmarks: Points, out: Tensor) -> None:
    """Writes P weights, zero at pads, into `out` (B, H, N, Dv)."""
    x, points = tokens.points, landmarks.points
    batch, heads, length, width = x.shape
    num_landmarks, value_width = weights.shape[2:]
    if length == 0:
        return
    tiles = _tiles(num_landmarks, width, value_width, x, out)
    blocks, splits = _share(batch * heads, length, tiles["BLOCK_N"], x.device)
    expand_kernel[(batch * heads * splits,)](
        x,
        _bytes(tokens.mask),
        weights,
        points,
        _bytes(landmarks.mask),
        out,
        _strides(x),
        _strides(tokens.mask),
        _strides(points),
        _strides(landmarks.mask),
        _strides(out),
        heads,
        length,
        blocks,
        splits,
        M=num_landmarks,
        D=width,
        DV=value_width,
        TILES=triton.cdiv(num_landmarks, tiles["BLOCK_M"]),
        LAYOUT=_layout(x, out),
        **_types(x, out),
        **tiles,
    )


def backward(
    tokens: Points, outer: OuterProducts, landmarks: Points, grad_x: Tensor, grad_value: Tensor | None
) -> Tensor:
    """Writes the gradients of tokens and values, and returns that of the landmarks through P, (B, H, M, D) in float32.

    One launch does both where a tile holds all landmarks and the heads are not wide; else two.
    """
    x, points = tokens.points, landmarks.points
    batch, heads, length, width = x.shape
    num_landmarks = points.shape[2]
    shape = (batch, heads, num_landmarks, width)
    if length == 0:
        return points.new_zeros(shape, dtype=torch.float32)
    value_width = next(part.shape[3] for part in outer if part is not None)
    tiles = _tiles(num_landmarks, width, value_width, x, outer.grad, outer.value)
    count = triton.cdiv(num_landmarks, tiles["BLOCK_M"])
    blocks, splits = _share(batch * heads, length, tiles["BLOCK_N"], x.device)
    partial = x.new_empty((batch * heads, splits, num_landmarks, width), dtype=torch.float32)
    fused = count == 1 and max(tiles["BLOCK_D"], tiles["BLOCK_DV"]) <= 64
    # (dx, dV, dL of a launch, landmark tiles in its loop, landmark tiles in its grid)
    launches: list[tuple[Tensor | None, Tensor | None, Tensor | None, int, int]]
    if fused:
        launches = [(grad_x, grad_value, partial, 1, 1)]
    else:
        launches = [(grad_x, grad_value, None, count, 1), (None, None, partial, 1, count)]
    for to_x, to_value, to_points, in_loop, in_grid in launches:
        backward_kernel[(batch * heads * splits, in_grid)](
            x,
            _bytes(tokens.mask),
            points,
            _bytes(landmarks.mask),
            outer.grad,
            outer.weights,
            outer.value,
            outer.grad_product,
            to_x,
            to_value,
            to_points,
            _strides(x),
            _strides(tokens.mask),
            _strides(points),
            _strides(landmarks.mask),
            _strides(outer.grad),
            _strides(outer.value),
            _strides(to_x),
            _strides(to_value),
            heads,
            length,
            blocks,
            splits,
            M=num_landmarks,
            D=width,
            DV=value_width,
            TILES=in_loop,
            LAYOUT=_layout(x, outer.grad, outer.value, to_x, to_value),
            **_types(x, outer.grad, outer.value),
            **tiles,
        )
    return _sum_parts(partial, shape)


def newton(
    landmarks: Points, steps: Tensor | None, iterations: int, ridge: float, inverse: Tensor, row_sums: Tensor
) -> None:
    """Writes X (B, H, M, M) and the row sums of A (B, H, M); steps (B, H) or None for the row-sum rule."""
    points = landmarks.points
    batch, heads, num_landmarks, width = points.shape
    side = _block(num_landmarks)
    newton_kernel[(batch * heads,)](
        points,
        _bytes(landmarks.mask),
        steps,
        inverse,
        row_sums,
        _strides(points),
        _strides(landmarks.mask),
        heads,
        ridge,
        M=num_landmarks,
        D=width,
        BLOCK_M=side,
        BLOCK_D=_block(width),
        ITERATIONS=iterations,
        # Three passes of tensor cores would need a fourth matrix of 128 x 128 in shared memory.
        PRECISION="ieee" if side > 64 else "tf32x3",
        num_warps=8 if side > 64 else 4,
    )
