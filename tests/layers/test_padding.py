"""Packing: real tokens moved to the front and back."""

import torch

from softformer.layers.padding import pack, packing_of, unpack, zero_pads

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


def test_packing_keeps_the_order_and_unpacking_undoes_it() -> None:
    x = torch.arange(15.0).reshape(3, 5, 1)
    packing = packing_of(MASK)
    front = pack(x, packing)
    assert packing.mask.tolist() == [[True, True, True, False, False], [True] * 5, [False] * 5]
    assert front[0, :, 0].tolist() == [1, 2, 4, 0, 0]
    assert front[2].eq(0).all()
    assert packing.order.sort(1).values.eq(torch.arange(5)).all()
    assert torch.equal(unpack(front, packing, MASK), zero_pads(x, MASK))


def test_pads_of_the_packed_sequence_change_nothing() -> None:
    packing = packing_of(MASK)
    poisoned = torch.full((3, 5, 1), torch.nan).masked_scatter(packing.mask.unsqueeze(-1), torch.arange(8.0))
    assert unpack(poisoned, packing, MASK).isfinite().all()
