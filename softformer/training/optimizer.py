"""The optimizer as configuration, and the parameter groups it works on."""

import difflib
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from timm.optim import (
    create_optimizer_v2,
    get_optimizer_info,
    list_optimizers,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import nn
from torch.optim import Optimizer

from softformer.layers.positions import LearnedPositions
from softformer.models.weight_files import plain_name
from softformer.training.specs import Settings

# Names of position embeddings and class tokens in timm, torchvision, open_clip and transformers, as parameters or as
# tables; for networks that do not list them.
_UNDECAYED = {
    *("pos_embed", "pos_embedding", "positional_embedding", "position_embedding", "position_embeddings"),
    *("cls_token", "class_token", "dist_token"),
}


class OptimizerSpec(Settings):
    """Which optimizer, by any name that timm knows, and its options.

    Weight decay never touches biases, the parameters of norms, position embeddings and class tokens.

    Args:
        name: Name as `timm.optim.list_optimizers` prints it.
        lr: Peak learning rate.
        weight_decay: Decoupled weight decay.
        layer_decay: Factor on the learning rate from each layer to the one before it, for fine-tuning; 1 for one rate.
        betas: Both momentum factors of the Adam family; None for the optimizer's own.
        momentum: Momentum of the optimizers that have one.
    """

    def __init__(
        self,
        name: str = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        layer_decay: float = 1.0,
        betas: tuple[float, float] | None = None,
        momentum: float = 0.9,
    ) -> None:
        self.name = name
        self.lr = lr
        self.weight_decay = weight_decay
        self.layer_decay = layer_decay
        self.betas = betas
        self.momentum = momentum
        if self.name.lower() not in (known := list_optimizers()):
            nearest = difflib.get_close_matches(self.name.lower(), known, n=8, cutoff=0.4)
            raise ValueError(
                f"optimizer.name must be one that timm.optim.list_optimizers() lists, got {self.name!r}."
                f" Nearest: {', '.join(nearest) or 'none'}. Common: adamw, sgd, lamb, lion, adafactor, muon"
            )
        if not self.lr > 0:
            raise ValueError(f"optimizer.lr must be positive, got {self.lr}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay must be zero or positive, got {self.weight_decay}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"optimizer.layer_decay must lie in (0, 1], got {self.layer_decay}")
        info = get_optimizer_info(self.name.lower())
        if self.betas is not None and (not info.has_betas or info.num_betas != 2):  # timm would drop them
            raise ValueError(
                f"optimizer.betas is for optimizers with two of them, such as adamw, lamb or lion, got {self.betas} for"
                f" {self.name}, which has {info.num_betas if info.has_betas else 'none'}; leave it out"
            )

    def build(self, network: nn.Module) -> Optimizer:
        """The optimizer over the parameters of a network that require a gradient; errors as in `parameter_groups`."""
        groups = parameter_groups(network, self.lr, self.weight_decay, self.layer_decay)
        options: dict[str, Any] = {} if self.betas is None else {"betas": self.betas}
        # Each group has its own weight_decay; the argument serves timm's defaults only.
        return create_optimizer_v2(
            groups, opt=self.name, lr=self.lr, weight_decay=self.weight_decay, momentum=self.momentum, **options
        )


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: with and without weight decay, and with layer decay one learning rate a layer.

    Args:
        network: Its ``no_weight_decay()`` and ``group_matcher()`` are used where it has them.
        lr: Learning rate of the head.
        weight_decay: Weight decay.
        layer_decay: Factor on the learning rate from a layer to the one before; 1 for one rate.

    Raises:
        ValueError: Nothing is left to train, or layer_decay is not 1 and the network has no ``group_matcher``.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError("the network has no parameter that requires a gradient, so there is nothing to train")
    # timm finds the layers and the exceptions by name, so the names must be without the parts that torch.compile adds.
    named: Any = SimpleNamespace(
        named_parameters=lambda: [(plain_name(name), parameter) for name, parameter in network.named_parameters()],
        group_matcher=getattr(network, "group_matcher", None),
    )
    exempt = undecayed_names(network)
    if layer_decay == 1:
        return param_groups_weight_decay(named, weight_decay, no_weight_decay_list=exempt)
    if not hasattr(network, "group_matcher"):
        raise ValueError(
            f"optimizer.layer_decay needs a network with timm's group_matcher, which {type(network).__name__} lacks;"
            " set it to 1"
        )
    groups = param_groups_layer_decay(
        named, weight_decay, no_weight_decay_list=exempt, layer_decay=layer_decay, weight_decay_exclude_1d=True
    )
    # timm leaves the scale to its own schedulers; torch's start from the rate of each group.
    return [
        {"params": group["params"], "weight_decay": group["weight_decay"], "lr": lr * group["lr_scale"]}
        for group in groups
    ]


def undecayed_names(network: nn.Module) -> set[str]:
    """Plain names of the parameters that must not decay although they have several axes (see `plain_name`)."""
    listed: Callable[[], Iterable[str]] = getattr(network, "no_weight_decay", set)
    names = {plain_name(name) for name, _ in network.named_parameters() if _is_undecayed(name)}
    tables = {
        f"{plain_name(name)}.weight"
        for name, module in network.named_modules()
        if isinstance(module, LearnedPositions) or (isinstance(module, nn.Embedding) and _is_undecayed(name))
    }
    return names | tables | set(map(plain_name, listed()))


def _is_undecayed(name: str) -> bool:
    return name.rpartition(".")[2].rstrip("0123456789") in _UNDECAYED
