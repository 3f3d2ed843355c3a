"""Numbers recorded from the authors' code: our networks with the same weights give the same values and gradients."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from softformer.layers.convolution import ValueConvolution
from softformer.layers.landmarks import ConvGridLandmarks
from softformer.models.vision.network import SoftVisionTransformer
from softformer.models.vision.published import from_published
from softformer.models.vision.published_keys import our_key
from softformer.ops import Newton, soft_attention

NORMALIZED = Newton(20, ridge=0.0, start="halving", gradient="unrolled")
MODELS = ("soft_small_cfg", "soft_norm_small_cfg", "soft_small_cfg_192x256")
OPS = ("op_gaussian", "op_normalized", "op_gaussian_smooth", "op_normalized_smooth", "op_gaussian_no_conv")


def _case(golden: Path, kind: str, name: str) -> dict[str, Any]:
    return next(case for case in json.loads((golden / "cases.json").read_text())[kind] if case["name"] == name)


def _close(got: Tensor, expected: Tensor, bound: float, what: str) -> None:
    assert got.shape == expected.shape
    error = ((got - expected).norm() / expected.norm()).item()
    assert error <= bound, f"{what}: relative error {error:.1e} above {bound:.0e}"


def _grad(model: SoftVisionTransformer, key: str) -> Tensor:
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    grad = grads[our_key(key)]
    if key.startswith("pos_embed"):
        grad = grad.flatten(1, 2)
        return torch.cat((grads["stages.3.class_pos"], grad), dim=1) if key == "pos_embed4" else grad
    return grad


def test_no_case_is_left_out(shared: Path) -> None:
    cases = json.loads((shared / "golden" / "cases.json").read_text())
    assert [case["name"] for case in cases["models"]] == list(MODELS)
    assert [case["name"] for case in cases["ops"]] == list(OPS)


@pytest.mark.parametrize("name", MODELS)
def test_models(shared: Path, name: str) -> None:
    golden = shared / "golden"
    case = _case(golden, "models", name)
    expected = load_file(golden / f"{name}.expected.safetensors")
    model = from_published(
        golden / f"{name}.weights.safetensors", symmetric_norm=case["symmetric_normalization"], img_size=224
    )
    assert [len(stage.blocks) for stage in model.stages] == case["depths"]
    assert [stage.blocks[0].mixer.num_heads for stage in model.stages] == case["num_heads"]
    x = expected["input"].requires_grad_()
    logits = model(x)
    _close(logits, expected["logits"], 1e-4, "logits")
    logits.backward(expected["grad_logits"])
    _close(x.grad, expected["grad_input"], 1e-3, "grad_input")
    keys = [key.removeprefix("grad.") for key in expected if key.startswith("grad.")]
    assert keys
    for key in keys:
        _close(_grad(model, key), expected[f"grad.{key}"], 1e-3, key)
    stages = model.forward_intermediates(
        x.detach(), return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )
    for number, (tokens, prefix) in enumerate(stages, start=1):
        _close(torch.cat((prefix, tokens), dim=1), expected[f"stage{number}"], 1e-4, f"stage{number}")


@pytest.mark.parametrize("backend", ["reference", "eager"])
@pytest.mark.parametrize("name", OPS)
def test_attention_cores(shared: Path, name: str, backend: str) -> None:
    case = _case(shared / "golden", "ops", name)
    tensors = load_file(shared / "golden" / f"{name}.safetensors")
    normalized, width, grid = case["symmetric_normalization"], case["head_dim"], (case["height"], case["width"])
    landmarks = ConvGridLandmarks(width, case["ratio"])
    landmarks.load_state_dict(
        {
            "weight": tensors["weight.Qlandmark_op.weight"],
            "norm.weight": tensors["weight.Qnorm_act.0.weight"],
            "norm.bias": tensors["weight.Qnorm_act.0.bias"],
        }
    )
    query, value = tensors["q"].requires_grad_(), tensors["v"].requires_grad_()
    points = query / width**0.25
    out = soft_attention(
        points,
        value,
        landmarks(points, grid=grid)[0],
        inverse=NORMALIZED if normalized else Newton(),
        symmetric_norm=normalized,
        backend=backend,  # type: ignore[arg-type]
    )
    grads = {
        "Qlandmark_op.weight": landmarks.weight,
        "Qnorm_act.0.weight": landmarks.norm.weight,
        "Qnorm_act.0.bias": landmarks.norm.bias,
    }
    if case["conv_kernel"]:
        conv = ValueConvolution(case["heads"], case["conv_kernel"])
        conv.load_state_dict({"weight": tensors["weight.conv.weight"]})
        mixed = conv(value.transpose(1, 2).flatten(2), grid=grid)
        out = out + mixed.unflatten(-1, (case["heads"], width)).transpose(1, 2)
        grads["conv.weight"] = conv.weight
    _close(out, tensors["out"], 1e-4, "out")
    out.backward(tensors["grad_out"])
    _close(query.grad, tensors["grad_q"], 1e-3, "grad_q")
    _close(value.grad, tensors["grad_v"], 1e-3, "grad_v")
    assert set(grads) == {key.removeprefix("grad.") for key in tensors if key.startswith("grad.")}
    for key, parameter in grads.items():
        _close(parameter.grad, tensors[f"grad.{key}"], 1e-3, key)


def test_position_embeddings_resize_as_they_interpolate(shared: Path) -> None:
    golden = shared / "golden"
    name = "soft_small_cfg_192x256"
    expected = load_file(golden / f"{name}.expected.safetensors")
    model = from_published(golden / f"{name}.weights.safetensors", img_size=(192, 256))
    assert model.stages[0].pos_embed.shape == (1, 48, 64, 32)
    with torch.no_grad():
        _close(model(expected["input"]), expected["logits"], 1e-4, "logits")


def test_an_output_does_not_depend_on_its_batch(shared: Path) -> None:
    golden = shared / "golden"
    x = load_file(golden / "soft_norm_small_cfg.expected.safetensors")["input"]
    model = from_published(golden / "soft_norm_small_cfg.weights.safetensors", symmetric_norm=True)
    with torch.no_grad():
        _close(model(torch.cat((torch.randn_like(x), x)))[1:], model(x), 1e-4, "logits beside another sample")
