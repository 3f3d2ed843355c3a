"""A loss that is not a number ends the run with a checkpoint and with figures."""

from pathlib import Path

import pytest
import torch
from tiny_images import TinyImages
from torch import Tensor, nn
from training_runs import SOFT, VIT, classifier, quiet_trainer

from softformer.layers import SoftAttention
from softformer.training.checkpoints.loading import load
from softformer.training.divergence import DivergedError, describe_health
from softformer.training.encoders import EncoderSpec


@pytest.mark.parametrize("encoder", [SOFT, VIT], ids=["soft", "vit"])
def test_the_run_stops_at_the_step(tmp_path: Path, encoder: EncoderSpec) -> None:
    task = classifier(encoder)
    trainer = quiet_trainer(tmp_path)
    with pytest.raises(DivergedError) as caught:
        trainer.fit(task, datamodule=TinyImages(broken_step=2))
    message = str(caught.value)
    path = tmp_path / "checkpoints" / "diverged.ckpt"
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    assert f"the loss is nan at step 2 (epoch 0) with learning rate {rate:.3g}" in message
    assert str(path) in message
    if encoder is SOFT:
        assert "largest spectral norm of the attention nan (stages.0.blocks.0.mixer)" in message
        assert "The input of stages.0.blocks.0.mixer is already not finite." in message
    else:
        assert "The network has no SOFT attention to measure." in message
    stored = dict(load(path).named_parameters())
    assert all(torch.equal(value, stored[name]) for name, value in task.named_parameters())


def test_an_infinite_loss_and_broken_weights_are_told(tmp_path: Path) -> None:
    task = classifier(SOFT)
    with torch.no_grad():
        task.network.head.bias[0] = -torch.inf
    with pytest.raises(DivergedError, match=r"the loss is inf at step \d.* 1 parameters are not finite.* head.bias"):
        quiet_trainer(tmp_path).fit(task, datamodule=TinyImages())


def test_health_of_a_working_network() -> None:
    task = classifier(SOFT)
    task.log = lambda *args, **kwargs: None  # type: ignore[assignment, method-assign]
    batch: dict[str, Tensor] = {"image": torch.rand(5, 3, 32, 32), "label": torch.arange(5)}
    text = describe_health(task.network, lambda: task.step(batch, "train"))
    assert "nan" not in text
    for figure in ("spectral norm of the attention", "spectral norm of A+", "|A X - I|", "effective rank of A"):
        assert figure in text
    assert not any(module._forward_pre_hooks for module in task.network.modules())


class Sequences(nn.Module):
    """Two layers of attention, the second on tokens that all but coincide."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = SoftAttention(10, 2), SoftAttention(10, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.second(0.1 * self.first(x, mask), mask)


def test_padding_is_not_to_blame() -> None:
    """A sample of pads alone has no effective rank, and what stands in pads reaches nothing."""
    network = Sequences()
    x, mask = 3 * torch.randn(3, 17, 10), torch.ones(3, 17, dtype=torch.bool)
    expected = describe_health(network, lambda: network(x, mask))
    assert "smallest effective rank of A" in expected
    assert "(second)" in expected.partition("smallest")[2]
    padded = {"x": torch.cat([x, torch.full((1, 17, 10), torch.nan)]), "mask": torch.cat([mask, ~mask[:1]])}
    assert describe_health(network, lambda: network(**padded)) == expected
