"""The plain torch backend: works through samples and tokens in chunks whose kernel matrix stays in cache.

Memory beyond the results is constant in N: the forward keeps Z and the state of the inverse, M x Dv and M x M a head,
and kernel matrices are computed again in the backward. All is computed in float32, or float64 for float64 inputs.

Points carry two more columns, x~ = [x, 1, -|x|^2 / 2] and l~ = [l, -|l|^2 / 2, 1], so one product x~ l~^T is the whole
exponent, and in the backward one product with x~ or l~ gives a gradient and the row sums that go with it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from softformer.ops.inverse import Inverse
from softformer.ops.landmark_stage import landmark_kernel_backward, scaled, stage_backward, stage_forward
from softformer.ops.precision import compute_dtype, full_precision
from softformer.ops.reference import landmark_kernel, select_rows

# Elements of one chunk's kernel matrix over its samples and heads: 1 MB in float32, half a core's second-level cache.
_CHUNK_ELEMENTS = 1 << 18


class Saved(NamedTuple):
    """What a forward hands to its backward: Z = P_k^T V (B, H, M, Dv) before scaling, and the state of the inverse."""

    product: Tensor
    state: Tensor


class Inputs(NamedTuple):
    """The tensors of an attention, as in `reference.soft_attention`."""

    query: Tensor
    value: Tensor
    landmarks: Tensor
    key: Tensor | None
    query_mask: Tensor | None
    key_mask: Tensor | None
    landmark_mask: Tensor | None
    output_scale: Tensor | None

    def samples(self, part: slice) -> "Inputs":
        """The same for some samples of the batch."""
        return Inputs(*(None if x is None else x[part] for x in self))  # type: ignore[arg-type]

    def empty_gradients(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Uninitialized gradients of query, value, landmarks and key, in the layout of the contract."""
        query, value = (empty_heads(x, x.shape[2], x.shape[3], x.dtype) for x in (self.query, self.value))
        key = None if self.key is None else empty_heads(self.key, self.key.shape[2], self.key.shape[3], self.key.dtype)
        return query, value, torch.empty_like(self.landmarks, memory_format=torch.contiguous_format), key


def empty_heads(like: Tensor, length: int, width: int, dtype: torch.dtype) -> Tensor:
    """An empty (B, H, length, width) tensor laid out as (B, length, H, width), so merging heads is a view."""
    batch, heads = like.shape[:2]
    return torch.empty((batch, length, heads, width), dtype=dtype, device=like.device).transpose(1, 2)


def forward(*arguments: Tensor | Inverse | bool | None) -> tuple[Tensor, Saved]:
    """The output (B, H, N, Dv) and what the backward needs; arguments as `reference.soft_attention`."""
    *tensors, inverse, symmetric_norm = arguments
    inputs = Inputs(*tensors)  # type: ignore[arg-type]
    query, value, landmarks = inputs.query, inputs.value, inputs.landmarks
    dtype = compute_dtype(query, value)
    out = empty_heads(query, query.shape[2], value.shape[3], value.dtype)
    product = landmarks.new_empty((*landmarks.shape[:3], value.shape[3]), dtype=dtype)
    state = landmarks.new_empty((*landmarks.shape[:3], landmarks.shape[2]), dtype=dtype)
    with full_precision(query.device.type):
        for part in _sample_groups(inputs):
            sample = inputs.samples(part)
            side = _Sides(sample, dtype)
            product[part] = side.keys.project(sample.value)
            right = scaled(product[part], sample.output_scale)
            weights, state[part] = stage_forward(side.matrix, right, inverse, symmetric_norm)  # type: ignore[arg-type]
            for chunk, _, kernel in side.queries.chunks():
                out[part, :, chunk] = side.queries.selected(kernel @ weights, chunk)
    return out, Saved(product, state)


