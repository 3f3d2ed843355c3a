"""Launches of the Triton kernels: tile sizes, the share of tokens of a program, and the kind of products.

All follow from the shapes that a network fixes (widths, landmarks, types) and from the device; nothing is tuned at
call time.
"""

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from softformer.ops.attention.triton.newton import newton_kernel
from softformer.ops.attention.triton.tokens import backward_kernel, expand_kernel, project_kernel

INTERPRETED = bool(triton.knobs.runtime.interpret)
# Triton's interpreter stores bfloat16 as integers and would multiply those, so everything is float32 there.
HALF_PRODUCTS = not INTERPRETED
# The most landmarks whose matrix Newton's kernel keeps on chip; with 128 it would not fit into the registers.
MOST_ON_CHIP = 64
# Programs that a multiprocessor should get, over all heads: enough to fill it several times.
_PROGRAMS_A_PROCESSOR = 8


class Points(NamedTuple):
    """Queries or keys (B, H, N, D), or contiguous landmarks (B, H, M, D), and the mask of those that count."""

    points: Tensor
    mask: Tensor | None


class OuterProducts(NamedTuple):
    """The gradient of P in parts: dOut (B, H, N, Dv) with W, V with dZ, (B, H, M, Dv) each; a part may be missing."""

    grad: Tensor | None
    weights: Tensor | None
    value: Tensor | None
    grad_product: Tensor | None


def _block(size: int, largest: int = 128) -> int:
    """The tile side for a width or a number of landmarks; products need at least 16."""
    return min(max(16, triton.next_power_of_2(size)), largest)


