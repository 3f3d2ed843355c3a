"""Reading the authors' checkpoints: layouts, wrappers, files, and what is refused."""

import argparse
import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config
from timm.models import save_for_hf
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from softformer.models.vision.network import SoftVisionTransformer
from softformer.models.vision.published import from_published
from softformer.models.vision.published_keys import is_published, our_key, published_shapes
from tests.support.outputs import assert_same_outputs

NAME = "soft_small_cfg.weights.safetensors"
DEPTHS = {"tiny": (1, 2, 3, 2), "small": (1, 3, 20, 4), "medium": (1, 3, 29, 5), "large": (1, 3, 40, 5)}
DEPTHS["huge"] = (1, 5, 49, 5)
MILLIONS = {"tiny": 13.07, "small": 38.86, "medium": 45.81, "large": 64.70, "huge": 87.11}


def _published(**options: Any) -> dict[str, Tensor]:
    """A state dict of the authors' layout with small random weights."""
    model = SoftVisionTransformer(**options, device="meta")
    shapes = published_shapes({name: tuple(value.shape) for name, value in model.state_dict().items()})
    return {
        key: torch.ones(shape) if key.endswith("running_var") else torch.randn(shape) * 0.1
        for key, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return _published(
        img_size=64, num_classes=7, embed_dims=(10, 20, 30, 40), depths=(1, 2, 1, 2), num_heads=(2, 4, 6, 8)
    )


@pytest.fixture
def picture() -> Tensor:
    return torch.randn(2, 3, 45, 64)


@pytest.mark.parametrize("size", DEPTHS)
def test_key_lists_of_all_variants(shared: Path, size: str) -> None:
    shapes = json.loads((shared / "golden" / "published_state_dicts.json").read_text())[f"soft_{size}"]
    state_dict = {key: torch.zeros(shape) for key, shape in shapes.items()}
    for symmetric_norm in (False, True):
        model = from_published(state_dict, symmetric_norm=symmetric_norm)
        assert tuple(len(stage.blocks) for stage in model.stages) == DEPTHS[size]
        assert {
            stage.blocks[0].mixer.query.in_features // stage.blocks[0].mixer.num_heads for stage in model.stages
        } == {32}
        assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == MILLIONS[size]
        assert model.stages[0].blocks[0].mixer.symmetric_norm == symmetric_norm


def test_the_two_names_of_a_key_agree(shared: Path) -> None:
    """Every published key has one name of ours, and none is lost on the way back."""
    published = load_file(shared / "golden" / NAME)
    model = from_published(published)
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert set(published_shapes(ours)) == set(published)
    assert {our_key(key) for key in published} | {"stages.3.class_pos"} == set(ours)
    assert not is_published(model.state_dict())


def test_everything_is_read_off_the_keys(weights: dict[str, Tensor], picture: Tensor) -> None:
    model = from_published(weights, img_size=64)
    assert not model.training
    assert model.num_classes == 7
    assert model.head_hidden_size == 40
    assert [stage.blocks[0].mixer.num_heads for stage in model.stages] == [2, 4, 6, 8]
    assert model(picture).shape == (2, 7)
    odd = _published(
        img_size=64,
        in_chans=5,
        num_classes=0,
        embed_dims=(6, 12, 18, 24),
        depths=(2, 1, 1, 1),
        num_heads=(1, 2, 3, 4),
        mlp_ratio=(4, 4, 4, 2.5),
        landmark_strides=(4, 2, 1),
        value_kernels=(3, 7, 5),
        stem_width=11,
        qkv_bias=False,
    )
    model = from_published(odd, img_size=32)
    assert model(torch.randn(1, 5, 32, 32)).shape == (1, 24)
    assert model.stages[3].blocks[0].mlp.fc1.out_features == 60
    assert model.stages[3].blocks[0].mixer.query.bias is None
    assert [stage.blocks[0].mixer.landmarks.stride for stage in model.stages[:3]] == [4, 2, 1]
    assert [stage.blocks[0].mixer.value_conv.weight.shape[-1] for stage in model.stages[:3]] == [3, 7, 5]
    bare = from_published(
        _published(img_size=64, embed_dims=(6, 12, 18, 24), num_heads=(1, 2, 3, 4), value_kernels=[0] * 3)
    )
    assert bare.stages[0].blocks[0].mixer.value_conv is None


def test_the_normalized_model_has_its_inverse(weights: dict[str, Tensor]) -> None:
    mixer = from_published(weights, symmetric_norm=True).stages[1].blocks[0].mixer
    assert repr(mixer.inverse) == "Newton(gradient='unrolled', iterations=20, ridge=0.0, start='halving')"
    assert mixer.symmetric_norm


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_ema", "state_dict_ema"])
def test_wrapped_and_prefixed(weights: dict[str, Tensor], picture: Tensor, wrapper: str) -> None:
    wrapped = {wrapper: OrderedDict((f"module.{key}", value) for key, value in weights.items()), "epoch": 3}
    plain = from_published(weights, img_size=64)
    assert_same_outputs(from_published(wrapped, img_size=64)(picture), plain(picture))
    compiled = {f"_orig_mod.module.{key}": value for key, value in weights.items()}
    assert_same_outputs(from_published(compiled, img_size=64)(picture), plain(picture))


@pytest.mark.parametrize("inside", [None, "model_ema"])
def test_averages_of_torch(weights: dict[str, Tensor], picture: Tensor, inside: str | None) -> None:
    """AveragedModel counts its updates beside the module's tensors."""
    plain = from_published(weights, img_size=64)
    published = torch.nn.Module()
    for key, value in weights.items():
        published.register_buffer(key.replace(".", "__"), value)
    averaged = AveragedModel(published).state_dict()
    assert "n_averaged" in averaged
    state_dict = {key.replace("__", "."): value for key, value in averaged.items()}
    model = from_published(state_dict if inside is None else {inside: state_dict}, img_size=64)
    assert_same_outputs(model(picture), plain(picture))


def test_timm_evaluates_and_saves_it(tmp_path: Path, weights: dict[str, Tensor], picture: Tensor) -> None:
    for norm in (False, True):
        model = from_published(weights, img_size=64, symmetric_norm=norm)
        settings = resolve_model_data_config(model)
        assert (settings["crop_pct"], settings["interpolation"]) == (0.9, "bicubic")
        assert settings["input_size"] == (3, 64, 64)
        save_for_hf(model, tmp_path / str(norm), safe_serialization=True)
        again = timm.create_model(f"local-dir:{tmp_path / str(norm)}", pretrained=True).eval()
        assert_same_outputs(again(picture), model(picture))


def test_the_weights_come_before_their_average(weights: dict[str, Tensor], picture: Tensor) -> None:
    averaged = {key: torch.zeros_like(value) for key, value in weights.items()}
    model = from_published({"model_ema": averaged, "model": weights}, img_size=64)
    assert_same_outputs(model(picture), from_published(weights, img_size=64)(picture))


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors", "w.pth.tar"])
def test_files(tmp_path: Path, weights: dict[str, Tensor], picture: Tensor, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights, "args": argparse.Namespace(lr=0.1), "epoch": 7}, path)
    expected = from_published(weights, img_size=64)(picture)
    assert_same_outputs(from_published(path, img_size=64)(picture), expected)
    assert_same_outputs(from_published(str(path), img_size=64)(picture), expected)


