"""Stopping a run whose loss is NaN or infinite, with the figures that show the cause."""

from collections.abc import Callable
from contextlib import ExitStack
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from softformer.layers.attention import SoftAttention
from softformer.layers.padding import zero_pads
from softformer.models.weight_files import plain_name


def _smallest(figure: Tensor) -> Tensor:
    """The smallest value, NaN if there is one; 0, the value of a sample without landmarks, does not count."""
    return figure.masked_fill(figure == 0, torch.inf).min()


# Figure of `AttentionHealth`, its name in messages, and the function that returns its worst value.
_FIGURES = (
    ("attention_norm", "largest spectral norm of the attention", torch.max),
    ("inverse_norm", "largest spectral norm of A+", torch.max),
    ("residual", "largest |A X - I|", torch.max),
    ("effective_rank", "smallest effective rank of A", _smallest),
)


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


def stop_if_not_finite(trainer: Trainer, loss: Tensor, network: nn.Module, step: Callable[[], Any]) -> None:
    """Save a checkpoint and raise a `DivergedError`, on all processes, if the loss of any is NaN or infinite.

    The error describes the health of the attention, for which `step` computes the loss once more.
    """
    broken = ~loss.detach().isfinite()
    if trainer.world_size > 1:
        broken = trainer.strategy.reduce(broken.float(), reduce_op="sum") > 0
    if not broken:
        return
    path = _checkpoint_folder(trainer) / "diverged.ckpt"
    if not trainer.fast_dev_run:  # type: ignore[attr-defined]
        trainer.save_checkpoint(path)
    rates = sorted({group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups})
    raise DivergedError(
        f"the loss is {loss.item()} at step {trainer.global_step} (epoch {trainer.current_epoch}) with learning rate"
        f" {' to '.join(f'{rate:.3g}' for rate in dict.fromkeys((rates[0], rates[-1])))}, so the run was stopped; the"
        f" parameters before this step are in {path}. {describe_health(network, step)} Common remedies: a lower"
        " optimizer.lr, trainer.gradient_clip_val 1.0, a longer schedule.warmup, inverse Cholesky with a larger ridge,"
        " trainer.precision bf16-mixed instead of 16-mixed."
    )


def describe_health(network: nn.Module, step: Callable[[], Any]) -> str:
    """The health of the SOFT attention layers while `step` runs the network, with the worst layer of each figure."""
    # In a compiled network the hooks below would be compiled, too.
    layers = {plain_name(name): module for name, module in network.named_modules() if isinstance(module, SoftAttention)}
    healths: dict[str, Any] = {}
    broken: list[str] = []

    def measure(name: str, layer: SoftAttention) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = signature(layer.forward).bind(*args, **kwargs).arguments
            if not zero_pads(given["x"], given.get("mask")).isfinite().all():  # padding does not matter
                broken.append(name)
            healths[name] = layer.health(*args, **kwargs)

        return hook

    with ExitStack() as hooks, torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(measure(name, layer), with_kwargs=True))
        step()
    weights = [plain_name(name) for name, parameter in network.named_parameters() if not parameter.isfinite().all()]
    text = f"{len(weights)} parameters are not finite, the first is {weights[0]}. " if weights else ""
    if not healths:
        return f"{text}The network has no SOFT attention to measure."
    figures = [_worst(healths, figure, title, pick) for figure, title, pick in _FIGURES]
    text += f"Attention health: {'; '.join(figures)}."
    return f"{text} The input of {broken[0]} is already not finite." if broken else text


def _worst(healths: dict[str, Any], figure: str, title: str, pick: Any) -> str:
    """A figure's worst value and its layer; a NaN is worse than any number."""
    values = torch.stack([pick(getattr(health, figure)) for health in healths.values()])
    worst = pick(values)
    index = int((values.isnan() if worst.isnan() else values == worst).float().argmax())
    return f"{title} {values[index]:.4g} ({list(healths)[index]})"


def _checkpoint_folder(trainer: Trainer) -> Path:
    folder = getattr(trainer.checkpoint_callback, "dirpath", None)
    return Path(folder) if folder else Path(trainer.default_root_dir) / "checkpoints"
