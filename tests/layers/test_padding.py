"""Moving real tokens to the front and back."""

import torch

from softformer.layers.padding import compact, expand, zero_pads

MASK = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)


def test_zero_pads_selects_nan_away() -> None:
    x = torch.full((3, 5, 2), torch.nan, requires_grad=True)
    out = zero_pads(x, MASK)
    assert out[~MASK].eq(0).all()
    assert out[MASK].isnan().all()
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(grad[..., 0], MASK.float())


def test_without_a_mask_nothing_is_copied() -> None:
    x = torch.randn(3, 5, 2)
    assert zero_pads(x, None) is x


def test_compact_keeps_the_order_and_expand_undoes_it() -> None:
    x = torch.arange(15.0).reshape(3, 5, 1)
    front, order = compact(x, MASK)
    assert front[0, :, 0].tolist() == [1, 2, 4, 0, 0]
    assert front[2].eq(0).all()
    assert torch.equal(expand(front, order, MASK), zero_pads(x, MASK))
