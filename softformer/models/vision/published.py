"""The authors' checkpoints: `from_published` reads one and builds the network that its keys describe."""

import os
import re
from collections import Counter
from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from softformer.models.vision.network import SoftVisionTransformer, adapt_state_dict
from softformer.models.vision.options import image_size
from softformer.models.vision.published_keys import STAGES, is_published, published_shapes
from softformer.models.weight_files import read_weight_file, unwrap_state_dict
from softformer.ops.inverse import Newton

StateDict = Mapping[str, Tensor]


def published_cfg(input_size: tuple[int, int, int] = (3, 224, 224), num_classes: int = 1000) -> dict[str, Any]:
    """The evaluation settings of the authors as timm's `pretrained_cfg`; input_size is (channels, height, width)."""
    return {
        "url": "",
        "num_classes": num_classes,
        "input_size": input_size,
        "pool_size": (7, 7),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "stem.conv1",
        "classifier": "head",
        "fixed_input_size": False,
        "license": "mit",
        "origin_url": "https://github.com/fudan-zvg/SOFT",
        "paper_name": "SOFT: Softmax-free Transformer with Linear Complexity",
        "paper_ids": "arXiv:2110.11945",
    }


def from_published(
    state_dict_or_path: Mapping[str, Any] | str | os.PathLike[str],
    *,
    symmetric_norm: bool = False,
    img_size: int | tuple[int, int] = 224,
) -> SoftVisionTransformer:
    """The network of a checkpoint of the authors' code, with its weights, in eval mode.

    The keys and shapes determine widths, depths, heads, landmark strides, value convolutions, classes, and channels.
    The head width of the last stage, which no key shows, is that of the third stage, as in all published models. A
    state dict without a classifier gives a network that ends in features. timm's `resolve_model_data_config` gives
    the published evaluation settings of the network, and its `save_for_hf` saves it.

    Args:
        state_dict_or_path: The state dict, or its file: .safetensors or written by torch.save (.pth, .pt), read without
            executing pickled code. It may be wrapped as ``{"model": ...}`` or ``{"state_dict": ...}`` (an exponential
            average in the same file is then ignored), or as ``model_ema`` or ``state_dict_ema`` alone, and its keys may
            have the prefix ``module.``.
        symmetric_norm: Whether the weights are of a normalized model (SOFT++), which keys and shapes do not show.
        img_size: Side in pixels, or (height, width), for whose grids the position embeddings are resized.

    Returns:
        The network in float32 on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is unreadable or holds code, its layout is not the authors', or keys are missing,
            unexpected, or of the wrong shape; the message lists them.
    """
    if isinstance(state_dict_or_path, Mapping):
        found, source = state_dict_or_path, "the state dict"
    elif isinstance(state_dict_or_path, str | os.PathLike):
        found, source = read_weight_file(state_dict_or_path), str(state_dict_or_path)
    else:
        raise ValueError(
            f"state_dict_or_path must be a mapping or a path, got {type(state_dict_or_path).__name__}; "
            "for a module pass its state_dict()"
        )
    state_dict = _published_tensors(found, source)
    options = _infer_options(state_dict)
    if symmetric_norm:
        options["inverse"] = Newton(20, ridge=0.0, start="halving", gradient="unrolled")
    model = SoftVisionTransformer(img_size, symmetric_norm=symmetric_norm, **options, device="meta")
    expected = published_shapes({name: tuple(value.shape) for name, value in model.state_dict().items()})
    _check_keys(state_dict, expected, source)
    model.to_empty(device="cpu")
    model.load_state_dict(adapt_state_dict(state_dict, model))
    size = image_size(img_size)
    # timm saves and evaluates a model by a variant and the arguments that differ from it.
    architecture = "soft_norm_tiny" if symmetric_norm else "soft_tiny"
    cfg = published_cfg((model.in_chans, *size), model.num_classes)
    model.pretrained_cfg = {**cfg, "architecture": architecture}
    arguments = {name: value for name, value in options.items() if name != "inverse"}
    model.__dict__["_model_args"] = {**arguments, "img_size": size}
    return model.eval()