def backward(
    grad: Tensor, saved: Saved, *arguments: Tensor | Inverse | bool | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of query, value, landmarks and key (None in self-attention) from the gradient of the output."""
    *tensors, inverse, symmetric_norm = arguments
    inputs = Inputs(*tensors)  # type: ignore[arg-type]
    query, value = inputs.query, inputs.value
    dtype = compute_dtype(query, value)
    grad_query, grad_value, grad_landmarks, grad_key = inputs.empty_gradients()
    with full_precision(query.device.type):
        for part in _sample_groups(inputs):
            sample = inputs.samples(part)
            side = _Sides(sample, dtype)
            weights, grad_product, grad_matrix = stage_backward(
                side.queries.project(grad[part]),
                saved.state[part],
                side.matrix,
                scaled(saved.product[part], sample.output_scale),
                inverse,  # type: ignore[arg-type]
                symmetric_norm,  # type: ignore[arg-type]
            )
            grad_product = scaled(grad_product, sample.output_scale)
            outward, inward = (grad[part], weights), (sample.value, grad_product)
            if grad_key is None:
                grad_points = side.queries.backward([outward, inward], grad_query[part], grad_value[part])
            else:
                grad_points = side.queries.backward([outward], grad_query[part], None)
                grad_points += side.keys.backward([inward], grad_key[part], grad_value[part])
            grad_points += landmark_kernel_backward(grad_matrix, side.matrix, side.points)
            grad_landmarks[part] = select_rows(grad_points, sample.landmark_mask)
    return grad_query, grad_value, grad_landmarks, grad_key


def _sample_groups(inputs: Inputs) -> Iterator[slice]:
    """Slices of the batch whose kernel matrices fill a chunk, one sample at least."""
    batch, heads, num_landmarks = inputs.landmarks.shape[:3]
    length = max(inputs.query.shape[2], inputs.value.shape[2])
    size = max(1, _CHUNK_ELEMENTS // max(1, heads * num_landmarks * length))
    for start in range(0, batch, size):
        yield slice(start, min(start + size, batch))


class _Sides:
    """The landmarks of a group of samples with their kernel A, and the queries and keys before them."""

    def __init__(self, inputs: Inputs, dtype: torch.dtype) -> None:
        mask = inputs.landmark_mask
        self.points = select_rows(inputs.landmarks, mask).to(dtype)
        self.matrix = landmark_kernel(self.points, mask)
        augmented = torch.cat([self.points, _minus_half_square(self.points), torch.ones_like(self.points[..., :1])], -1)
        self.queries = _Side(inputs.query, inputs.query_mask, augmented, mask)
        self.keys = self.queries if inputs.key is None else _Side(inputs.key, inputs.key_mask, augmented, mask)


class _Side:
    """Queries or keys x (B, H, N, D) before landmarks l~ (B, H, M, D + 2): chunks of their kernel matrix P."""

    def __init__(self, x: Tensor, mask: Tensor | None, landmarks: Tensor, landmark_mask: Tensor | None) -> None:
        self._x, self._mask, self._landmarks, self._landmark_mask = x, mask, landmarks, landmark_mask
        batch, heads, num_landmarks = landmarks.shape[:3]
        self._rows_a_chunk = max(64, _CHUNK_ELEMENTS // max(1, batch * heads * num_landmarks))
        self._only: tuple[slice, Tensor, Tensor] | None = None

    def chunks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Each chunk of tokens with its x~ (B, H, n, D + 2) and P (B, H, n, M); a single chunk is computed once."""
        if self._only is not None:
            yield self._only
            return
        length = self._x.shape[2]
        for start in range(0, length, self._rows_a_chunk):
            chunk = slice(start, min(start + self._rows_a_chunk, length))
            rows = self._augmented(chunk)
            kernel = self.selected((rows @ self._landmarks.mT).clamp_(max=0).exp_(), chunk)
            if self._landmark_mask is not None:
                kernel = kernel.masked_fill_(~self._landmark_mask[:, None, None, :], 0)
            found = (chunk, rows, kernel)
            if length <= self._rows_a_chunk:
                self._only = found
            yield found

    def selected(self, x: Tensor, chunk: slice) -> Tensor:
        """A chunk's rows of x, with zeros at pads."""
        return select_rows(x, None if self._mask is None else self._mask[:, chunk])

    def rows(self, x: Tensor, chunk: slice) -> Tensor:
        """A chunk of x (B, H, N, E), contiguous in the compute type, with zeros at pads."""
        return self.selected(x[:, :, chunk], chunk).to(self._landmarks.dtype).contiguous()

    def project(self, right: Tensor) -> Tensor:
        """P^T right, (B, H, M, E)."""
        result = self._landmarks.new_zeros((*self._landmarks.shape[:3], right.shape[3]))
        for chunk, _, kernel in self.chunks():
            result += kernel.mT @ self.rows(right, chunk)
        return result

    def backward(self, outer: list[tuple[Tensor, Tensor]], grad_x: Tensor, grad_value: Tensor | None) -> Tensor:
        """Writes the gradients of x, and of the value on the key side, and returns that of the landmarks through P.

        The gradient of P is the sum of left right^T over `outer`, pairs of (B, H, N, Dv) and (B, H, M, Dv); the last
        pair is (value, dZ) on the key side, so the gradient of the value is P dZ.
        """
        width = self._x.shape[3]
        right = torch.cat([right for _, right in outer], -1)
        collected = torch.zeros_like(self._landmarks)
        for chunk, rows, kernel in self.chunks():
            if grad_value is not None:
                grad_value[:, :, chunk] = kernel @ outer[-1][1]
            left = torch.cat([self.rows(left, chunk) for left, _ in outer], -1)
            grad_exponent = (left @ right.mT).mul_(kernel)
            # Columns: dE l, what is not needed, and the row sums of dE.
            pulled = grad_exponent @ self._landmarks
            grad_x[:, :, chunk] = pulled[..., :width].addcmul_(pulled[..., -1:], rows[..., :width], value=-1)
            # Columns: dE^T x, the column sums of dE, and what is not needed.
            collected += grad_exponent.mT @ rows
        return collected[..., :width] - collected[..., width : width + 1] * self._landmarks[..., :width]

    def _augmented(self, chunk: slice) -> Tensor:
        """x~ of a chunk."""
        x = self.selected(self._x[:, :, chunk], chunk)
        width = x.shape[3]
        rows = self._landmarks.new_empty((*x.shape[:3], width + 2))
        rows[..., :width] = x
        rows[..., width] = 1
        rows[..., width + 1 :] = _minus_half_square(rows[..., :width])
        return rows


def _minus_half_square(x: Tensor) -> Tensor:
    """-|x|^2 / 2 of rows, (B, H, N, 1)."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().mul_(-0.5)
