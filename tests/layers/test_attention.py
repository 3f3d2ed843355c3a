"""The attention modules: their formula, masks, cross-attention, scaling by length, and errors."""

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.attention import SoftAttention
from softformer.layers.landmarks import ConvGridLandmarks, ConvSegmentLandmarks, SegmentLandmarks
from softformer.layers.softmax_attention import SoftmaxAttention
from softformer.ops import Cholesky, Newton, attention_health, soft_attention

DIM, HEADS, CONTEXT = 21, 3, 11
LENGTHS = [13, 2, 0, 7]


def _mask(columns: int = 17) -> Tensor:
    mask = torch.zeros(len(LENGTHS), columns, dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        mask[row, torch.randperm(columns)[:length]] = True
    return mask


def _layer(kind: str, **options: Any) -> nn.Module:
    torch.manual_seed(2)
    if kind == "softmax":
        return SoftmaxAttention(DIM, HEADS, **options).double()
    marks = ConvSegmentLandmarks(DIM // HEADS, 5) if kind == "conv" else SegmentLandmarks(5)
    return SoftAttention(DIM, HEADS, landmarks=marks, **options).double()


def _tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_self_attention_is_the_op_between_projections() -> None:
    layer = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5), inverse=Newton(), symmetric_norm=False).double()
    x = _tokens(2, 13, DIM)
    points = F.linear(x, layer.query.weight, layer.query.bias).unflatten(-1, (HEADS, -1)).transpose(1, 2) / 7**0.25
    value = F.linear(x, layer.value.weight, layer.value.bias).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    marks, _ = SegmentLandmarks(5)(points)
    out = soft_attention(points, value, marks, output_scale=5 / 13, backend="reference")
    expected = F.linear(out.transpose(1, 2).flatten(2), layer.proj.weight, layer.proj.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_cross_attention_takes_landmarks_from_its_keys() -> None:
    layer = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5), context_dim=CONTEXT).double()
    assert layer.key is not None
    x, context = _tokens(2, 13, DIM), _tokens(2, 29, CONTEXT)
    query, key, value = (
        part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part in (layer.query(x) / 7**0.25, layer.key(context) / 7**0.25, layer.value(context))
    )
    marks, _ = SegmentLandmarks(5)(key)
    out = soft_attention(
        query, value, marks, key=key, inverse=Cholesky(), symmetric_norm=True, output_scale=5 / 29, backend="reference"
    )
    expected = layer.proj(out.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x, context=context), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value_kernel", [0, 3])
@pytest.mark.parametrize("kind", ["mean", "conv", "softmax"])
def test_pads_and_batch_mates_change_nothing(kind: str, value_kernel: int) -> None:
    layer, mask = _layer(kind, value_kernel=value_kernel), _mask()
    x = _tokens(4, 17, DIM).masked_fill(~mask[..., None], torch.nan).requires_grad_()
    out = layer(x, mask)
    assert out[~mask].eq(0).all()
    cotangent = _tokens(4, 17, DIM).masked_fill(~mask[..., None], torch.inf)
    grads = torch.autograd.grad(out, [x, *layer.parameters()], cotangent)
    assert grads[0][~mask].eq(0).all()
    alone = [torch.zeros_like(parameter) for parameter in layer.parameters()]
    for row in (0, 1, 3):
        tokens = x[row, mask[row]].detach()[None].requires_grad_()
        short = layer(tokens)
        torch.testing.assert_close(out[row, mask[row]], short[0])
        part = torch.autograd.grad(short, [tokens, *layer.parameters()], cotangent[row, mask[row]][None])
        torch.testing.assert_close(grads[0][row, mask[row]], part[0][0])
        alone = [total + grad for total, grad in zip(alone, part[1:])]
    for grad, total in zip(grads[1:], alone):
        torch.testing.assert_close(grad, total)


