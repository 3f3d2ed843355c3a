"""The specs of this package build what they say, and say what they cannot build."""

import inspect
from typing import Any, get_args

import pytest
import timm
import torch

from softformer.layers import SoftAttention, SoftmaxAttention
from softformer.layers.landmarks import AdaptiveGridLandmarks, PooledGridLandmarks
from softformer.models.vision.network import SoftVisionTransformer
from softformer.ops import Cholesky, Newton
from softformer.training.encoders.vision import SoftVariant, SoftVisionSpec, TimmSpec

SMALL: dict[str, Any] = {
    "img_size": 32,
    "embed_dims": [6, 10],
    "depths": [1, 1],
    "num_heads": [2, 1],
    "stem_stride": 2,
    "stem_width": 3,
}


def build(**options: Any) -> SoftVisionTransformer:
    network = SoftVisionSpec(**{**SMALL, **options}).build()
    assert isinstance(network, SoftVisionTransformer)
    return network


def mixers(network: SoftVisionTransformer) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, SoftAttention | SoftmaxAttention)]


def test_every_option_of_the_network_has_an_argument() -> None:
    network = set(inspect.signature(SoftVisionTransformer).parameters) - {"num_classes", "device", "dtype"}
    assert set(inspect.signature(SoftVisionSpec).parameters) == network | {"name"}


def test_the_variants_are_those_that_timm_knows() -> None:
    assert sorted(get_args(SoftVariant)) == sorted(timm.list_models("soft_*"))


def test_options_left_out_are_those_of_the_variant() -> None:
    mixer = mixers(build(name="soft_norm_tiny"))[0]
    assert mixer.symmetric_norm
    assert mixer.inverse == Newton(20, ridge=0.0, start="halving", gradient="unrolled")
    assert mixers(build())[0].inverse == Newton()


def test_options_reach_the_attention() -> None:
    soft, last = mixers(build(inverse=Cholesky(0.3), symmetric_norm=True, backend="reference", value_kernels=[7]))
    assert (soft.inverse, soft.symmetric_norm, soft.backend) == (Cholesky(0.3), True, "reference")
    assert soft.value_conv.weight.shape[-1] == 7
    assert isinstance(last, SoftmaxAttention)
    assert all(isinstance(mixer, SoftmaxAttention) for mixer in mixers(build(attention="softmax")))
    assert all(isinstance(mixer, SoftAttention) for mixer in mixers(build(last_stage="soft")))
    assert isinstance(mixers(build(landmarks="pool"))[0].landmarks, PooledGridLandmarks)
    assert isinstance(mixers(build(landmarks="adaptive", num_landmarks=25))[0].landmarks, AdaptiveGridLandmarks)


def test_unknown_variant() -> None:
    with pytest.raises(ValueError, match=r"name must be one of 'soft_tiny', .*, got 'soft_tinny'"):
        SoftVisionSpec("soft_tinny").build()  # type: ignore[arg-type]


def test_timm_model() -> None:
    network = TimmSpec("test_vit", img_size=32, in_chans=2, drop_rate=0.1).build()
    assert network(torch.rand(3, 2, 32, 32)).shape == (3, 1000)
    assert TimmSpec("test_vit.r160_in1k", img_size=32).build().pretrained_cfg["tag"] == "r160_in1k"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TimmSpec("test_vitt"), "name must be a model of timm, got 'test_vitt'. Nearest: test_vit,.*soft_tiny"),
        (
            TimmSpec("resnet18.a1_in1kk"),
            r"got 'resnet18.a1_in1kk': resnet18 has no such tag. Valid: resnet18, resnet18.a1",
        ),
        (TimmSpec("resnet18.a1_in1kk", pretrained=True), "resnet18 has no such tag"),
        (TimmSpec("soft_tiny", pretrained=True), "timm has no weights for 'soft_tiny'; set pretrained to false"),
        (TimmSpec("resnet18", img_size=32), "'resnet18' does not take one of img_size"),
    ],
)
def test_what_timm_cannot_build(spec: TimmSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec.build()
