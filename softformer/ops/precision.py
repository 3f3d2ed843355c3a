"""The type of accumulators, and a block in which float32 products are computed in full float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The type of exponents, inverses, and accumulators: float64 if an input has that type, else float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Disable autocast and float32 products in TF32 or bfloat16 inside the block; restore the settings after it."""
    settings = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    with torch.autocast(device_type, enabled=False):
        for setting in settings:
            setting.fp32_precision = "ieee"
        try:
            yield
        finally:
            for setting, precision in zip(settings, before):
                setting.fp32_precision = precision
