"""Products with the kernel matrix P of queries or keys and landmarks, computed in chunks of tokens.

A chunk is the M x n transpose P^T, whose rows run over tokens. Its exponents start as the sum of -|x|^2 / 2 and
-|l|^2 / 2; one product adds l x^T in place, and the clamp and the exponential work in place, too.
"""

from collections.abc import Iterator
from math import exp

import torch
from torch import Tensor

# Exponents are clamped at these values, and kernel entries at the clamp become 0: below, exponentials are subnormal
# numbers, which processors compute a hundred times more slowly.
_LEAST_EXPONENT = {torch.float32: -87.0, torch.float64: -708.0}
# The most elements of a kernel matrix that is cached for the second pass, 32 MB in float32. Reading a cached matrix
# takes less than half the time of computing it again while it about fits the last-level cache of the processor.
_CACHED_ELEMENTS = 1 << 23
_INTEGER_OF_SIZE = {4: torch.int32, 8: torch.int64}


class KernelChunks:
    """P = k(x, landmarks) of G = b H matrices, in chunks of about `chunk_elements` elements over the G matrices.

    x (b, H, N, D) are queries or keys; the heads of a single sample are not copied. Landmarks (b, H, M, D) are in the
    compute type, and zero where removed.
    """

    def __init__(
        self, x: Tensor, mask: Tensor | None, landmarks: Tensor, landmark_mask: Tensor | None, chunk_elements: int
    ) -> None:
        self._x, self._points = x.flatten(0, 1), landmarks.flatten(0, 1)
        points = self._points
        self._real, self._present = (_bits(each, x.shape[1], points.dtype) for each in (mask, landmark_mask))
        self._x_squares = _selected(_minus_half_squares(self._x, points.dtype), self._real)
        self._landmark_squares = _minus_half_squares(points, points.dtype)
        self._least = _LEAST_EXPONENT[points.dtype]
        self._far = _longest_distance(self._x_squares, self._landmark_squares) ** 2 / 2 > -self._least
        # Elements of P for a token, over the G matrices.
        self._token_elements, length = points.shape[:2].numel(), self._x.shape[1]
        self._rows = _chunk_length(length, max(64, chunk_elements // max(1, self._token_elements)))
        self._caches = self._token_elements * length <= _CACHED_ELEMENTS
        self._buffer = points.new_empty(self._token_elements * (length if self._caches else self._rows))
        self._cached: list[Tensor] = []

    def project(self, right: Tensor) -> Tensor:
        """P^T right for right (b, H, N, E), as (b, H, M, E)."""
        flat, points = right.flatten(0, 1), self._points
        result = points.new_zeros((*points.shape[:2], right.shape[3]))
        for chunk, kernel in self._chunks():
            result.baddbmm_(kernel, self._chunk_of(flat, chunk))
        return result.unflatten(0, right.shape[:2])

    def expand(self, right: Tensor, out: Tensor) -> None:
        """Write P right, for right (b, H, M, E), to out (b, H, N, E)."""
        flat = right.flatten(0, 1)
        for chunk, kernel in self._chunks():
            _write_product(out[:, :, chunk], kernel.mT, flat)

    def backward(self, outer: list[tuple[Tensor, Tensor]], grad_x: Tensor, grad_value: Tensor | None) -> Tensor:
        """Write the gradients of x and, for keys, of the value; return the gradient of the landmarks through P.

        The outer products of the pairs `outer`, (b, H, N, Dv) and (b, H, M, Dv), sum to the gradient of P. For keys the
        last pair is (V, dZ), and `grad_value` receives P dZ; it is None for queries.
        """
        pairs = [(left.flatten(0, 1), right.flatten(0, 1)) for left, right in outer]
        points = self._points
        buffer, result = points.new_empty(self._token_elements * self._rows), torch.zeros_like(points)
        column_sums = points.new_zeros((*points.shape[:2], 1))
        for chunk, kernel in self._chunks():
            if grad_value is not None:
                _write_product(grad_value[:, :, chunk], kernel.mT, pairs[-1][1])
            grad_exponent = buffer[: kernel.numel()].view(kernel.shape)
            for number, (left, right) in enumerate(pairs):
                # With beta=0 the uninitialized buffer is not read.
                grad_exponent.baddbmm_(right, self._chunk_of(left, chunk).mT, beta=min(number, 1))
            grad_exponent.mul_(kernel)
            x = self._chunk_of(self._x, chunk)
            # dx = dE l - (dE 1) x
            part, row_sums = grad_x[:, :, chunk], grad_exponent.sum(-2).neg_().unsqueeze(-1)
            if _takes_products(part, points.dtype):
                torch.mul(x, row_sums, out=part[0]).baddbmm_(grad_exponent.mT, points)
            else:
                part.copy_((x * row_sums).baddbmm_(grad_exponent.mT, points).unflatten(0, part.shape[:2]))
            result.baddbmm_(grad_exponent, x)
            column_sums += grad_exponent.sum(-1, keepdim=True)
        return (result - column_sums * points).unflatten(0, grad_x.shape[:2])

    def _chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Each chunk of tokens with its P^T (G, M, n), which is valid until the next chunk."""
        length = self._x.shape[1]
        cached = iter(list(self._cached))
        for start in range(0, length, self._rows):
            chunk = slice(start, min(start + self._rows, length))
            kernel = next(cached, None)
            if kernel is None:
                kernel = self._kernel(chunk)
                if self._caches:
                    self._cached.append(kernel)
            yield chunk, kernel

    def _kernel(self, chunk: slice) -> Tensor:
        begin = self._token_elements * chunk.start if self._caches else 0
        kernel = self._buffer[begin : begin + self._token_elements * (chunk.stop - chunk.start)]
        kernel = kernel.view(*self._points.shape[:2], -1)
        torch.add(self._x_squares[:, None, chunk], self._landmark_squares.unsqueeze(-1), out=kernel)
        kernel.baddbmm_(self._points, self._chunk_of(self._x, chunk).mT)
        kernel.clamp_(min=self._least if self._far else None, max=0).exp_()
        if self._far:
            torch.threshold_(kernel, exp(self._least) * 1.001, 0)
        if self._real is not None:
            kernel.view(self._real.dtype).bitwise_and_(self._real[:, None, chunk])
        if self._present is not None:
            kernel.view(self._present.dtype).bitwise_and_(self._present.unsqueeze(-1))
        return kernel

    def _chunk_of(self, x: Tensor, chunk: slice) -> Tensor:
        """A chunk of x (G, N, E) in the compute type, with zeros at padding, whatever it holds."""
        real = None if self._real is None else self._real[:, chunk].unsqueeze(-1)
        return _selected(x[:, chunk].to(self._points.dtype), real)


def _bits(mask: Tensor | None, heads: int, dtype: torch.dtype) -> Tensor | None:
    """All bits at True and none at False, (b, N) -> (b H, N): an AND selects much faster than a fill by a mask."""
    return None if mask is None else mask.repeat_interleave(heads, 0).to(_INTEGER_OF_SIZE[dtype.itemsize]).neg_()


def _selected(x: Tensor, bits: Tensor | None) -> Tensor:
    return x if bits is None else (x.view(bits.dtype) & bits).view(x.dtype)


def _minus_half_squares(x: Tensor, dtype: torch.dtype) -> Tensor:
    """-|x|^2 / 2 of the rows of x (G, n, D), as (G, n)."""
    return torch.linalg.vector_norm(x, dim=-1, dtype=dtype).square_().mul_(-0.5)


def _longest_distance(*squares: Tensor) -> float:
    """A bound on the distances of tokens from landmarks, from their -|x|^2 / 2; 0 on devices other than the CPU."""
    if any(x.device.type != "cpu" or x.numel() == 0 for x in squares):
        return 0.0
    return sum((-2 * float(x.min())) ** 0.5 for x in squares)


def _chunk_length(length: int, most: int) -> int:
    """Tokens in a chunk: equal shares of the length, rounded up to a multiple of 16 if there is more than one chunk."""
    if length <= most:
        return max(1, length)
    chunks = -(-length // most)
    return -(-length // (16 * chunks)) * 16


def _takes_products(out: Tensor, dtype: torch.dtype) -> bool:
    """Whether a product of G matrices can be written to out (b, H, n, E) directly: one sample, of the same type."""
    return out.shape[0] == 1 and out.dtype == dtype


def _write_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Write left right to out (b, H, n, E), which may have any strides and type."""
    if _takes_products(out, left.dtype):
        torch.bmm(left, right, out=out[0])
    else:
        out.copy_(torch.bmm(left, right).unflatten(0, out.shape[:2]))
