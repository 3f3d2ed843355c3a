"""Starting weights for a network: published, our own checkpoints, timm's, or any file of plain tensors."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from softformer.models.checkpoint_keys import ARGUMENTS_KEY, CLASS_KEY, STATE_KEY
from softformer.models.text_names import network_names, renamed
from softformer.models.vision.network import adapt_state_dict
from softformer.models.weight_files import plain_name, read_weight_file, unwrap_state_dict
from softformer.training.checkpoints.compiled import own_names
from softformer.training.checkpoints.content import processor_description

_SHOWN = 12


@dataclass(frozen=True)
class WeightReport:
    """The tensors of a file that were loaded into a network, and those that were not.

    Args:
        path: The file.
        loaded: Names of loaded tensors.
        reshaped: Names of tensors of different shapes, with both shapes; not loaded.
        missing: Names of the network that the file lacks.
        unexpected: Names of the file that the network lacks.
        processor: The description of the processor in the file, if that is a checkpoint of our tasks.
    """

    path: str
    loaded: list[str]
    reshaped: list[str]
    missing: list[str]
    unexpected: list[str]
    processor: dict[str, Any] | None = None

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.reshaped) + len(self.missing)
        groups = Counter(".".join(name.split(".")[:2]) for name in self.loaded)
        lines = [
            f"weights: {len(self.loaded)} of {total} tensors loaded from {self.path}",
            f"  loaded: {', '.join(f'{group} ({count})' for group, count in groups.items())}",
        ]
        for title, names in (
            ("not loaded, of another shape", self.reshaped),
            ("not loaded, not in the file", self.missing),
            ("not loaded, not in the network", self.unexpected),
        ):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                lines.append(f"  {title}: {', '.join(names[:_SHOWN])}{more}")
        return "\n".join(lines)

    def check_complete(self, purpose: str) -> None:
        """Raise a ValueError that names the purpose (such as test) unless network and file have the same tensors."""
        lacking = self.reshaped + self.missing
        problems = []
        if lacking:
            problems.append(f"does not give {len(lacking)} of them: {_some(lacking)}")
        if self.unexpected:
            problems.append(f"holds {len(self.unexpected)} that have no place in it: {_some(self.unexpected)}")
        if problems:
            raise ValueError(
                f"{purpose} needs all weights of the network and no others, but {self.path} {' and '.join(problems)}."
                " The file is of another network: the number of classes or an option of the encoder differs"
            )


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"


def load_weights(network: nn.Module, path: str | Path) -> WeightReport:
    """Copy every tensor of a file that has a place in the network.

    A classifier head of another number of classes keeps its start; so does whatever else does not match.

    Args:
        network: Changed in place.
        path: ``.safetensors``, ``.pth``, ``.pt``, ``.bin`` or ``.ckpt`` file, or a folder saved by timm or
            transformers. No pickled code is executed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no tensors, or none of them fits.
    """
    content = read_weight_file(path)
    found = adapt_state_dict(_tensors(content, path), network)
    names = own_names(network)
    wanted = {plain_name(name): value for name, value in network.state_dict().items()}
    loaded = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    reshaped = [
        f"{name} {tuple(found[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and name not in loaded
    ]
    # Counters of batch norms are single numbers and fit any network.
    if not any(wanted[name].ndim for name in loaded):
        reason = (
            f"they have its names, but other shapes, such as {_some(reshaped)}; the width or another option of the "
            "encoder differs"
            if reshaped
            else f"it expects names such as {', '.join(list(wanted)[:3])}, the file has {', '.join(list(found)[:3])}"
        )
        raise ValueError(f"none of the {len(found)} tensors in {path} fits the network: {reason}")
    network.load_state_dict({names.get(name, name): value for name, value in loaded.items()}, strict=False)
    return WeightReport(
        path=str(path),
        loaded=list(loaded),
        reshaped=reshaped,
        missing=[name for name in wanted if name not in found],
        unexpected=[name for name in found if name not in wanted],
        processor=processor_description(content),
    )


def _tensors(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file with the names of our networks."""
    if CLASS_KEY in (content.get(ARGUMENTS_KEY) or {}):
        # A checkpoint of our tasks, which may have other tensors than those of the network.
        state = renamed(content.get(STATE_KEY) or {}, {"network.": ""})
    else:
        state = network_names(unwrap_state_dict(content))
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors by name; expected a state dict")
    return tensors