def _bytes(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.contiguous().view(torch.uint8)


def _layout(*tensors: Tensor | None) -> int:
    """8: rows are contiguous and begin at multiples of eight elements; 1: rows are contiguous; 0: anything."""
    strides = [x.stride() for x in tensors if x is not None]
    if any(stride[-1] != 1 for stride in strides):
        return 0
    return 8 if all(step % 8 == 0 for stride in strides for step in stride[:-1]) else 1


def _strides(x: Tensor | None, layout: int) -> list[int]:
    """Strides as the kernels take them: in groups of eight where the layout says so, zeros without a tensor."""
    return [0] * 4 if x is None else [step // (layout or 1) for step in x.stride()]


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


def _options(num_landmarks: int, width: int, value_width: int, *tensors: Tensor | None) -> dict[str, Any]:
    """Widths, sides of the tiles, kind of the products, and depth of the pipeline, from the tensors of the tokens."""
    half = all(x is None or x.dtype in (torch.bfloat16, torch.float16) for x in tensors)
    sides = {"BLOCK_D": _block(width), "BLOCK_DV": _block(value_width)}
    most, tokens, stages = _TILES[half, max(32, *sides.values())]
    sizes = {"M": num_landmarks, "D": width, "DV": value_width, "BLOCK_M": _block(num_landmarks, most), **sides}
    return {**sizes, "BLOCK_N": tokens, "HALF": half and HALF_PRODUCTS, "num_stages": stages}


def _share(x: Tensor, block: int) -> tuple[int, int]:
    """Token blocks of a program, and programs a matrix, so that all together fill the device."""
    processors = 1 if INTERPRETED else torch.cuda.get_device_properties(x.device).multi_processor_count
    all_blocks = triton.cdiv(x.shape[2], block)
    splits = max(1, min(all_blocks, triton.cdiv(_PROGRAMS_A_PROCESSOR * processors, x.shape[0] * x.shape[1])))
    blocks = triton.cdiv(all_blocks, splits)
    return blocks, triton.cdiv(all_blocks, blocks)


def _launch(
    kernel: Any,
    tokens: Points,
    landmarks: Points,
    operands: tuple[Tensor | None, ...],
    strided: tuple[Tensor | None, ...],
    share: tuple[int, int],
    in_grid: int,
    options: dict[str, Any],
) -> None:
    """Launch a kernel on tokens, landmarks, and further operands, those in `strided` being read by their strides."""
    x, (batch, heads, length, _) = tokens.points, tokens.points.shape
    layout = _layout(x, *strided)
    kernel[(batch * heads * share[1], in_grid)](
        *(x, _bytes(tokens.mask), landmarks.points, _bytes(landmarks.mask), *operands),
        *(step for tensor in (x, *strided) for step in _strides(tensor, layout)),
        *(heads, length, *share),
        LAYOUT=layout,
        **options,
    )


def _new_parts(x: Tensor, splits: int, num_landmarks: int, width: int) -> Tensor:
    return x.new_empty((x.shape[0] * x.shape[1], splits, num_landmarks, width), dtype=torch.float32)


def _sum_parts(parts: Tensor, like: Tensor) -> Tensor:
    """(B H, splits, M, E) -> (B, H, M, E), in a fixed order."""
    return (parts[:, 0] if parts.shape[1] == 1 else parts.sum(1)).view(*like.shape[:2], *parts.shape[2:])


def project(tokens: Points, right: Tensor, landmarks: Points) -> Tensor:
    """P^T right, (B, H, M, E) in float32; zeros without tokens."""
    x, num_landmarks = tokens.points, landmarks.points.shape[2]
    if x.shape[2] == 0:
        return x.new_zeros((*x.shape[:2], num_landmarks, right.shape[3]), dtype=torch.float32)
    options = _options(num_landmarks, x.shape[3], right.shape[3], x, right)
    share = _share(x, options["BLOCK_N"])
    partial = _new_parts(x, share[1], num_landmarks, right.shape[3])
    in_grid = triton.cdiv(num_landmarks, options["BLOCK_M"])
    _launch(project_kernel, tokens, landmarks, (right, partial), (right,), share, in_grid, options)
    return _sum_parts(partial, x)


def expand(tokens: Points, weights: Tensor, landmarks: Points, out: Tensor) -> None:
    """Write P weights, zero at padding, into `out` (B, H, N, Dv), which lies in memory as (B, N, H, Dv)."""
    x = tokens.points
    if x.shape[2] == 0:
        return
    assert out.transpose(1, 2).is_contiguous()
    options = _options(weights.shape[2], x.shape[3], weights.shape[3], x, out)
    options["TILES"] = triton.cdiv(weights.shape[2], options["BLOCK_M"])
    _launch(expand_kernel, tokens, landmarks, (weights, out), (), _share(x, options["BLOCK_N"]), 1, options)


def backward(
    tokens: Points, outer: OuterProducts, landmarks: Points, grad_x: Tensor, grad_value: Tensor | None
) -> Tensor:
    """Write the gradients of tokens and values; return the gradient of the landmarks, (B, H, M, D) in float32.

    The gradients of tokens and values lie in memory as (B, N, H, width). One launch computes all three where a tile
    holds all landmarks and the heads are not wide; otherwise there are two.
    """
    x, num_landmarks = tokens.points, landmarks.points.shape[2]
    if x.shape[2] == 0:
        return x.new_zeros(landmarks.points.shape, dtype=torch.float32)
    assert all(result is None or result.transpose(1, 2).is_contiguous() for result in (grad_x, grad_value))
    value_width = next(part.shape[3] for part in outer if part is not None)
    options = _options(num_landmarks, x.shape[3], value_width, x, outer.grad, outer.value)
    share = _share(x, options["BLOCK_N"])
    partial = _new_parts(x, share[1], num_landmarks, x.shape[3])
    count = triton.cdiv(num_landmarks, options["BLOCK_M"])
    # (dx, dV, dL of a launch, landmark tiles in its loop, landmark tiles in its grid)
    launches: list[tuple[Tensor | None, Tensor | None, Tensor | None, int, int]]
    if count == 1 and max(options["BLOCK_D"], options["BLOCK_DV"]) <= 64:
        launches = [(grad_x, grad_value, partial, 1, 1)]
    else:
        launches = [(grad_x, grad_value, None, count, 1), (None, None, partial, 1, count)]
    for to_x, to_value, to_points, in_loop, in_grid in launches:
        options["TILES"] = in_loop
        operands, strided = (*outer, to_x, to_value, to_points), (outer.grad, outer.value)
        _launch(backward_kernel, tokens, landmarks, operands, strided, share, in_grid, options)
    return _sum_parts(partial, x)


def newton(
    landmarks: Points, steps: Tensor | None, iterations: int, ridge: float, inverse: Tensor, row_sums: Tensor
) -> None:
    """Write X (B, H, M, M) and the row sums of A (B, H, M); steps (B, H) or None for the row-sum rule."""
    points = landmarks.points
    batch, heads, num_landmarks, width = points.shape
    sizes = {"M": num_landmarks, "D": width, "BLOCK_M": _block(num_landmarks), "BLOCK_D": _block(width)}
    operands = points, _bytes(landmarks.mask), steps, inverse, row_sums
    newton_kernel[(batch * heads,)](*operands, heads, ridge, ITERATIONS=iterations, **sizes)
