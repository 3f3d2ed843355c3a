"""The type of accumulators, and a block in which float32 products are computed in full float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor

_LOCK = Lock()
# The settings before the first of the blocks that are running, one entry a block. Torch has one setting for all
# threads, so only the last block may restore it.
_RUNNING: list[list[str]] = []


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The type of exponents, inverses, and accumulators: float64 if an input has that type, else float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Disable autocast and float32 products in TF32 or bfloat16 inside the block; restore the settings after it.

    Torch sets the precision of products for all threads: those that run other code meanwhile get full precision, too.
    """
    settings = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    with _LOCK:
        _RUNNING.append(_RUNNING[0] if _RUNNING else [setting.fp32_precision for setting in settings])
        for setting in settings:
            setting.fp32_precision = "ieee"
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        with _LOCK:
            before = _RUNNING.pop()
            if not _RUNNING:
                for setting, precision in zip(settings, before):
                    setting.fp32_precision = precision
