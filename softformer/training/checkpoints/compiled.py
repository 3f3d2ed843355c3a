"""Checkpoints of compiled modules: tensors are stored under plain names, which load with and without compilation."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from softformer.models.weight_files import plain_name


def store_plain_names(module: nn.Module) -> None:
    """Make ``state_dict`` and ``load_state_dict`` of a module independent of which of its modules are compiled."""
    module.register_state_dict_post_hook(_to_plain_names)
    module.register_load_state_dict_pre_hook(_from_plain_names)


def own_names(module: nn.Module) -> dict[str, str]:
    """The names of the parameters and buffers of a module by their plain names (see `plain_name`)."""
    named = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    return {plain_name(name): name for tensors in named for name, _ in tensors}


def _to_plain_names(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    _rename(state, prefix, {})


def _from_plain_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _rename(state, prefix, own_names(module))


def _rename(state: dict[str, Any], prefix: str, names: Mapping[str, str]) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        name = plain_name(key.removeprefix(prefix))
        state[prefix + names.get(name, name)] = state.pop(key)
