"""The table of backends: the module of each, the inputs it supports, and the devices where "auto" considers it.

A new backend is one file in this folder with `forward` and `backward` of the signatures in `eager`, plus one row here;
parity tests and benchmarks read the table. ``"reference"`` has no row, because autograd differentiates it.
"""

import importlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Literal, NamedTuple, get_args

import torch

from softformer.ops.attention.operands import Inputs
from softformer.ops.attention.self_check import passes_check
from softformer.ops.inverse import Inverse

BackendName = Literal["auto", "reference", "eager", "triton"]
# Types of devices where "auto" considers the Triton kernels. They have run in Triton's interpreter only: set this to
# ("cuda",) when `pytest -m gpu` has passed on a GPU. backend="triton" runs them on any CUDA device that they support.
TRITON_DEVICES: tuple[str, ...] = ()
_HAS_TRITON = find_spec("triton") is not None


class Backend(NamedTuple):
    """A row of the table."""

    module: str
    """Module with `forward` and `backward`, imported on first use. The fallback excepted, it has `ERRORS`, too: the
    exceptions, besides RuntimeError, that it raises where its kernels do not compile or launch."""
    obstacle: Callable[[Inputs], str | None]
    """Function from the inputs to the reason why they are unsupported, or None."""
    devices: tuple[str, ...] | None
    """Types of devices where ``"auto"`` considers the backend; None for all."""

    def load(self) -> ModuleType:
        """The imported module."""
        return importlib.import_module(self.module)


@cache
def missing_requirement() -> str | None:
    """The reason why this installation cannot compile or launch Triton kernels, or None."""
    if torch.version.hip is not None:
        return "its kernels are compiled for CUDA only, and this torch is built for ROCm"
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if any(map(shutil.which, compilers)):
        return None
    return (
        f"Triton builds its launcher with a C compiler, and found no {' or '.join(compilers)}; "
        "install one, or set the environment variable CC to its path"
    )


def _triton_obstacle(inputs: Inputs) -> str | None:
    query, value = inputs.query, inputs.value
    if not query.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it needs tensors on a CUDA device, got {query.device}"
    if not _HAS_TRITON:
        return "the package triton is not installed; it comes with torch for CUDA on Linux"
    if query.is_cuda and (reason := missing_requirement()):
        return reason
    if query.is_cuda and torch.cuda.get_device_capability(query.device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 (Ampere) or later"
    if torch.float64 in (query.dtype, value.dtype):
        return f"it computes in float32 and does not support {torch.float64}"
    widths = query.shape[3], value.shape[3]
    if max(widths) > 128 or min(widths) == 0:
        return f"it supports head widths of 1 to 128, got {widths[0]} (query) and {widths[1]} (value)"
    if inputs.landmarks.shape[2] > 256:
        return f"it supports up to 256 landmarks, got {inputs.landmarks.shape[2]}"
    return None


# In the order in which "auto" considers them. The last one is the fallback, with which it compares the others.
BACKENDS: dict[str, Backend] = {
    "triton": Backend("softformer.ops.attention.triton.backend", _triton_obstacle, TRITON_DEVICES),
    "eager": Backend("softformer.ops.attention.eager", lambda inputs: None, None),
}


def available_backends() -> list[str]:
    """The valid values of `backend`."""
    return list(get_args(BackendName))


def choose_backend(name: str, inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> Backend:
    """The named backend, or for ``"auto"`` the first that supports the inputs and passes its check."""
    if name != "auto":
        if reason := BACKENDS[name].obstacle(inputs):
            raise ValueError(f"backend={name!r} cannot run here: {reason}")
        return BACKENDS[name]
    *candidates, fallback = BACKENDS
    for name in candidates:
        backend = BACKENDS[name]
        considered = backend.devices is None or inputs.query.device.type in backend.devices
        loads = backend.load, BACKENDS[fallback].load
        if considered and not backend.obstacle(inputs) and passes_check(name, *loads, inputs, inverse, symmetric_norm):
            return backend
    return BACKENDS[fallback]
