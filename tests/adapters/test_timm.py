"""The variants as timm models: names, arguments, saving and loading, features, parameter groups."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import resolve_model_data_config
from timm.models import save_for_hf
from timm.optim import create_optimizer_v2, param_groups_layer_decay

from softformer.adapters.timm import checkpoint_filter_fn, default_cfgs
from softformer.layers.attention import SoftAttention
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.models.vision.network import SoftVisionTransformer
from softformer.models.vision.published import from_published
from softformer.models.vision.published_keys import published_shapes
from softformer.ops import Cholesky, Newton
from tests.support.outputs import assert_same_outputs

SIZES = {"tiny": 13.07, "small": 24.11, "medium": 45.81, "large": 64.70, "huge": 87.11}
SMALL: dict[str, Any] = {
    "embed_dims": (6, 10, 14, 22),
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 2, 2, 2),
    "img_size": 64,
    "num_classes": 7,
}
X = torch.randn(2, 3, 64, 45)


def _create(**options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model("soft_tiny", **{**SMALL, **options}).eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", ["soft", "soft_norm"])
def test_the_ten_variants(family: str, size: str) -> None:
    model = timm.create_model(f"{family}_{size}", device="meta")
    assert isinstance(model, SoftVisionTransformer)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == SIZES[size]
    mixer = next(module for module in model.modules() if isinstance(module, SoftAttention))
    unrolled = Newton(20, ridge=0.0, start="halving", gradient="unrolled")
    assert mixer.symmetric_norm == (family == "soft_norm")
    assert mixer.inverse == (unrolled if family == "soft_norm" else Newton(20, ridge=0.01))


def test_names_are_listed() -> None:
    names = {f"{family}_{size}" for family in ("soft", "soft_norm") for size in SIZES}
    assert set(timm.list_models("soft_*")) == names == set(default_cfgs)
    with pytest.raises(RuntimeError, match="No pretrained weights exist for soft_tiny"):
        _create(pretrained=True)


def test_settings_are_those_of_imagenet() -> None:
    settings = resolve_model_data_config(_create(img_size=224))
    assert settings["input_size"] == (3, 224, 224)
    assert settings["mean"] == (0.485, 0.456, 0.406)
    assert settings["std"] == (0.229, 0.224, 0.225)
    assert (settings["interpolation"], settings["crop_pct"]) == ("bicubic", 0.9)


def test_what_timms_own_tests_ask() -> None:
    """The map of `forward_features` has the size of the settings, whatever pools it; names in the settings exist."""
    model = _create(img_size=224)
    settings, x = model.default_cfg, torch.randn(1, 3, 224, 224)
    features = model.forward_features(x)
    assert features.shape == (1, model.num_features, *settings["pool_size"])
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (1, model.head_hidden_size)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), pooled)
    model.reset_classifier(0, "")
    assert model(x).shape == features.shape
    assert _create(num_classes=0, global_pool="")(x).shape == features.shape
    assert {f"{settings[name]}.weight" for name in ("first_conv", "classifier")} < set(_create().state_dict())


@pytest.mark.parametrize("name", ["soft_tiny", "soft_norm_tiny"])
def test_attention_options_by_name(name: str) -> None:
    def mixers(**options: Any) -> list[Any]:
        model = timm.create_model(name, **{**SMALL, **options})
        return [module for module in model.modules() if isinstance(module, SoftAttention | SoftmaxAttention)]

    assert {type(mixer) for mixer in mixers(attention="softmax")} == {SoftmaxAttention}
    assert mixers(inverse=Cholesky(0.1))[0].inverse == Cholesky(0.1)
    assert mixers(backend="reference")[0].backend == "reference"
    assert mixers(symmetric_norm=name == "soft_tiny")[0].symmetric_norm == (name == "soft_tiny")
    with pytest.raises(TypeError, match="landmark_stride"):
        mixers(landmark_stride=3)
    with pytest.raises(ValueError, match="attention must be one of"):
        mixers(attention="linear")


SAVED: dict[str, dict[str, Any]] = {
    "published": {},
    "cholesky": {"inverse": Cholesky(0.3), "symmetric_norm": True},
    "newton": {"inverse": Newton(7, start="halving", gradient="unrolled")},
    "softmax": {"attention": "softmax"},
    "pooled": {"landmarks": "adaptive", "num_landmarks": 9, "global_pool": "avg"},
    "grey": {"in_chans": 1},
}


@pytest.mark.parametrize("name", SAVED)
def test_saved_to_a_folder_and_back(tmp_path: Path, name: str) -> None:
    model = _create(**SAVED[name])
    save_for_hf(model, tmp_path, safe_serialization=True)
    assert (tmp_path / "model.safetensors").is_file()
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = X[:, : model.in_chans]
    assert_same_outputs(again(x), model(x))
    assert again.global_pool == model.global_pool
    if name == "cholesky":
        record = json.loads((tmp_path / "config.json").read_text())["model_args"]["inverse"]
        assert record == {"class_path": "Cholesky", "init_args": {"ridge": 0.3}}


def test_folders_load_into_other_shapes(tmp_path: Path) -> None:
    model = _create()
    save_for_hf(model, tmp_path, safe_serialization=True)
    grey = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=1, num_classes=3, img_size=96).eval()
    assert grey(torch.randn(1, 1, 96, 96)).shape == (1, 3)
    assert grey.stages[0].pos_embed.shape == (1, 24, 24, 6)
    assert torch.equal(grey.stages[3].class_pos, model.stages[3].class_pos)
    features = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, features_only=True).eval()
    expected = model.forward_intermediates(X, intermediates_only=True)
    for one, other in zip(features(X), expected, strict=True):
        assert_same_outputs(one, other)


def test_an_unknown_inverse_in_a_folder() -> None:
    with pytest.raises(ValueError, match="inverse must name one of Newton, Cholesky as its class_path, got"):
        _create(inverse={"class_path": "LU"})


@pytest.mark.parametrize("how", ["checkpoint_path", "overlay"])
def test_files_of_the_authors_layout(tmp_path: Path, how: str) -> None:
    shapes = {name: tuple(value.shape) for name, value in _create().state_dict().items()}
    published = {key: torch.rand(shape) for key, shape in published_shapes(shapes).items()}
    path = tmp_path / "published.safetensors"
    save_file(published, path)
    where: dict[str, Any] = {"checkpoint_path": str(path)}
    if how == "overlay":
        where = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path), "num_classes": 7}}
    expected = from_published(published, img_size=96).state_dict()
    loaded = _create(**where, img_size=96, num_heads=(1, 2, 2, 2)).state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[key], expected[key]) for key in loaded)


def test_the_filter_leaves_our_own_names_alone() -> None:
    model = _create()
    assert list(checkpoint_filter_fn(model.state_dict(), model)) == list(model.state_dict())


def test_features_only() -> None:
    model = timm.create_model("soft_tiny", features_only=True, out_indices=(1, -1), **{**SMALL, "num_classes": 0})
    assert model.feature_info.channels() == [10, 22]
    assert model.feature_info.reduction() == [8, 32]
    assert [tuple(feature.shape) for feature in model(X)] == [(2, 10, 8, 6), (2, 22, 2, 2)]
    two = timm.create_model(
        "soft_tiny", features_only=True, embed_dims=(6, 14), depths=(1, 1), num_heads=(2, 2), stem_stride=2
    )
    assert two.feature_info.reduction() == [2, 4]
    assert [tuple(feature.shape) for feature in two(X)] == [(2, 6, 32, 23), (2, 14, 16, 12)]


def test_positions_and_norms_do_not_decay() -> None:
    model = _create()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    rest = set(names.values()) - decay
    assert model.no_weight_decay() <= rest
    assert all(dict(model.named_parameters())[name].ndim == 1 for name in rest - model.no_weight_decay())
    assert "stages.0.blocks.0.mixer.landmarks.weight" in decay


def test_layers_learn_slower_towards_the_input() -> None:
    model = _create()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {
        names[id(parameter)]: group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.5)
        for parameter in group["params"]
    }
    assert set(scales) == set(names.values())
    order = ["stem.conv1.weight", *[f"stages.{stage}.blocks.0.mlp.fc1.weight" for stage in range(4)], "head.weight"]
    assert [scales[name] for name in order] == sorted({scales[name] for name in order})
    assert scales["head.weight"] == 1.0
    assert scales["stages.2.pos_embed"] == scales["stages.2.downsample.conv.weight"] == scales[order[3]]
