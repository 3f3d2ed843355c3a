"""Who decays, at which rate each layer learns, and what an optimizer cannot be made of."""

import pytest
import timm
import torch
from torch import nn

from softformer.training.encoders import SoftVisionSpec
from softformer.training.optimizer import OptimizerSpec, parameter_groups


class Plain(nn.Module):
    """A user's network without timm's methods."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 5))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 5))
        self.scale = nn.Parameter(torch.zeros(5))
        self.linear = nn.Linear(5, 7)
        self.norm = nn.LayerNorm(7)


def decay_of(network: nn.Module, groups: list[dict[str, object]]) -> dict[str, float]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {names[parameter]: group["weight_decay"] for group in groups for parameter in group["params"]}  # type: ignore[attr-defined, misc]


def test_only_matrices_and_filters_decay() -> None:
    network = Plain()
    decay = decay_of(network, parameter_groups(network, 0.1, 0.3))
    assert {name for name, value in decay.items() if value} == {"linear.weight"}
    assert len(decay) == 7


class Elsewhere(nn.Module):
    """A network with the names that torchvision, open_clip and transformers use."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 3, 5))
        self.positional_embedding = nn.Parameter(torch.zeros(3, 5))
        self.position_embeddings = nn.Embedding(3, 5)
        self.word_embeddings = nn.Embedding(3, 5)
        self.pos_embed = nn.Linear(5, 7)  # computes something, so it is a matrix like others


def test_position_embeddings_of_other_libraries_do_not_decay() -> None:
    network = Elsewhere()
    decay = decay_of(network, parameter_groups(network, 0.1, 0.3))
    assert {name for name, value in decay.items() if value} == {"word_embeddings.weight", "pos_embed.weight"}


def test_a_network_lists_its_own_exceptions() -> None:
    network = SoftVisionSpec(img_size=32, embed_dims=[6, 10], depths=[1, 1], num_heads=[2, 1], stem_stride=2).build()
    decay = decay_of(network, parameter_groups(network, 0.1, 0.3))
    assert len(decay) == len(list(network.parameters()))
    exempt = {name for name, value in decay.items() if not value}
    assert {"stages.0.pos_embed", "stages.1.pos_embed", "stages.1.class_token", "head.bias", "norm.weight"} <= exempt
    assert all(dict(network.named_parameters())[name].ndim > 1 for name in decay if name not in exempt)


def test_layers_learn_slower_towards_the_input() -> None:
    network = timm.create_model("test_vit", num_classes=5)
    groups = parameter_groups(network, 0.1, 0.3, layer_decay=0.5)
    names = {parameter: name for name, parameter in network.named_parameters()}
    rates = {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}
    assert rates["head.weight"] == pytest.approx(0.1)
    assert rates["norm.weight"] == pytest.approx(0.05)
    blocks = [rates[f"blocks.{number}.attn.qkv.weight"] for number in range(len(network.blocks))]
    assert blocks == pytest.approx([0.05 * 0.5 ** (len(blocks) - 1 - number) for number in range(len(blocks))])
    assert rates["patch_embed.proj.weight"] == pytest.approx(blocks[0] / 2)
    optimizer = OptimizerSpec(lr=0.1, layer_decay=0.5).build(network)
    assert {group["lr"] for group in optimizer.param_groups} == set(rates.values())
    decay = decay_of(network, groups)
    assert not decay["pos_embed"]
    assert decay["head.weight"] == 0.3


def test_frozen_parameters_are_left_out() -> None:
    network = Plain()
    network.linear.requires_grad_(False)
    optimizer = OptimizerSpec().build(network)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 5


def test_options_reach_the_optimizer() -> None:
    optimizer = OptimizerSpec("adamw", lr=0.02, weight_decay=0.3, betas=(0.7, 0.8)).build(Plain())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.7, 0.8)}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.3}
    sgd = OptimizerSpec("sgd", momentum=0.6).build(Plain())
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["momentum"] == 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adamm"}, "optimizer.name must be one that .* lists, got 'adamm'. Nearest: adam"),
        ({"lr": 0.0}, r"optimizer.lr must be positive, got 0.0"),
        ({"weight_decay": -1.0}, r"optimizer.weight_decay must be zero or positive, got -1.0"),
        ({"name": "sgd", "betas": (0.9, 0.99)}, r"optimizer.betas is for .* got \(0.9, 0.99\) for sgd, which has none"),
        ({"name": "adan", "betas": (0.9, 0.99)}, r"for adan, which has 3; leave it out"),
        ({"layer_decay": 0.0}, r"optimizer.layer_decay must lie in \(0, 1\], got 0.0"),
    ],
)
def test_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerSpec(**options)  # type: ignore[arg-type]


def test_layer_decay_needs_layers() -> None:
    with pytest.raises(ValueError, match=r"layer_decay needs a network with timm's group_matcher, which Plain lacks"):
        OptimizerSpec(layer_decay=0.5).build(Plain())


def test_nothing_to_train() -> None:
    with pytest.raises(ValueError, match=r"no parameter that requires a gradient"):
        OptimizerSpec().build(Plain().requires_grad_(False))
