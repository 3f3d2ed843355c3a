"""The names of the authors' state dicts and ours: one table, read both ways.

Shapes agree except those of position embeddings: theirs are (1, N, C) on a square grid, the last with the position of
the class token first; ours are (1, h, w, C), and that position is a separate parameter.
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


def _part(stage: int, block: str | None) -> tuple[str, str, dict[str, str]]:
    """Published prefix, our prefix, and names of the modules in a block of a stage, or before its blocks for None."""
    if block is not None:
        table = _SOFT_BLOCK if stage < STAGES - 1 else _SOFTMAX_BLOCK
        return f"block{stage + 1}.{block}", f"stages.{stage}.blocks.{block}", table
    ours, table = (f"stages.{stage}.downsample", _DOWNSAMPLE) if stage else ("stem", _STEM)
    return f"patch_embed{stage + 1}", ours, table


def our_key(key: str) -> str:
    """Our name of a published key; a key that the layout does not have stays as it is."""
    module, _, leaf = key.rpartition(".")
    if match := re.fullmatch(r"(?:patch_embed(\d)|block(\d)\.(\d+))\.(.+)", module):
        _, ours, table = _part(int(match[1] or match[2]) - 1, match[3])
        return f"{ours}.{table[match[4]]}.{leaf}" if match[4] in table else key
    if match := re.fullmatch(r"pos_embed(\d)", key):
        return f"stages.{int(match[1]) - 1}.pos_embed"
    return f"stages.{STAGES - 1}.class_token" if key == "cls_token" else key


def published_shapes(ours: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the authors' layout for a network of ours with these names and shapes."""
    shapes = {}
    for our, shape in ours.items():
        if our.endswith("class_pos"):
            continue
        if our.endswith("pos_embed"):
            prefix = int(our.startswith(f"stages.{STAGES - 1}."))
            shape = (1, shape[1] * shape[2] + prefix, shape[3])
        shapes[_published_key(our)] = shape
    return shapes


def _published_key(our: str) -> str:
    """The published name of a parameter or buffer of ours; a name that the layout does not have stays as it is."""
    module, _, leaf = our.rpartition(".")
    if match := re.fullmatch(r"(?:stem|stages\.(\d)\.(?:downsample|blocks\.(\d+)))\.(.+)", module):
        published, _, table = _part(int(match[1] or 0), match[2])
        names = {ours: theirs for theirs, ours in table.items()}
        return f"{published}.{names[match[3]]}.{leaf}" if match[3] in names else our
    if match := re.fullmatch(r"stages\.(\d)", module):
        return f"pos_embed{int(match[1]) + 1}" if leaf == "pos_embed" else "cls_token"
    return our


def convert(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict of the authors' layout in ours.

    Unknown keys, and position embeddings that are not on a square grid, stay as they are: `load_state_dict` names them.
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
    """Resize position embeddings to the grids of `shapes`; `load_state_dict` names other differences."""
    for key, value in state_dict.items():
        shape = shapes.get(key, ())
        if key.endswith("pos_embed") and isinstance(value, Tensor) and value.ndim == 4 and len(shape) == 4:
            state_dict[key] = resize_positions(value, (shape[1], shape[2]))
    return state_dict
