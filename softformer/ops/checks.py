"""Checks of tensors and masks that operators and layers share."""

import torch
from torch import Tensor

_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_tensor(name: str, x: Tensor, shape: str, ndim: int = 4) -> None:
    """Check that x is a floating-point tensor with the given number of axes."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a tensor of shape {shape}, got {type(x).__name__}")
    if x.ndim != ndim:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
    if x.dtype not in _TYPES:
        raise ValueError(f"{name} must be float64, float32, bfloat16, or float16, got {x.dtype}; convert it first")


def check_mask(name: str, mask: Tensor | None, batch: int, length: int, device: torch.device) -> None:
    """Check that the mask is None or a bool tensor (batch, length)."""
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"{name} must be a bool tensor, True at entries to keep, got {kind}; use mask.bool()")
    if mask.ndim != 2 or mask.shape[0] != batch or mask.shape[1] != length:
        raise ValueError(f"{name} must have shape ({batch}, {length}), got {tuple(mask.shape)}")
    if mask.device != device:
        raise ValueError(f"{name} must be on {device}, where its tokens are, got {mask.device}")