@pytest.mark.parametrize("kind", ["mean", "softmax"])
def test_padded_contexts_change_nothing(kind: str) -> None:
    layer, mask = _layer(kind, context_dim=CONTEXT), _mask()
    x = _tokens(4, 19, DIM)
    context = _tokens(4, 17, CONTEXT).masked_fill(~mask[..., None], torch.nan).requires_grad_()
    out = layer(x, context=context, context_mask=mask)
    grads = torch.autograd.grad(out.square().sum(), [context, *layer.parameters()])
    assert grads[0][~mask].eq(0).all()
    assert all(grad.isfinite().all() for grad in grads)
    for row in (0, 1, 3):
        torch.testing.assert_close(out[row], layer(x[row : row + 1], context=context[row, mask[row]][None])[0])
    torch.testing.assert_close(out[2], layer.proj.bias.expand(19, -1))


def test_the_length_rule_keeps_the_scale() -> None:
    torch.manual_seed(0)
    x = _tokens(1, 61, DIM)
    ruled = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5), qkv_bias=False).double()
    nn.init.zeros_(ruled.proj.bias)
    free = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5), qkv_bias=False, scale_by_length=False).double()
    free.load_state_dict(ruled.state_dict())
    torch.testing.assert_close(ruled(x), free(x) * 5 / 61)
    four = x.repeat_interleave(4, dim=1)
    torch.testing.assert_close(ruled(four)[:, ::4], ruled(x), rtol=0.1, atol=0.01)
    torch.testing.assert_close(free(x).norm() * 4, free(four)[:, ::4].norm(), rtol=0.1, atol=0)


def test_softmax_is_softmax() -> None:
    layer, x = _layer("softmax"), _tokens(2, 13, DIM)
    key, value = layer.key_value(x).chunk(2, -1)
    query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (layer.query(x), key, value))
    weights = torch.softmax(query @ key.mT / 7**0.5, dim=-1)
    torch.testing.assert_close(layer(x), layer.proj((weights @ value).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("kind", ["mean", "conv", "softmax"])
def test_no_tokens_give_no_tokens(kind: str) -> None:
    layer = _layer(kind, value_kernel=3)
    assert layer(_tokens(2, 0, DIM)).shape == (2, 0, DIM)
    assert layer(_tokens(0, 5, DIM)).shape == (0, 5, DIM)
    assert layer(_tokens(2, 5, DIM), torch.zeros(2, 5, dtype=torch.bool)).eq(0).all()


def test_a_grid_gives_a_value_convolution_of_two_axes() -> None:
    layer = SoftAttention(DIM, HEADS, landmarks=ConvGridLandmarks(7, 2), value_kernel=3, scale_by_length=False)
    x = torch.randn(2, 5 * 7, DIM)
    out = layer(x, grid=(5, 7))
    assert layer.value_conv is not None
    assert layer.value_conv.weight.shape == (HEADS, 1, 3, 3)
    nn.init.zeros_(layer.value_conv.weight)
    assert not torch.allclose(out, layer(x, grid=(5, 7)))


def test_health_is_that_of_the_op() -> None:
    layer, mask = _layer("mean"), _mask()
    x = _tokens(4, 17, DIM)
    health = layer.health(x, mask)
    points = (layer.query(x * mask[..., None]) / 7**0.25).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    marks, kept = SegmentLandmarks(5)(points, mask=mask)
    expected = attention_health(
        points, marks, query_mask=mask, landmark_mask=kept, inverse=Cholesky(), symmetric_norm=True
    )
    assert kept is not None
    scale = torch.where(mask.any(1), kept.sum(1) / mask.sum(1).clamp(min=1), 0.0).double()
    assert (scale < 1).any()
    torch.testing.assert_close(health.attention_norm, expected.attention_norm * scale[:, None], rtol=1e-6, atol=1e-9)
    assert torch.equal(health.effective_rank == 0, ~mask.any(1, keepdim=True).expand(-1, HEADS))


def test_dropout_and_autocast_and_types() -> None:
    layer = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5), proj_drop=0.5)
    x = torch.randn(2, 13, DIM)
    assert layer(x).eq(0).any()
    layer.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), layer(x), rtol=0.1, atol=0.02)
    built = SoftAttention(DIM, HEADS, value_kernel=3, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in built.parameters()} == {("meta", torch.bfloat16)}


