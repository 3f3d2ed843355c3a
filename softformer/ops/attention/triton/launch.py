"""How the Triton kernels are launched: tile sizes, the share of tokens a program takes, and the kind of products.

All follow from the shapes that a network fixes (widths, landmarks, types) and from the device; nothing is tuned at
call time.
"""

from typing import NamedTuple

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


def _options(num_landmarks: int, width: int, value_width: int, *tensors: Tensor | None) -> dict[str, int | bool]:
    """Widths, sides of the tiles, kind of the products, and depth of the pipeline, from the tensors of the tokens."""
    half = all(x is None or x.dtype in (torch.bfloat16, torch.float16) for x in tensors)
    sides = {"BLOCK_D": _block(width), "BLOCK_DV": _block(value_width)}
    most, tokens, stages = _TILES[half, max(32, *sides.values())]
    sizes = {"M": num_landmarks, "D": width, "DV": value_width, "BLOCK_M": _block(num_landmarks, most), **sides}
    return {**sizes, "BLOCK_N": tokens, "HALF": half and HALF_PRODUCTS, "num_stages": stages}


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
    options, layout = _options(num_landmarks, width, value_width, x, right), _layout(x, right)
    blocks, splits = _share(batch * heads, length, options["BLOCK_N"], x.device)
    partial = x.new_empty((batch * heads, splits, num_landmarks, value_width), dtype=torch.float32)
    project_kernel[(batch * heads * splits, triton.cdiv(num_landmarks, options["BLOCK_M"]))](
        x,
        _bytes(tokens.mask),
        right,
        points,
        _bytes(landmarks.mask),
        partial,
        *_strides(x, layout),
        *_strides(right, layout),
        heads,
        length,
        blocks,
        splits,
        LAYOUT=layout,
        **options,
    )
    return _sum_parts(partial, (batch, heads, num_landmarks, value_width))


def expand(tokens: Points, weights: Tensor, landmarks: Points, out: Tensor) -> None:
    """Write P weights, zero at padding, into `out` (B, H, N, Dv), which lies in memory as (B, N, H, Dv)."""
    x = tokens.points
    batch, heads, length, width = x.shape
    num_landmarks, value_width = weights.shape[2:]
    if length == 0:
        return
    assert out.transpose(1, 2).is_contiguous()
    options, layout = _options(num_landmarks, width, value_width, x, out), _layout(x)
    blocks, splits = _share(batch * heads, length, options["BLOCK_N"], x.device)
    expand_kernel[(batch * heads * splits,)](
        x,
        _bytes(tokens.mask),
        weights,
        landmarks.points,
        _bytes(landmarks.mask),
        out,
        *_strides(x, layout),
        heads,
        length,
        blocks,
        splits,
        TILES=triton.cdiv(num_landmarks, options["BLOCK_M"]),
        LAYOUT=layout,
        **options,
    )


def backward(
    tokens: Points, outer: OuterProducts, landmarks: Points, grad_x: Tensor, grad_value: Tensor | None
) -> Tensor:
    """Write the gradients of tokens and values, and return that of the landmarks through P, (B, H, M, D) in float32.

    The gradients of tokens and values lie in memory as (B, N, H, width). One launch does all where a tile holds all
    landmarks and the heads are not wide; else two.
    """
    x, points = tokens.points, landmarks.points
    batch, heads, length, width = x.shape
    num_landmarks = points.shape[2]
    shape = (batch, heads, num_landmarks, width)
    if length == 0:
        return points.new_zeros(shape, dtype=torch.float32)
    assert all(result is None or result.transpose(1, 2).is_contiguous() for result in (grad_x, grad_value))
    value_width = next(part.shape[3] for part in outer if part is not None)
    options = _options(num_landmarks, width, value_width, x, outer.grad, outer.value)
    layout = _layout(x, outer.grad, outer.value)
    count = triton.cdiv(num_landmarks, options["BLOCK_M"])
    blocks, splits = _share(batch * heads, length, options["BLOCK_N"], x.device)
    partial = x.new_empty((batch * heads, splits, num_landmarks, width), dtype=torch.float32)
    # (dx, dV, dL of a launch, landmark tiles in its loop, landmark tiles in its grid)
    launches: list[tuple[Tensor | None, Tensor | None, Tensor | None, int, int]]
    if count == 1 and max(options["BLOCK_D"], options["BLOCK_DV"]) <= 64:
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
            *_strides(x, layout),
            *_strides(outer.grad, layout),
            *_strides(outer.value, layout),
            heads,
            length,
            blocks,
            splits,
            TILES=in_loop,
            LAYOUT=layout,
            **options,
        )
    return _sum_parts(partial, shape)


def newton(
    landmarks: Points, steps: Tensor | None, iterations: int, ridge: float, inverse: Tensor, row_sums: Tensor
) -> None:
    """Write X (B, H, M, M) and the row sums of A (B, H, M); steps (B, H) or None for the row-sum rule."""
    points = landmarks.points
    batch, heads, num_landmarks, width = points.shape
    newton_kernel[(batch * heads,)](
        points,
        _bytes(landmarks.mask),
        steps,
        inverse,
        row_sums,
        heads,
        ridge,
        M=num_landmarks,
        D=width,
        BLOCK_M=_block(num_landmarks),
        BLOCK_D=_block(width),
        ITERATIONS=iterations,
    )
