"""The table of backends: name -> implementation, and why it cannot run here.

A new backend is one file in this folder with `forward` and `backward` of the signatures in `eager`, plus one row here;
parity tests and benchmarks read the table. ``"reference"`` is not in it: autograd runs that one.
"""

import importlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from softformer.ops.attention.triton.requirements import missing_requirement

BackendName = Literal["auto", "reference", "eager", "triton"]
_HAS_TRITON = find_spec("triton") is not None


class Backend(NamedTuple):
    """An implementation: its file in this folder, and whether it can run.

    Args:
        module: Name of the module with `forward` and `backward`; it is imported on first use.
        obstacle: From query, value and landmarks to the reason why it cannot take them, or None.
        devices: Types of devices on which ``"auto"`` considers it; None for all.
    """

    module: str
    obstacle: Callable[[Tensor, Tensor, Tensor], str | None]
    devices: tuple[str, ...] | None

    def load(self) -> ModuleType:
        """The module with `forward` and `backward`."""
        return importlib.import_module(f"softformer.ops.attention.{self.module}")


def _no_obstacle(query: Tensor, value: Tensor, landmarks: Tensor) -> str | None:
    return None


def _triton_obstacle(query: Tensor, value: Tensor, landmarks: Tensor) -> str | None:
    if not query.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it needs tensors on a CUDA device, got {query.device}"
    if not _HAS_TRITON:
        return "the package triton is not installed; it comes with torch for CUDA on Linux"
    if query.is_cuda and (reason := missing_requirement()):
        return reason
    if query.is_cuda and torch.cuda.get_device_capability(query.device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 (Ampere) or later"
    if wide := [x.dtype for x in (query, value) if x.dtype == torch.float64]:
        return f"it computes in float32 and does not take {wide[0]}"
    if max(query.shape[3], value.shape[3]) > 128 or min(query.shape[3], value.shape[3]) == 0:
        return f"it takes head widths of 1 to 128, got {query.shape[3]} (query) and {value.shape[3]} (value)"
    if landmarks.shape[2] > 256:
        return f"it takes up to 256 landmarks, got {landmarks.shape[2]}"
    return None


# In the order in which "auto" tries them.
BACKENDS: dict[str, Backend] = {
    "triton": Backend("triton.backend", _triton_obstacle, ("cuda",)),
    "eager": Backend("eager", _no_obstacle, None),
}


def available_backends() -> list[str]:
    """Every value that `backend=` takes."""
    return list(get_args(BackendName))


def check_backend(name: str) -> None:
    """The name is a valid one.

    Raises:
        ValueError: It is not; lists those that are.
    """
    if name not in available_backends():
        raise ValueError(f"backend must be one of {', '.join(map(repr, available_backends()))}, got {name!r}")


def choose_backend(name: str, query: Tensor, value: Tensor, landmarks: Tensor) -> Backend:
    """The backend to run: the first that can for ``"auto"``, else the one that was asked for.

    Raises:
        ValueError: That backend cannot run on these inputs (with its reason).
    """
    if name == "auto":
        return next(
            backend
            for backend in BACKENDS.values()
            if (backend.devices is None or query.device.type in backend.devices)
            and backend.obstacle(query, value, landmarks) is None
        )
    if reason := BACKENDS[name].obstacle(query, value, landmarks):
        raise ValueError(f"backend={name!r} cannot run here: {reason}")
    return BACKENDS[name]
