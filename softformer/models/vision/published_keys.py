"""The names of the authors' state dicts and ours: one table, read both ways.

Shapes agree but for position embeddings: theirs are (1, N, C) on a square grid, the last with the class token's
position first; ours are (1, h, w, C), and that position is a parameter of its own.
"""

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from softformer.models.vision.stages import resize_positions

STAGES = 4

# Modules of theirs and ours, within the stem, a downsampling, a SOFT block and a block of the last stage.
_STEM = {
    "proj.0": "conv1",
    "proj.1": "norm1",
    "proj.3": "conv2",
    "proj.4": "norm2",
    "proj.6": "conv3",
    "proj.7": "norm3",
}
_DOWNSAMPLE = {"proj.0": "conv", "proj.1": "norm"}
_SOFT_BLOCK = {
    "att.mha.W_q": "mixer.query",
    "att.mha.W_v": "mixer.value",
    "att.mha.attn.Qlandmark_op": "mixer.landmarks",
    "att.mha.attn.Qnorm_act.0": "mixer.landmarks.norm",
    "att.mha.attn.conv": "mixer.value_conv",
    "att.mha.ff": "mixer.proj",
    "att.norm1": "norm1",
    "att.ff1": "mlp.fc1",
    "att.ff2": "mlp.fc2",
    "att.norm2": "norm2",
}
_SOFTMAX_BLOCK = {
    "norm1": "norm1",
    "attn.q": "mixer.query",
    "attn.kv": "mixer.key_value",
    "attn.proj": "mixer.proj",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def is_published(state_dict: Mapping[str, Any]) -> bool:
    """Whether the keys are those of the authors' layout."""
    return any(key.startswith("patch_embed1.proj.") for key in state_dict)


def our_key(key: str) -> str:
    """Our name of a published key; a key that the layout does not have stays as it is."""
    module, _, leaf = key.rpartition(".")
    if match := re.fullmatch(r"patch_embed(\d)\.(.+)", module):
        stage = int(match[1]) - 1
        table, place = (_DOWNSAMPLE, f"stages.{stage}.downsample") if stage else (_STEM, "stem")
        return f"{place}.{table[match[2]]}.{leaf}" if match[2] in table else key
    if match := re.fullmatch(r"block(\d)\.(\d+)\.(.+)", module):
        stage = int(match[1]) - 1
        table = _SOFT_BLOCK if stage < STAGES - 1 else _SOFTMAX_BLOCK
        return f"stages.{stage}.blocks.{match[2]}.{table[match[3]]}.{leaf}" if match[3] in table else key
    if match := re.fullmatch(r"pos_embed(\d)", key):
        return f"stages.{int(match[1]) - 1}.pos_embed"
    return f"stages.{STAGES - 1}.class_token" if key == "cls_token" else key


def published_shapes(ours: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the authors' layout for a network of ours with these names and shapes."""
    names = {our: published for published, our in _all_names(ours)}
    shapes = {}
    for our, shape in ours.items():
        if our.endswith("class_pos"):
            continue
        if our.endswith("pos_embed"):
            prefix = int(our.startswith(f"stages.{STAGES - 1}."))
            shape = (1, shape[1] * shape[2] + prefix, shape[3])
        shapes[names.get(our, our)] = shape
    return shapes


def _all_names(ours: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(published, ours) for every parameter and buffer of ours that goes by another name there."""
    pairs = []
    for our in ours:
        module, _, leaf = our.rpartition(".")
        if match := re.fullmatch(r"stages\.(\d)\.blocks\.(\d+)\.(.+)", module):
            stage = int(match[1])
            table = _SOFT_BLOCK if stage < STAGES - 1 else _SOFTMAX_BLOCK
            place = f"block{stage + 1}.{match[2]}"
            inner = match[3]
        elif match := re.fullmatch(r"stages\.(\d)\.downsample\.(.+)", module):
            table, place, inner = _DOWNSAMPLE, f"patch_embed{int(match[1]) + 1}", match[2]
        elif match := re.fullmatch(r"stem\.(.+)", module):
            table, place, inner = _STEM, "patch_embed1", match[1]
        elif match := re.fullmatch(r"stages\.(\d)", module):
            pairs.append((f"pos_embed{int(match[1]) + 1}" if leaf == "pos_embed" else "cls_token", our))
            continue
        else:
            continue
        pairs.extend((f"{place}.{published}.{leaf}", our) for published, name in table.items() if name == inner)
    return pairs


def convert(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict of the authors' layout in ours. Keys that it does not have stay, for `load_state_dict` to name.

    Position embeddings that are not on a square grid stay as they are too.
    """
    ours: dict[str, Any] = {}
    for key, value in state_dict.items():
        name = our_key(key)
        if name.endswith(".pos_embed") and isinstance(value, Tensor) and value.ndim == 3:
            prefix = int(key == f"pos_embed{STAGES}")
            if prefix:
                ours[f"stages.{STAGES - 1}.class_pos"] = value[:, :1]
            side = isqrt(value.shape[1] - prefix)
            if side**2 == value.shape[1] - prefix:
                value = value[:, prefix:].unflatten(1, (side, side))
        ours[name] = value
    return ours


def resize_to(state_dict: dict[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Position embeddings resized to the grids of `shapes`; what else differs stays for `load_state_dict` to name."""
    for key, value in state_dict.items():
        shape = shapes.get(key, ())
        if key.endswith("pos_embed") and isinstance(value, Tensor) and value.ndim == 4 and len(shape) == 4:
            state_dict[key] = resize_positions(value, (shape[1], shape[2]))
    return state_dict