def test_an_old_file_without_zip(tmp_path: Path, weights: dict[str, Tensor], picture: Tensor) -> None:
    torch.save(weights, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    expected = from_published(weights, img_size=64)(picture)
    assert_same_outputs(from_published(tmp_path / "w.pth", img_size=64)(picture), expected)


def test_half_precision_files_give_float32(weights: dict[str, Tensor]) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    model = from_published(half, img_size=96)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(
        model.stages[0].pos_embed, from_published(weights, img_size=96).stages[0].pos_embed, rtol=2e-3, atol=1e-3
    )


def test_the_weights_are_copies(weights: dict[str, Tensor]) -> None:
    model = from_published(weights)
    before = weights["head.weight"].clone()
    with torch.no_grad():
        model.head.weight.zero_()
    assert torch.equal(weights["head.weight"], before)


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_executed(tmp_path: Path, weights: dict[str, Tensor], zipped: bool) -> None:
    path, target = tmp_path / "w.pth", tmp_path / "executed"
    torch.save({"model": weights, "extra": _Bomb(target)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"holds Python objects besides tensors \(.*mkdir\).* can\s+execute code"):
        from_published(path)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02garbage", b"PK\x03\x04broken", bytes(999)])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_unreadable_files(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is not a readable"):
        from_published(path)


def test_a_truncated_file(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    for path in (tmp_path / "w.pth", tmp_path / "w.safetensors"):
        torch.save(weights, path) if path.suffix == ".pth" else save_file(weights, path)
        path.write_bytes(path.read_bytes()[:20000])
        with pytest.raises(ValueError, match=r"is not a readable"):
            from_published(path)


def test_other_things_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file of weights at .*absent\.pth"):
        from_published(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError, match=r"the folder .* has none of model.safetensors, pytorch_model.bin"):
        from_published(tmp_path)
    with pytest.raises(ValueError, match="must be a mapping or a path, got list; for a module pass its state_dict"):
        from_published([weights])  # type: ignore[arg-type]
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth is not a file of weights: it must hold a dictionary, got list"):
        from_published(tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"not of the authors' layout: expected keys such as .*, got none"):
        from_published({})
    with pytest.raises(ValueError, match=r"got conv1\.weight; weights saved from softformer load with load_state_dict"):
        from_published({"conv1.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="must hold tensors only, got something else at extra"):
        from_published({**weights, "extra": 3})


# Keys whose absence must not be taken for another architecture.
_TELLING = (
    "pos_embed1",
    "pos_embed4",
    "cls_token",
    "patch_embed1.proj.0.weight",
    "patch_embed1.proj.6.weight",
    "patch_embed3.proj.0.weight",
    "patch_embed3.proj.1.num_batches_tracked",
    "block1.0.att.mha.attn.Qlandmark_op.weight",
    "block1.0.att.mha.attn.conv.weight",
    "block2.1.att.ff1.weight",
    "block2.0.att.mha.W_q.weight",
    "block4.0.attn.q.bias",
    "block4.1.mlp.fc1.weight",
    "norm.weight",
    "head.weight",
    "head.bias",
)


@pytest.mark.parametrize("key", _TELLING)
def test_missing_keys_are_listed(weights: dict[str, Tensor], key: str) -> None:
    rest = {name: value for name, value in weights.items() if name != key}
    with pytest.raises(ValueError, match=rf"missing: (.*, )?{key}($|,|;)"):
        from_published(rest)


@pytest.mark.parametrize("key", [key for key in _TELLING if not key.startswith("head.") and "num_batches" not in key])
def test_one_row_too_few_blames_no_other_key(weights: dict[str, Tensor], key: str) -> None:
    with pytest.raises(ValueError, match=rf"authors' layout; of the wrong shape: {key} \([^;]*$") as error:
        from_published({**weights, key: weights[key][1:]})
    assert str(error.value).count("expected") == 1


@pytest.mark.parametrize("key", _TELLING)
def test_wrong_shapes_are_listed(weights: dict[str, Tensor], key: str) -> None:
    odd = {**weights, key: torch.zeros(3, 5)}
    with pytest.raises(ValueError, match=rf"of the wrong shape: (.*, )?{key} \(expected .*, got \(3, 5\)\)"):
        from_published(odd)


def test_many_problems_are_listed_together(weights: dict[str, Tensor]) -> None:
    odd = {**weights, "block3.0.att.extra": torch.zeros(1), "norm.bias": torch.zeros(41), "block5.0.x": torch.zeros(1)}
    del odd["block4.1.norm2.weight"]
    with pytest.raises(ValueError, match=r"missing: block4\.1\.norm2\.weight; ") as error:
        from_published(odd)
    assert (
        "unexpected: block3.0.att.extra, block5.0.x; of the wrong shape: norm.bias (expected (40,), got (41,))"
        in str(error.value)
    )


def test_a_gap_between_blocks_is_missing(weights: dict[str, Tensor]) -> None:
    rest = {key: value for key, value in weights.items() if not key.startswith("block2.0.")}
    with pytest.raises(ValueError, match=r"missing: block2\.0\.att\.mha\.W_q\.weight, "):
        from_published(rest)


def test_position_embeddings_are_square(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"pos_embed2 \(expected \(1, side \* side, 20\), got \(1, 63, 20\)\)"):
        from_published({**weights, "pos_embed2": torch.zeros(1, 63, 20)})