def _published_tensors(found: Mapping[str, Any], source: str) -> StateDict:
    """The state dict in the content of a training script's file, checked for the authors' layout and for tensors."""
    state_dict = unwrap_state_dict(found)
    if not is_published(state_dict):
        keys = ", ".join(map(str, list(state_dict)[:5])) or "none"
        raise ValueError(
            f"{source} is not of the authors' layout: expected keys such as patch_embed1.proj.0.weight, got {keys}; "
            "weights saved from softformer load with load_state_dict"
        )
    if others := [key for key, value in state_dict.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{source} must hold tensors only, got something else at {', '.join(others[:5])}")
    return state_dict


def _infer_options(state_dict: StateDict) -> dict[str, Any]:
    """Arguments of `SoftVisionTransformer` from keys and shapes.

    The majority of the keys that show a size decides it, so `_check_keys` names a key that is missing or of a wrong
    shape, and no other architecture results from it. Where no key shows a size, the published value is used.
    """

    def size(*places: tuple[str, int, int]) -> int | None:
        """The size on which most keys agree: places are (pattern of keys, axis, number of axes)."""
        votes = Counter(
            int(value.shape[axis])
            for pattern, axis, ndim in places
            for key, value in state_dict.items()
            if re.fullmatch(pattern, key) and value.ndim == ndim and value.shape[axis] > 0
        )
        return votes.most_common(1)[0][0] if votes else None

    def known(pattern: str) -> bool:
        return any(re.fullmatch(pattern, key) for key in state_dict)

    numbers = range(1, STAGES + 1)
    embed_dims = [
        size(
            (rf"patch_embed{number}\.proj\.{6 if number == 1 else 0}\.weight", 0, 4),
            (rf"patch_embed{number}\.proj\.{7 if number == 1 else 1}\.\w+", 0, 1),
            (rf"pos_embed{number}", 2, 3),
            (rf"block{number}\.\d+\.(?:att\.)?norm[12]\.\w+", 0, 1),
            (rf"block{number}\.\d+\.(?:att\.mha\.W_[qv]|attn\.q)\.weight", 1, 2),
        )
        or 32
        for number in numbers
    ]
    depths = []
    for number in numbers:
        blocks = (re.match(rf"block{number}\.(\d+)\.", key) for key in state_dict)
        depths.append(1 + max((int(block[1]) for block in blocks if block), default=0))
    head_dims, strides, kernels = [], [], []
    has_conv = known(r"block\d\.\d+\.att\.mha\.attn\.conv\.weight")
    for number in numbers[:-1]:
        inside = rf"block{number}\.\d+\.att\.mha\.attn\."
        window, norm, conv = rf"{inside}Qlandmark_op\.weight", rf"{inside}Qnorm_act\.0\.\w+", rf"{inside}conv\.weight"
        head_dims.append(size((window, 0, 4), (window, 1, 4), (norm, 0, 1)) or 32)
        strides.append(size((window, 2, 4), (window, 3, 4)) or 2 ** (STAGES - number))
        kernels.append((size((conv, 2, 4), (conv, 3, 4)) or 2 ** (STAGES - number) + 1) if has_conv else 0)
    head_dims.append(head_dims[-1])
    mlps = [rf"block{number}\.\d+\.(?:att\.ff|mlp\.fc)" for number in numbers]
    hidden = [size((rf"{mlp}1\.weight", 0, 2), (rf"{mlp}1\.bias", 0, 1), (rf"{mlp}2\.weight", 1, 2)) for mlp in mlps]
    stem = r"patch_embed1\.proj\."
    has_head = known(r"head\.(weight|bias)")
    return {
        "in_chans": size((rf"{stem}0\.weight", 1, 4)) or 3,
        "num_classes": (size((r"head\.weight", 0, 2), (r"head\.bias", 0, 1)) or 1000) if has_head else 0,
        "embed_dims": embed_dims,
        "depths": depths,
        # Where the widths do not fit, the shapes of a single head differ, which `_check_keys` names.
        "num_heads": [1 if dim % width else dim // width for dim, width in zip(embed_dims, head_dims)],
        "mlp_ratio": [width / dim if width else 4.0 for width, dim in zip(hidden, embed_dims)],
        "qkv_bias": known(r"block4\.\d+\.attn\.(q|kv)\.bias"),
        "landmark_strides": strides,
        "value_kernels": kernels,
        "stem_width": size(
            *((rf"{stem}{layer}\.weight", 0, 4) for layer in (0, 3)),
            *((rf"{stem}{layer}\.weight", 1, 4) for layer in (3, 6)),
            *((rf"{stem}{layer}\.\w+", 0, 1) for layer in (1, 4)),
        )
        or 32,
    }


def _check_keys(state_dict: StateDict, expected: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Check that keys and shapes are the expected ones; position embeddings may have any square grid."""
    wrong = []
    for key, shape in expected.items():
        if key not in state_dict:
            continue
        got = tuple(state_dict[key].shape)
        if key.startswith("pos_embed"):
            prefix = int(key == f"pos_embed{STAGES}")
            length = got[1] - prefix if len(got) == 3 else 0
            if length < 1 or isqrt(length) ** 2 != length or (got[0], got[2]) != (1, shape[2]):
                wrong.append(f"{key} (expected (1, {'1 + ' * prefix}side * side, {shape[2]}), got {got})")
        elif got != shape:
            wrong.append(f"{key} (expected {shape}, got {got})")
    problems = {
        "missing": [key for key in expected if key not in state_dict],
        "unexpected": [key for key in state_dict if key not in expected],
        "of the wrong shape": wrong,
    }
    if any(problems.values()):
        lists = "; ".join(f"{problem}: {', '.join(keys)}" for problem, keys in problems.items() if keys)
        raise ValueError(f"{source} does not fit the authors' layout; {lists}")
