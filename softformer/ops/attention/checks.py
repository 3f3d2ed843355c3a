"""The checks of the arguments of the attention functions."""

import torch
from torch import Tensor

from softformer.ops.checks import check_mask, check_tensor
from softformer.ops.precision import compute_dtype


def check_points(query: Tensor, landmarks: Tensor, key: Tensor | None) -> None:
    """Query, landmarks, and key agree in batch, heads, width, and device."""
    check_tensor("query", query, "(B, H, N, D)")
    check_tensor("landmarks", landmarks, "(B, H, M, D)")
    if landmarks.shape[2] == 0:
        raise ValueError(f"landmarks must have at least one row (M >= 1), got shape {tuple(landmarks.shape)}")
    others = {"landmarks": landmarks}
    if key is not None:
        check_tensor("key", key, "(B, H, S, D)")
        if key.dtype != query.dtype:
            raise ValueError(f"key must have the type of query, {query.dtype}, got {key.dtype}")
        others["key"] = key
    for name, x in others.items():
        if x.shape[:2] != query.shape[:2] or x.shape[3] != query.shape[3]:
            raise ValueError(
                f"{name} must agree with query {tuple(query.shape)} in batch, heads and width, got {tuple(x.shape)}"
            )
        if x.device != query.device:
            raise ValueError(f"{name} must be on {query.device} as query is, got {x.device}")


def check_masks(
    query: Tensor,
    landmarks: Tensor,
    key: Tensor | None,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    landmark_mask: Tensor | None,
) -> None:
    """The masks have the shapes of their tensors, and key_mask is None without key."""
    batch, device = query.shape[0], query.device
    if key is None and key_mask is not None:
        raise ValueError("key_mask must be None without key, got a mask; in self-attention query_mask masks the keys")
    check_mask("query_mask", query_mask, batch, query.shape[2], device)
    if key is not None:
        check_mask("key_mask", key_mask, batch, key.shape[2], device)
    check_mask("landmark_mask", landmark_mask, batch, landmarks.shape[2], device)


def check_inputs(
    query: Tensor,
    value: Tensor,
    landmarks: Tensor,
    key: Tensor | None,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    landmark_mask: Tensor | None,
) -> None:
    """The tensors of `softformer.soft_attention` agree in shapes, types, and devices.

    Raises:
        ValueError: They do not; names the argument, what was expected, and what came.
    """
    check_points(query, landmarks, key)
    check_tensor("value", value, "(B, H, S, Dv)")
    tokens = query if key is None else key
    if value.shape[:3] != tokens.shape[:3]:
        name = "query (its keys, as key is None)" if key is None else "key"
        raise ValueError(
            f"value must agree with {name} {tuple(tokens.shape)} in batch, heads and length, got {tuple(value.shape)}"
        )
    if value.device != query.device:
        raise ValueError(f"value must be on {query.device} as query is, got {value.device}")
    check_masks(query, landmarks, key, query_mask, key_mask, landmark_mask)


def scale_tensor(scale: float | Tensor | None, query: Tensor) -> Tensor | None:
    """Convert output_scale to a (B,) tensor in the compute type, without a gradient.

    Raises:
        ValueError: It is neither a number nor a tensor with one number, or one number for each sample.
    """
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
