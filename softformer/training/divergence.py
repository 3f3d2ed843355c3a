"""Stopping a run whose loss is not a number, with what is needed to find out why."""

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from softformer.layers.attention import SoftAttention
from softformer.layers.padding import zero_pads

if TYPE_CHECKING:
    from softformer.training.module import SoftformerModule


def _smallest(figure: Tensor) -> Tensor:
    """The smallest value; NaN if there is one. 0 stands for a sample without landmarks, which says nothing."""
    return figure.masked_fill(figure == 0, torch.inf).min()


# Figure of `AttentionHealth`, what to call it, and what picks the worst of its values.
_FIGURES = (
    ("attention_norm", "largest spectral norm of the attention", torch.max),
    ("inverse_norm", "largest spectral norm of A+", torch.max),
    ("residual", "largest |A X - I|", torch.max),
    ("effective_rank", "smallest effective rank of A", _smallest),
)


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


def stop_if_not_finite(task: "SoftformerModule", loss: Tensor, batch: dict[str, Any]) -> None:
    """Save a checkpoint and stop, on all processes together, if the loss of any of them is NaN or infinite.

    Args:
        task: The task in training.
        loss: Its loss, a scalar.
        batch: What the loss came from; it is run once more to measure the attention.

    Raises:
        DivergedError: With the step, the learning rate, the checkpoint and the health of the attention.
    """
    trainer = task.trainer
    broken = ~loss.detach().isfinite()
    if trainer.world_size > 1:
        broken = trainer.strategy.reduce(broken.float(), reduce_op="sum") > 0
    if not broken:
        return
    path = _checkpoint_folder(task) / "diverged.ckpt"
    if not trainer.fast_dev_run:  # type: ignore[attr-defined]
        trainer.save_checkpoint(path)
    rates = sorted({group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups})
    raise DivergedError(
        f"the loss is {loss.item()} at step {trainer.global_step} (epoch {trainer.current_epoch}) with learning rate"
        f" {' to '.join(f'{rate:.3g}' for rate in dict.fromkeys((rates[0], rates[-1])))}, so the run was stopped; the"
        f" parameters before this step are in {path}. {describe_health(task, batch)} Common remedies: a lower"
        " optimizer.lr, trainer.gradient_clip_val 1.0, a longer schedule.warmup, inverse Cholesky with a larger ridge,"
        " trainer.precision bf16-mixed instead of 16-mixed."
    )


def describe_health(task: "SoftformerModule", batch: dict[str, Any]) -> str:
    """One sentence or two on the SOFT attention layers of a task for a batch, the worst layer of each figure named."""
    layers = {name: module for name, module in task.network.named_modules() if isinstance(module, SoftAttention)}
    healths: dict[str, Any] = {}
    broken: list[str] = []

    def measure(name: str, layer: SoftAttention) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = signature(layer.forward).bind(*args, **kwargs).arguments
            if not zero_pads(given["x"], given.get("mask")).isfinite().all():  # what stands in pads does not matter
                broken.append(name)
            healths[name] = layer.health(*args, **kwargs)

        return hook

    handles = [
        layer.register_forward_pre_hook(measure(name, layer), with_kwargs=True) for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            task.step(batch, "train")
    finally:
        for handle in handles:
            handle.remove()
    weights = [name for name, parameter in task.network.named_parameters() if not parameter.isfinite().all()]
    sentences = []
    if weights:
        sentences.append(f"{len(weights)} parameters are not finite, the first is {weights[0]}.")
    if not healths:
        sentences.append("The network has no SOFT attention to measure.")
        return " ".join(sentences)
    figures = [_worst(healths, figure, title, pick) for figure, title, pick in _FIGURES]
    sentences.append(f"Attention health: {'; '.join(figures)}.")
    if broken:
        sentences.append(f"The input of {broken[0]} is already not finite.")
    return " ".join(sentences)


def _worst(healths: dict[str, Any], figure: str, title: str, pick: Any) -> str:
    """A figure's worst value and its layer; a NaN is worse than any number."""
    values = torch.stack([pick(getattr(health, figure)) for health in healths.values()])
    worst = pick(values)
    index = int((values.isnan() if worst.isnan() else values == worst).float().argmax())
    return f"{title} {values[index]:.4g} ({list(healths)[index]})"


def _checkpoint_folder(task: "SoftformerModule") -> Path:
    callback = task.trainer.checkpoint_callback
    folder = getattr(callback, "dirpath", None)
    return Path(folder) if folder else Path(task.trainer.default_root_dir) / "checkpoints"
