"""One maker of random attention inputs, with another prime for every axis."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from softformer.ops import Cholesky, Inverse, Newton
from softformer.ops.attention.backends import BACKENDS
from softformer.ops.attention.operands import Inputs

B, H, N, S, M, D, DV = 2, 3, 29, 17, 7, 5, 11

INVERSES: dict[str, Inverse] = {
    "newton": Newton(),
    "newton_unrolled": Newton(gradient="unrolled"),
    "newton_halving": Newton(ridge=0.0, start="halving", gradient="unrolled"),
    "newton_halving_ridge": Newton(iterations=7, ridge=0.1, start="halving", gradient="unrolled"),
    "cholesky": Cholesky(),
    "cholesky_ridge": Cholesky(ridge=0.1),
}


def takes(backend: str, dtype: torch.dtype) -> bool:
    """Whether a backend can run on tensors of a type on the CPU (Triton's kernels in its interpreter)."""
    x = torch.zeros(1, 1, 1, 1, dtype=dtype)
    return backend == "reference" or BACKENDS[backend].obstacle(Inputs(x, x, x)) is None


def widest_type(backend: str) -> torch.dtype:
    """The most precise type that a backend takes."""
    return torch.float64 if takes(backend, torch.float64) else torch.float32


def inverses_of(backend: str) -> dict[str, Inverse]:
    """The inverses to try with a backend: all, or one of each kind where a case takes the interpreter a second."""
    return INVERSES if backend != "triton" else {name: INVERSES[name] for name in ("newton", "cholesky")}


# The relative error, in the norm, that a computation in a type stays below.
CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5}


class Case(NamedTuple):
    """Tensors that need gradients, by name, and the arguments that do not."""

    tensors: dict[str, Tensor]
    options: dict[str, Any]

    def leaves(self) -> dict[str, Tensor]:
        """Fresh leaves with the same values."""
        return {name: x.detach().clone().requires_grad_() for name, x in self.tensors.items()}


def on(device: str, case: Case) -> Case:
    """The case on a device."""
    options = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in case.options.items()}
    return Case({name: x.to(device) for name, x in case.tensors.items()}, options)


def make_case(
    *,
    cross: bool = False,
    masks: bool = False,
    dtype: torch.dtype = torch.float64,
    sizes: tuple[int, ...] = (B, H, N, S, M, D, DV),
    spread: float = 0.9,
    segments: bool = False,
) -> Case:
    """Random tensors.

    Args:
        cross: Whether keys are not the queries.
        masks: Whether some tokens and landmarks are masked, the last of each among them.
        dtype: Type of all tensors.
        sizes: B, H, N, S, M, D, Dv.
        spread: Standard deviation of the coordinates of points at width 5. At other widths it is scaled so that their
            distances, and with them the kernel, stay of the same size; else wide heads would be tests of zeros.
        segments: Whether landmarks are the means of segments of the keys, as in sequences, and so lie close together.
    """
    batch, heads, queries, keys, landmarks, width, value_width = sizes
    tokens = keys if cross else queries

    def random(length: int, width: int, scale: float) -> Tensor:
        return (scale * torch.randn(batch, heads, length, width, dtype=torch.float64)).to(dtype)

    scale = spread * (D / width) ** 0.5
    tensors = {
        "query": random(queries, width, scale),
        "value": random(tokens, value_width, spread),
        "landmarks": random(landmarks, width, scale),
    }
    options: dict[str, Any] = {}
    if cross:
        tensors["key"] = random(keys, width, scale)
    if segments:
        parts = tensors["key" if cross else "query"].tensor_split(landmarks, dim=2)
        tensors["landmarks"] = torch.stack([part.mean(2) for part in parts], 2)
    if masks:
        names = {"query_mask": queries, "landmark_mask": landmarks} | ({"key_mask": keys} if cross else {})
        options = {name: torch.rand(batch, length) > 0.3 for name, length in names.items()}
        for mask in options.values():
            mask[:, 0], mask[:, -1] = True, False
    return Case(tensors, options)
