"""Pooling against loops over the real tokens, with padding between tokens, rows without tokens, and NaN in padding."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from softformer.layers.pooling import AttentionPooling, Pooling, PoolingKind, first_token, mean_pool

KINDS = get_args(PoolingKind)
LENGTHS = [13, 5, 0, 1, 17]
BATCH, LENGTH, DIM = len(LENGTHS), 17, 7


def _mask() -> Tensor:
    """Masks with padding anywhere, a row without tokens, a row with one token, and a row without padding."""
    mask = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        mask[row, torch.randperm(LENGTH)[:length]] = True
    mask[0, 0] = False
    return mask


def _pooling(kind: PoolingKind) -> Pooling:
    return Pooling(kind, DIM).double()


def _literal(pooling: Pooling, tokens: Tensor) -> Tensor:
    """The pooled vector of the tokens (n, C) of a sequence without padding."""
    if len(tokens) == 0:
        return tokens.new_zeros(DIM)
    if pooling.kind == "cls":
        return tokens[0]
    weights = torch.ones(len(tokens), dtype=tokens.dtype)
    if pooling.attention is not None:
        weights = torch.stack([torch.exp(token @ pooling.attention.score.weight[0]) for token in tokens])
    return sum((weight * token for weight, token in zip(weights, tokens)), tokens.new_zeros(DIM)) / weights.sum()


def _tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("poison", [0.0, torch.nan, torch.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_real_tokens_alone_count(kind: PoolingKind, poison: float) -> None:
    pooling, mask = _pooling(kind), _mask()
    x = _tokens(BATCH, LENGTH, DIM).masked_fill(~mask[..., None], poison).requires_grad_()
    out, cotangent = pooling(x, mask), _tokens(BATCH, DIM)
    expected = torch.stack([_literal(pooling, x[row, mask[row]]) for row in range(BATCH)])
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    assert out[2].eq(0).all()
    wanted = [x, *pooling.parameters()]
    grads = torch.autograd.grad(out, wanted, cotangent)
    assert grads[0][~mask].eq(0).all()
    for grad, literal in zip(grads, torch.autograd.grad(expected, wanted, cotangent)):
        torch.testing.assert_close(grad, literal, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_mask_is_no_mask(kind: PoolingKind) -> None:
    pooling, x = _pooling(kind), _tokens(3, LENGTH, DIM)
    out = pooling(x)
    torch.testing.assert_close(out, torch.stack([_literal(pooling, row) for row in x]), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(pooling(x, torch.ones(3, LENGTH, dtype=torch.bool)), out, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_more_padding_changes_nothing(kind: PoolingKind) -> None:
    pooling, mask, x = _pooling(kind), _mask(), _tokens(BATCH, LENGTH, DIM)
    longer = torch.cat((torch.full((BATCH, 19, DIM), torch.nan), x, torch.full((BATCH, 23, DIM), torch.inf)), 1)
    wider = torch.nn.functional.pad(mask, (19, 23))
    torch.testing.assert_close(pooling(longer, wider), pooling(x, mask), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_tokens_give_zero(kind: PoolingKind) -> None:
    pooling = _pooling(kind)
    assert torch.equal(pooling(_tokens(3, 0, DIM), torch.ones(3, 0, dtype=torch.bool)), torch.zeros(3, DIM).double())
    assert torch.equal(pooling(_tokens(3, 0, DIM)), torch.zeros(3, DIM).double())
    assert pooling(_tokens(0, 5, DIM)).shape == (0, DIM)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_low_precision_keeps_its_type_and_stays_close(kind: PoolingKind, dtype: torch.dtype) -> None:
    pooling = _pooling(kind).to(dtype)
    x, mask = torch.randn(2, 4099, DIM).to(dtype) + 1, torch.ones(2, 4099, dtype=torch.bool)
    mask[1, 101::2] = False
    out = pooling(x, mask)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), pooling.double()(x.double(), mask), rtol=2e-2, atol=2e-2)


def test_the_mean_of_many_large_tokens_does_not_overflow() -> None:
    x = torch.full((1, 70_001, 2), 3.0, dtype=torch.float16)
    mask = torch.ones(1, 70_001, dtype=torch.bool)
    assert torch.equal(mean_pool(x, mask), x[:, 0])
    assert torch.equal(mean_pool(x, None), x[:, 0])


def test_attention_prefers_what_scores_high() -> None:
    pooling = AttentionPooling(DIM).double()
    x, mask = _tokens(1, LENGTH, DIM), _mask()[:1]
    scores = pooling.score(x).squeeze(-1).masked_fill(~mask, -torch.inf)
    x = x + 1000 * pooling.score.weight * (scores == scores.max()).unsqueeze(-1)
    torch.testing.assert_close(pooling(x, mask)[0], x[0, scores.argmax()])


def test_the_first_token_is_the_first_real_one() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[False, True, True], [True, False, True]])
    assert first_token(x, mask).tolist() == [[2, 3], [6, 7]]


def test_kinds_are_checked_and_shown() -> None:
    with pytest.raises(ValueError, match="pooling must be one of 'mean', 'cls', 'attention', got 'max'"):
        Pooling("max", DIM)  # type: ignore[arg-type]
    assert "kind='cls'" in repr(Pooling("cls", DIM))
    assert [sum(p.numel() for p in Pooling(kind, DIM).parameters()) for kind in KINDS] == [0, 0, DIM]
