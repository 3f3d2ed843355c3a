"""Residual blocks, both kinds of branch drop, and the MLP."""

import pytest
import torch
import torch.nn.functional as F

from softformer.layers.attention import SoftAttention
from softformer.layers.block import DropPath, Mlp, PostNormBlock, PreNormBlock
from softformer.layers.landmarks import ConvGridLandmarks, SegmentLandmarks
from softformer.layers.softmax_attention import SoftmaxAttention


def test_post_norm_normalizes_after_the_residual() -> None:
    block = PostNormBlock(14, SoftAttention(14, 2, landmarks=ConvGridLandmarks(7, 2)))
    x = torch.randn(2, 15, 14)
    mixed = F.layer_norm(x + block.mixer(x, grid=(3, 5)), (14,))
    hidden = F.gelu(block.mlp.fc1(mixed), approximate="tanh")
    expected = F.layer_norm(mixed + block.mlp.fc2(hidden), (14,))
    torch.testing.assert_close(block(x, grid=(3, 5)), expected)


def test_pre_norm_keeps_the_residual() -> None:
    block = PreNormBlock(14, SoftmaxAttention(14, 2))
    x = torch.randn(2, 15, 14)
    mixed = x + block.mixer(F.layer_norm(x, (14,), eps=1e-6))
    expected = mixed + block.mlp.fc2(F.gelu(block.mlp.fc1(F.layer_norm(mixed, (14,), eps=1e-6))))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("kind", [PreNormBlock, PostNormBlock])
def test_pads_reach_no_gradient(kind: type[PreNormBlock] | type[PostNormBlock]) -> None:
    block = kind(14, SoftAttention(14, 2, landmarks=SegmentLandmarks(3)))
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    x = torch.randn(2, 5, 14).masked_fill(~mask[..., None], torch.nan).requires_grad_()
    out = block(x, mask)
    torch.testing.assert_close(out[0, mask[0]], block(x[:1, mask[0]])[0])
    grads = torch.autograd.grad(out[mask].square().sum(), [x, *block.parameters()])
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[0][~mask].eq(0).all()


def test_paths_drop_whole_samples_and_elements_do_not() -> None:
    x = torch.ones(257, 3, 5)
    paths = DropPath(0.25)(x)
    kept = paths.flatten(1).ne(0)
    assert torch.equal(kept.all(1), kept.any(1))
    assert 0.65 < kept.float().mean() < 0.85
    torch.testing.assert_close(paths[kept.all(1)], torch.full((int(kept.all(1).sum()), 3, 5), 4 / 3))
    assert torch.equal(DropPath(0.25).eval()(x), x)
    block = PostNormBlock(5, SoftmaxAttention(5, 1), branch_drop=0.25, drop_kind="element")
    elements = block.drop1(x).flatten(1).ne(0)
    assert elements.any(1).all()
    assert not elements.all()


def test_the_mlp_drops() -> None:
    assert Mlp(5, 7, drop=0.9)(torch.randn(11, 5)).eq(0).any()


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="drop_kind must be one of 'path', 'element', got 'token'"):
        PreNormBlock(5, SoftmaxAttention(5, 1), drop_kind="token")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"branch_drop must be in \[0, 1\), got 1.0"):
        PostNormBlock(5, SoftmaxAttention(5, 1), branch_drop=1.0)
