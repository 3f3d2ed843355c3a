"""What timm's users call on the network besides forward."""

from typing import Any

import pytest
import torch
from torch import nn

from softformer.models.vision.features import take_indices
from softformer.models.vision.network import SoftVisionTransformer

DIMS = (6, 10, 14, 22)


def _model(**options: Any) -> SoftVisionTransformer:
    torch.manual_seed(0)
    small: dict[str, Any] = {"img_size": 64, "num_classes": 7, "embed_dims": DIMS, "num_heads": (1, 2, 2, 2)}
    return SoftVisionTransformer(**{**small, **options}).eval()


X = torch.randn(2, 3, 64, 45)
GRIDS = ((16, 12), (8, 6), (4, 3), (2, 2))


@pytest.mark.parametrize("form", ["NCHW", "NHWC", "NLC"])
def test_intermediates_come_in_three_layouts(form: Any) -> None:
    model = _model()
    final, features = model.forward_intermediates(X, output_fmt=form)
    torch.testing.assert_close(final, model.forward_features(X))
    shapes = {
        "NCHW": [(2, dim, *grid) for dim, grid in zip(DIMS, GRIDS)],
        "NHWC": [(2, *grid, dim) for dim, grid in zip(DIMS, GRIDS)],
        "NLC": [(2, grid[0] * grid[1], dim) for dim, grid in zip(DIMS, GRIDS)],
    }
    assert [tuple(feature.shape) for feature in features] == shapes[form]
    for feature, planar in zip(features, model.forward_intermediates(X, intermediates_only=True)):
        rows = planar.permute(0, 2, 3, 1)
        assert torch.equal(feature, {"NCHW": planar, "NHWC": rows, "NLC": rows.flatten(1, 2)}[form])


def test_chosen_stages_alone() -> None:
    model = _model()
    every = model.forward_intermediates(X, intermediates_only=True)
    for indices, taken in {(0, 2): [0, 2], (-1,): [3], 2: [2, 3], None: [0, 1, 2, 3]}.items():
        features = model.forward_intermediates(X, indices=indices, intermediates_only=True)
        assert len(features) == len(taken)
        assert all(torch.equal(feature, every[stage]) for feature, stage in zip(features, taken))
    final, _ = model.forward_intermediates(X, indices=[1], stop_early=True)
    assert torch.equal(final, every[1])


def test_the_final_norm_is_for_the_last_stage() -> None:
    model = _model()
    plain = model.forward_intermediates(X, return_prefix_tokens=True, intermediates_only=True)
    normed = model.forward_intermediates(X, return_prefix_tokens=True, norm=True, intermediates_only=True)
    assert [prefix.shape[1] for _, prefix in plain] == [0, 0, 0, 1]
    assert torch.equal(plain[2][0], normed[2][0])
    torch.testing.assert_close(model.norm(plain[3][1]), normed[3][1])
    torch.testing.assert_close(normed[3][1][:, 0], model.forward_head(model.forward_features(X), pre_logits=True))


@pytest.mark.parametrize("indices", [[1], [0, 1], 2, [-1]])
@pytest.mark.parametrize("options", [{}, {"last_stage": "soft"}], ids=["softmax", "soft"])
def test_pruning_keeps_the_features(indices: Any, options: dict[str, Any]) -> None:
    model = _model(**options)
    expected = model.forward_intermediates(X, indices=indices, intermediates_only=True)
    taken = model.prune_intermediate_layers(indices, prune_norm=True)
    got = model.forward_intermediates(X, indices=taken, intermediates_only=True)
    assert all(torch.equal(one, other) for one, other in zip(got, expected))
    assert len(model.stages) == max(taken) + 1
    assert isinstance(model.norm, nn.Identity)
    assert isinstance(model.head, nn.Identity)
    assert model(X).shape[1] == DIMS[max(taken)]


def test_pruning_can_leave_norm_and_head() -> None:
    model = _model()
    logits = model(X)
    model.prune_intermediate_layers([3], prune_head=False)
    assert torch.equal(model(X), logits)


def test_heads_are_reset() -> None:
    model = _model().double()
    assert model.get_classifier() is model.head
    model.reset_classifier(5)
    assert model.head.weight.dtype == torch.float64
    assert model(X.double()).shape == (2, 5)
    assert model.num_classes == 5
    model.reset_classifier(0)
    assert model(X.double()).shape == (2, 22)
    assert model.global_pool == "token"
    model.reset_classifier(0, "")
    assert model(X.double()).shape == (2, 22, 2, 2)
    with pytest.raises(ValueError, match="needs num_classes=0, got 5; for classes use 'token' or 'avg'"):
        model.reset_classifier(5)
    model.reset_classifier(5, "avg")
    assert model(X.double()).shape == (2, 5)
    with pytest.raises(ValueError, match="global_pool must be one of"):
        model.reset_classifier(5, "max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs last_stage='softmax'"):
        _model(last_stage="soft").reset_classifier(5, "token")


def test_tokens_and_positions_do_not_decay() -> None:
    model = _model()
    expected = {f"stages.{stage}.pos_embed" for stage in range(4)} | {"stages.3.class_token", "stages.3.class_pos"}
    assert model.no_weight_decay() == expected
    assert expected < {name for name, _ in model.named_parameters()}


def test_feature_info_names_modules() -> None:
    model = _model(stem_stride=2)
    assert [info["reduction"] for info in model.feature_info] == [2, 4, 8, 16]
    assert [info["num_chs"] for info in model.feature_info] == list(DIMS)
    assert all(model.get_submodule(info["module"]) for info in model.feature_info)


def test_errors_name_the_argument() -> None:
    model = _model()
    with pytest.raises(ValueError, match="output_fmt must be one of 'NCHW', 'NHWC', 'NLC', got 'CHW'"):
        model.forward_intermediates(X, output_fmt="CHW")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"indices must be stages between 0 and 3, at least one, got \[4\]"):
        model.forward_intermediates(X, indices=[4])
    with pytest.raises(ValueError, match=r"at least one, got \[\]"):
        take_indices(4, [])
    with pytest.raises(ValueError, match="indices must be between 1 and 4 as a number of last stages, got 5"):
        take_indices(4, 5)
