"""Reading files of weights without executing pickled code, and finding the state dict in a training script's file."""

import argparse
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# Keys of the state dict in files of training scripts, in the order of preference: weights before their average.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_ema", "state_dict_ema")
# The name that torch.compile inserts before the names of each module that it wraps.
_COMPILED = "_orig_mod"
# Prefixes that parallel modules, our tasks, and torch.compile put before every name.
_PREFIXES = ("module.", "network.", f"{_COMPILED}.")
# Files of weights in a folder that timm or transformers saved.
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
# The message in which torch names an object that it refuses to load from a pickle.
_REFUSED = re.compile(
    r"(?:unsupported global:?(?: GLOBAL)?|unsupported class|unrecognized function) (\S+)", re.IGNORECASE
)


def read_weight_file(
    path: str | os.PathLike[str],
    *,
    kind: str = "file of weights",
    map_location: str | torch.device = "cpu",
    mmap: bool = False,
) -> dict[str, Any]:
    """The tensors and plain values in a file of weights.

    Args:
        path: A .safetensors file, a file written by torch.save (.pth, .pt, .bin, .ckpt), or a folder that holds
            model.safetensors or pytorch_model.bin.
        kind: Name of the kind of file in messages.
        map_location: Device of the tensors.
        mmap: Whether tensors in a file written by torch.save stay on disk until they are used.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds objects whose loading could execute code, or holds no dictionary.
    """
    path = _existing(Path(path).expanduser(), kind)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return _with_plain_names(load_file(path, device=str(map_location)))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a readable {kind}: {error}") from error
    with path.open("rb") as file:
        begin = file.read(2)
    if begin != b"PK" and begin[:1] != b"\x80":  # a zip archive, or a pickle of older releases
        raise ValueError(
            f"{path} is not a readable {kind}: expected a file that torch.save wrote, or one that ends in .safetensors"
        )
    try:
        # Training scripts store their arguments with the weights; a Namespace is a plain record.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap and begin == b"PK")
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        if refused := _REFUSED.search(str(error)):
            raise ValueError(
                f"{path} is not a readable {kind}: it holds Python objects besides tensors ({refused[1]}), which are "
                "not loaded because that can execute code; save the state dict alone, as safetensors or with "
                "torch.save(model.state_dict(), path)"
            ) from error
        raise ValueError(
            f"{path} is not a readable {kind}: expected an undamaged file that torch.save wrote, or one that ends "
            f"in .safetensors ({type(error).__name__})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a {kind}: it must hold a dictionary, got {type(content).__name__}")
    return _with_plain_names(content)


def plain_name(name: str) -> str:
    """The name of a tensor without the prefixes that torch.compile adds, at any depth."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _with_plain_names(content: dict[Any, Any]) -> dict[Any, Any]:
    """Replace the keys of the dictionary, and of dictionaries in it, by their plain names."""
    for key in list(content):
        value = content.pop(key)
        content[plain_name(key) if isinstance(key, str) else key] = value
        if isinstance(value, dict):
            _with_plain_names(value)
    return content


def unwrap_state_dict(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The innermost state dict in a training script's file, without the prefixes of wrappers.

    Values other than tensors stay; callers check for them.
    """
    for wrapper in _WRAPPERS:
        if isinstance(inner := content.get(wrapper), Mapping):
            return unwrap_state_dict(inner)
    for prefix in _PREFIXES:
        # torch's AveragedModel stores its number of updates as an entry of its own.
        inner = {key: value for key, value in content.items() if key != "n_averaged"}
        if inner and all(isinstance(key, str) and key.startswith(prefix) for key in inner):
            return unwrap_state_dict({key.removeprefix(prefix): value for key, value in inner.items()})
    return content


def _existing(path: Path, kind: str) -> Path:
    if path.is_dir():
        for name in _FOLDER_FILES:
            if (path / name).is_file():
                return path / name
        raise FileNotFoundError(f"the folder {path} has none of {', '.join(_FOLDER_FILES)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no {kind} at {path}")
    return path