def test_export_takes_any_batch_and_length() -> None:
    layer = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5), value_kernel=3).eval()
    mask = torch.arange(17) < torch.tensor([17, 9])[:, None]
    axes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    program = torch.export.export(layer, (torch.randn(2, 17, DIM), mask), dynamic_shapes=(axes, axes)).module()
    x, mask = torch.randn(3, 41, DIM), torch.arange(41) < torch.tensor([41, 3, 12])[:, None]
    torch.testing.assert_close(program(x, mask), layer(x, mask))


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiles_as_one_graph_with_dynamic_length(dynamic: bool | None) -> None:
    torch._dynamo.reset()
    layer = SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5), value_kernel=3)
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="eager")
    for length in (17, 29, 23):
        x = torch.randn(2, length, DIM)
        mask = torch.arange(length) < torch.tensor([length, 9])[:, None]
        torch.testing.assert_close(compiled(x, mask), layer(x, mask))


@pytest.mark.parametrize("kind", ["mean", "softmax"])
def test_errors_name_the_argument(kind: str) -> None:
    x, mask = _tokens(2, 13, DIM), torch.ones(2, 13, dtype=torch.bool)
    layer, cross = _layer(kind), _layer(kind, context_dim=CONTEXT)
    context = _tokens(2, 5, CONTEXT)
    with pytest.raises(
        ValueError, match="context must be None in self-attention, got one; build the layer with context_dim"
    ):
        layer(x, context=context)
    with pytest.raises(ValueError, match="context must be None in self-attention"):
        layer(x, context_mask=mask)
    with pytest.raises(ValueError, match="context must be a tensor of width 11 in cross-attention, got None"):
        cross(x)
    with pytest.raises(ValueError, match=r"context must have shape \(batch, tokens, 11\), got \(2, 13, 21\)"):
        cross(x, context=x)
    with pytest.raises(ValueError, match="context must have the batch size of x, 2, got 1"):
        cross(x, context=context[:1])
    with pytest.raises(ValueError, match=r"context_mask must have shape \(2, 5\), got \(2, 13\)"):
        cross(x, context=context, context_mask=mask)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, tokens, 21\), got \(2, 13\)"):
        layer(x[..., 0])
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 13\), got \(2, 12\)"):
        layer(x, mask[:, 1:])
    with pytest.raises(ValueError, match=r"mask must be a bool tensor"):
        layer(x, mask.float())
    with pytest.raises(ValueError, match="num_heads must divide dim, got num_heads=4 and dim=21"):
        type(layer)(DIM, 4)
    with pytest.raises(ValueError, match="value_kernel must be 0 in cross-attention"):
        _layer(kind, context_dim=CONTEXT, value_kernel=3)
    with pytest.raises(ValueError, match="value_kernel must be odd, or 0 for none, got 4"):
        _layer(kind, value_kernel=4)


def test_the_inverse_is_an_object() -> None:
    with pytest.raises(ValueError, match="inverse must be a Newton"):
        SoftAttention(DIM, HEADS, inverse="cholesky")  # type: ignore[arg-type]


def test_every_backend_can_be_chosen() -> None:
    x = _tokens(2, 13, DIM)
    outputs = [_layer("mean", backend=backend)(x) for backend in ("auto", "eager", "reference")]
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[0], outputs[2])
    with pytest.raises(ValueError, match="backend must be one of 'auto'"):
        _layer("mean", backend="cuda")(x)


def test_trains_under_inductor() -> None:
    """Runs in a process of its own, because a miscompiled gradient of the landmark windows crashed the process."""
    code = """
import torch
from softformer.layers.attention import SoftAttention
from softformer.layers.landmarks import ConvGridLandmarks
torch.manual_seed(0)
layer = SoftAttention(14, 2, landmarks=ConvGridLandmarks(7, 3), value_kernel=3)
compiled = torch.compile(layer, fullgraph=True)
x = torch.randn(5, 11 * 13, 14)
for run in (layer, compiled) * 2:
    gradients = torch.autograd.grad(run(x, grid=(11, 13)).square().sum(), list(layer.parameters()))
    if run is layer:
        expected = gradients
torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-4)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
