"""Checks of the arguments of the attention functions."""

import torch
from torch import Tensor

from softformer.ops.attention.operands import Inputs
from softformer.ops.checks import check_mask, check_tensor
from softformer.ops.precision import compute_dtype


def check_inputs(inputs: Inputs) -> None:
    """Check that the tensors of `softformer.soft_attention`, except output_scale, agree in shape, type, and device."""
    query, value, landmarks, key = inputs[:4]
    check_tensor("query", query, "(B, H, N, D)")
    check_tensor("landmarks", landmarks, "(B, H, M, D)")
    if landmarks.shape[2] == 0:
        raise ValueError(f"landmarks must have at least one row (M >= 1), got shape {tuple(landmarks.shape)}")
    points = {"landmarks": landmarks}
    if key is not None:
        check_tensor("key", key, "(B, H, S, D)")
        if key.dtype != query.dtype:
            raise ValueError(f"key must have the type of query, {query.dtype}, got {key.dtype}")
        points["key"] = key
    for name, x in points.items():
        if x.shape[:2] != query.shape[:2] or x.shape[3] != query.shape[3]:
            raise ValueError(
                f"{name} must agree with query {tuple(query.shape)} in batch, heads and width, got {tuple(x.shape)}"
            )
    check_tensor("value", value, "(B, H, S, Dv)")
    tokens = query if key is None else key
    if value.shape[:3] != tokens.shape[:3]:
        name = "query (its keys, as key is None)" if key is None else "key"
        raise ValueError(
            f"value must agree with {name} {tuple(tokens.shape)} in batch, heads and length, got {tuple(value.shape)}"
        )
    for name, x in {**points, "value": value}.items():
        if x.device != query.device:
            raise ValueError(f"{name} must be on {query.device} as query is, got {x.device}")
    if key is None and inputs.key_mask is not None:
        raise ValueError("key_mask must be None without key, got a mask; in self-attention query_mask masks the keys")
    for name, x in {"query_mask": query, "key_mask": tokens, "landmark_mask": landmarks}.items():
        check_mask(name, getattr(inputs, name), query.shape[0], x.shape[2], query.device)


def scale_tensor(scale: float | Tensor | None, query: Tensor) -> Tensor | None:
    """Convert output_scale, a number or a tensor of shape () or (B,), to (B,) in the compute type, without gradient."""
    if scale is None:
        return None
    batch, dtype = query.shape[0], compute_dtype(query)
    if isinstance(scale, Tensor):
        if scale.ndim > 1 or (scale.ndim == 1 and scale.shape[0] != batch):
            raise ValueError(f"output_scale must be a number or have shape (B,) = ({batch},), got {tuple(scale.shape)}")
        return scale.detach().to(device=query.device, dtype=dtype).expand(batch)
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise ValueError(f"output_scale must be a number or a tensor of shape (B,) = ({batch},), got {scale!r}")
    return torch.full((batch,), float(scale), dtype=dtype, device=query.device)
