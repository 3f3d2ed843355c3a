"""The pyramid: its options, pictures of any size, what it refuses, and how it loads."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softformer.layers.attention import SoftAttention
from softformer.layers.block import DropPath
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.models.vision.network import SoftVisionTransformer
from softformer.models.vision.options import image_size, stage_grids
from softformer.models.vision.published_keys import published_shapes
from softformer.ops import Cholesky, Newton

SMALL: dict[str, Any] = {"embed_dims": (6, 10, 14, 22), "depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 2)}
TINY_PICTURES: dict[str, Any] = {
    "img_size": 28,
    "in_chans": 1,
    "embed_dims": (6, 14),
    "depths": (1, 1),
    "num_heads": (2, 2),
}


def _model(**options: Any) -> SoftVisionTransformer:
    torch.manual_seed(0)
    return SoftVisionTransformer(**{"img_size": 64, "num_classes": 7, **SMALL, **options})


def _mixers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, SoftAttention | SoftmaxAttention)]


OPTIONS: dict[str, dict[str, Any]] = {
    "published": {},
    "normalized": {
        "symmetric_norm": True,
        "inverse": Newton(20, ridge=0.0, start="halving", gradient="unrolled"),
    },
    "cholesky": {"inverse": Cholesky(0.1), "symmetric_norm": True},
    "pool": {"landmarks": "pool"},
    "adaptive": {"landmarks": "adaptive", "num_landmarks": 9},
    "soft to the end": {"last_stage": "soft"},
    "softmax": {"attention": "softmax"},
    "mean of tokens": {"global_pool": "avg"},
    "features": {"num_classes": 0},
    "no value convolution": {"value_kernels": (0, 0, 0)},
    "small strides": {"landmark_strides": (3, 2, 1), "stem_stride": 2, "stem_width": 5},
    "no bias": {"qkv_bias": False},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_parameter_of_every_option_learns(name: str) -> None:
    model = _model(**OPTIONS[name])
    out = model(torch.randn(2, 3, 45, 71))
    assert out.shape == (2, 22 if name == "features" else 7)
    out.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    idle = [key for key, parameter in model.named_parameters() if not parameter.grad.any()]
    # A bias before a BatchNorm does nothing in training.
    assert not [key for key in idle if "conv" not in key]


def test_options_reach_the_attention() -> None:
    def soft(**options: Any) -> SoftAttention:
        mixer = _mixers(_model(**options))[1]
        assert isinstance(mixer, SoftAttention)
        return mixer

    assert soft().inverse == Newton()
    assert not soft().symmetric_norm
    assert not soft().scale_by_length
    assert soft(inverse=Cholesky(0.1)).inverse == Cholesky(0.1)
    assert soft(symmetric_norm=True).symmetric_norm
    assert soft(backend="reference").backend == "reference"
    assert [repr(soft(landmarks=kind).landmarks) for kind in ("pool", "adaptive")] == [
        "PooledGridLandmarks(stride=4)",
        "AdaptiveGridLandmarks(num_landmarks=49)",
    ]
    assert all(isinstance(mixer, SoftAttention) for mixer in _mixers(_model(last_stage="soft")))
    assert all(isinstance(mixer, SoftmaxAttention) for mixer in _mixers(_model(attention="softmax")))
    assert [type(mixer) for mixer in _mixers(_model())] == [SoftAttention] * 4 + [SoftmaxAttention]


def test_the_number_of_landmarks_is_that_of_the_option() -> None:
    model = _model(landmarks="adaptive", num_landmarks=9)
    for side in (64, 97):
        mixer = _mixers(model)[0]
        tokens = torch.randn(1, (-(-side // 4)) ** 2, 6)
        inputs, _ = mixer._inputs(tokens, None, None, None, (-(-side // 4), -(-side // 4)))
        assert inputs["landmarks"].shape[2] == 9


def test_default_strides_give_every_stage_the_same_landmarks() -> None:
    model = SoftVisionTransformer(device="meta")
    assert [mixer.landmarks.stride for mixer in _mixers(model)[:6]] == [8, 4, 4, 2, 2, 2]
    assert [mixer.value_conv.weight.shape[-1] for mixer in _mixers(model)[:6]] == [9, 5, 5, 3, 3, 3]
    soft = SoftVisionTransformer(last_stage="soft", device="meta")
    assert [mixer.landmarks.stride for mixer in _mixers(soft)[-2:]] == [1, 1]
    small = SoftVisionTransformer(**TINY_PICTURES, stem_stride=2, device="meta")
    assert [mixer.landmarks.stride for mixer in _mixers(small)[:1]] == [2]


@pytest.mark.parametrize("size", [(29, 29), (33, 95), (64, 64), (227, 31)])
def test_sides_need_not_be_multiples_of_the_stride(size: tuple[int, int]) -> None:
    model = _model().eval()
    grids = [(-(-size[0] // step), -(-size[1] // step)) for step in (4, 8, 16, 32)]
    assert stage_grids(size, 4, 4) == grids
    features = model.forward_intermediates(torch.randn(1, 3, *size), intermediates_only=True)
    assert [tuple(feature.shape[2:]) for feature in features] == grids


@pytest.mark.parametrize(("stem_stride", "side"), [(4, 28), (2, 14), (1, 7)])
def test_pictures_too_small_for_the_landmarks(stem_stride: int, side: int) -> None:
    model = _model(stem_stride=stem_stride).eval()
    message = (
        rf"x must be at least {side + 1} pixels a side, got 90 x {side}: .*landmark_strides or landmarks='adaptive'"
    )
    with pytest.raises(ValueError, match=message):
        model(torch.randn(1, 3, 90, side))
    assert model(torch.randn(1, 3, 90, side + 1)).isfinite().all()
    with pytest.raises(ValueError, match=rf"img_size must be at least {side + 1} pixels a side, got {side} x {side}"):
        _model(stem_stride=stem_stride, img_size=side)
    assert _model(stem_stride=stem_stride, img_size=side, landmarks="adaptive")(torch.randn(2, 3, 5, 3)).shape == (2, 7)


def test_small_pictures_of_one_channel() -> None:
    model = SoftVisionTransformer(num_classes=3, stem_stride=2, inverse=Cholesky(), **TINY_PICTURES)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 3)
    assert [tuple(stage.pos_embed.shape[1:3]) for stage in model.stages] == [(14, 14), (7, 7)]


def test_the_class_token_is_the_mean_of_the_feature_map() -> None:
    model, x = _model().eval().double(), torch.randn(2, 3, 64, 45, dtype=torch.float64)
    features = model.forward_features(x)
    assert features.shape == (2, 22, 2, 2)
    tokens, grid = model._encode(x)
    torch.testing.assert_close(features.mean((2, 3)), tokens[:, 0])
    torch.testing.assert_close(model.forward_head(features), model(x))
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), tokens[:, 0])
    patches = tokens[:, 1:].mT.unflatten(-1, grid)
    torch.testing.assert_close(
        features - features.mean((2, 3), keepdim=True), patches - patches.mean((2, 3), keepdim=True)
    )
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(x), patches)
    model.reset_classifier(0, "avg")
    torch.testing.assert_close(model(x), patches.mean((2, 3)))


def test_dropping_is_elementwise_as_published_or_whole_paths() -> None:
    for kind, module in {"element": nn.Dropout, "path": DropPath}.items():
        model = _model(drop_path_rate=0.5, block_drop=kind)
        rates = [[block.drop1 for block in stage.blocks] for stage in model.stages]
        assert all(isinstance(drop, module) for stage in rates[:3] for drop in stage)
        assert isinstance(rates[3][0], DropPath)
        assert rates[3][0].rate == 0.5
    model = _model(drop_rate=0.5, pos_drop_rate=0.3, proj_drop_rate=0.2)
    assert (model.head_drop.p, model.stages[1].pos_drop.p, _mixers(model)[0].proj_drop.p) == (0.5, 0.3, 0.2)


def test_checkpointing_changes_nothing() -> None:
    model, x = _model(drop_path_rate=0.2).train(), torch.randn(2, 3, 64, 64)
    grads = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        torch.manual_seed(3)
        model(x).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, again in zip(*grads):
        torch.testing.assert_close(plain, again)


def test_other_image_sizes_and_the_authors_layout_load() -> None:
    model, x = _model(img_size=64).eval(), torch.randn(2, 3, 64, 96)
    other = _model(img_size=(64, 96)).eval()
    nn.init.normal_(other.stages[3].class_pos)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), model(x))
    keys = published_shapes({name: tuple(value.shape) for name, value in model.state_dict().items()})
    published = {key: torch.rand(shape) for key, shape in keys.items()}
    holder = nn.ModuleDict({"network": other})
    holder.load_state_dict({f"network.{key}": value for key, value in published.items()})
    model.load_state_dict(published)
    torch.testing.assert_close(other(x), model(x))
    torch.testing.assert_close(model.stages[3].class_pos[0], published["pos_embed4"][0, :1])
    published["block1.9.x"] = published.pop("block1.0.att.norm1.weight")
    with pytest.raises(
        RuntimeError, match=r'(?s)Missing key.*"stages.0.blocks.0.norm1.weight".*Unexpected.*"block1.9.x"'
    ):
        model.load_state_dict(published)


def test_meta_and_types() -> None:
    model = SoftVisionTransformer(**SMALL, img_size=64, num_classes=7, device="meta", dtype=torch.float64)
    assert {(value.device.type, value.dtype) for value in model.parameters()} == {("meta", torch.float64)}
    model.to_empty(device="cpu").init_weights()
    out = model(torch.randn(2, 3, 64, 64, dtype=torch.float64))
    assert out.dtype == torch.float64
    assert out.isfinite().all()
    for values in (model.parameters(), model.buffers()):
        assert all(value.isfinite().all() for value in values)
    half = SoftVisionTransformer(**SMALL, img_size=64, num_classes=7, dtype=torch.bfloat16).eval()
    assert half(torch.randn(2, 3, 64, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype: torch.dtype) -> None:
    model, x = _model(inverse=Cholesky(), symmetric_norm=True), torch.randn(2, 3, 64, 45)
    with torch.autocast("cpu", dtype=dtype):
        out = model(x)
    out.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        half = model(x)
    torch.testing.assert_close(half.float(), model(x), rtol=0.1, atol=0.05)


def test_copies_are_the_same_network() -> None:
    model, x = _model().eval(), torch.randn(1, 3, 64, 64)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_export_takes_any_batch_and_size() -> None:
    model = _model(embed_dims=(6, 14), depths=(1, 1), num_heads=(2, 2)).eval()
    sides = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    program = torch.export.export(model, (torch.randn(2, 3, 99, 113),), dynamic_shapes=(sides,)).module()
    for shape in ((3, 3, 64, 64), (5, 3, 45, 71), (1, 3, 99, 113)):
        x = torch.randn(shape)
        torch.testing.assert_close(program(x), model(x))


def test_compiles_as_one_graph() -> None:
    model = _model(embed_dims=(6, 14), depths=(1, 1), num_heads=(2, 2)).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 64, 64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    got = torch.autograd.grad(compiled(x).square().sum(), list(model.parameters()))
    for one, other in zip(got, expected):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "deviation"), [("published", 0.02), ("xavier", (2 / (96 + 384)) ** 0.5)])
def test_weight_init(kind: str, deviation: float) -> None:
    model = _model(embed_dims=(96, 96), depths=(1, 1), num_heads=(2, 2), weight_init=kind)
    for number in (0, 1):
        weight = model.get_submodule(f"stages.{number}.blocks.0.mlp.fc1").weight
        assert weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.2)


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "attention": ({"attention": "linear"}, "attention must be one of 'soft', 'softmax', got 'linear'"),
    "landmarks": ({"landmarks": "max"}, "landmarks must be one of 'conv', 'pool', 'adaptive', got 'max'"),
    "last_stage": ({"last_stage": "none"}, "last_stage must be one of 'softmax', 'soft', got 'none'"),
    "weight_init": ({"weight_init": "he"}, "weight_init must be one of 'published', 'xavier', got 'he'"),
    "block_drop": ({"block_drop": "all"}, "block_drop must be one of 'path', 'element', got 'all'"),
    "global_pool": ({"global_pool": "max"}, "global_pool must be one of 'token', 'avg', '', got 'max'"),
    "stem_stride": ({"stem_stride": 3}, "stem_stride must be one of 4, 2, 1, got 3"),
    "stem_width": ({"stem_width": 0}, "stem_width must be integers of at least 1"),
    "inverse": ({"inverse": "newton"}, "inverse must be a Newton"),
    "lengths": ({"depths": (1, 2)}, "depths must have 4 values, one a stage as embed_dims has, got 2"),
    "strides": ({"landmark_strides": (4, 2)}, "landmark_strides must have 3 values, one a SOFT stage, got 2"),
    "kernels": ({"value_kernels": (9, 4, 3)}, r"value_kernels must be odd, or 0 for none, got \(9, 4, 3\)"),
    "depths": ({"depths": (1, 0, 1, 1)}, r"depths must be integers of at least 1, got \(1, 0, 1, 1\)"),
    "no stage": ({"embed_dims": ()}, "embed_dims must have a width for each stage, got none"),
    "heads": ({"num_heads": (4, 2, 2, 2)}, "num_heads must divide embed_dims"),
    "adaptive": ({"num_landmarks": 25}, "num_landmarks=25 needs landmarks='adaptive', got landmarks='conv'"),
    "square": ({"num_landmarks": 26, "landmarks": "adaptive"}, "num_landmarks must be a square number"),
    "softmax inverse": (
        {"attention": "softmax", "inverse": Cholesky(), "symmetric_norm": True},
        r"attention='softmax' has no use for inverse=Cholesky\(ridge=0.01\), symmetric_norm=True; leave",
    ),
    "softmax to the end": ({"attention": "softmax", "last_stage": "soft"}, "no use for last_stage='soft'"),
    "no class token": (
        {"last_stage": "soft", "global_pool": "token"},
        "global_pool='token' needs last_stage='softmax'",
    ),
    "unpooled": ({"global_pool": ""}, "global_pool='' gives unpooled features and needs num_classes=0, got 7"),
    "adaptive strides": (
        {"landmarks": "adaptive", "landmark_strides": (8, 4, 2)},
        "landmark_strides need landmarks='conv' or 'pool'",
    ),
    "softmax strides": ({"attention": "softmax", "landmark_strides": (8, 4, 2)}, "no use for landmark_strides="),
    "softmax backend": ({"attention": "softmax", "backend": "eager"}, "no use for backend='eager'"),
    "soft biases": ({"last_stage": "soft", "qkv_bias": False}, "qkv_bias=False needs last_stage='softmax'"),
    "backend": ({"backend": "tirton"}, "backend must be one of 'auto', 'reference', 'eager', 'triton', got 'tirton'"),
    "channels": ({"in_chans": 0}, r"in_chans must be integers of at least 1, got \(0,\)"),
    "classes": ({"num_classes": -3}, "num_classes must be a number of classes, or 0 for features, got -3"),
    "mlp": ({"mlp_ratio": -1.0}, "mlp_ratio must be above 0, got -1.0"),
    "one mlp": ({"mlp_ratio": (4, 4, 0, 4)}, r"mlp_ratio must be above 0, got \(4, 4, 0, 4\)"),
    "dropout": ({"drop_rate": 1.5}, r"drop_rate must be in \[0, 1\), got 1.5"),
    "position dropout": ({"pos_drop_rate": -0.1}, r"pos_drop_rate must be in \[0, 1\), got -0.1"),
    "output dropout": ({"proj_drop_rate": 1.0}, r"proj_drop_rate must be in \[0, 1\), got 1.0"),
    "drop path": ({"drop_path_rate": 1.0}, r"^drop_path_rate must be in \[0, 1\), got 1.0"),
    "size": ({"img_size": (64, 64, 3)}, r"img_size must be a side or \(height, width\), got \(64, 64, 3\)"),
    "negative size": ({"img_size": -1}, "img_size must be integers of at least 1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_option(name: str) -> None:
    options, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        _model(**options)


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (3, 64, 64)])
def test_errors_name_the_input(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 3, height, width\), got"):
        _model()(torch.randn(shape))


def test_a_side_stands_for_both() -> None:
    assert image_size(37) == (37, 37)
    assert image_size([37, 41]) == (37, 41)


def _names(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def test_published_parameter_counts() -> None:
    counts = {(1, 2, 3, 2): 13.07, (1, 3, 7, 4): 24.11}
    for depths, millions in counts.items():
        model = SoftVisionTransformer(depths=depths, device="meta")
        assert round(_names(list(model.parameters())) / 1e6, 2) == millions
