"""Position encodings against their formulas, and the invariants of rotations."""

import math

import pytest
import torch
from torch import Tensor

from softformer.layers.positions import (
    LearnedPositions,
    SinusoidalPositions,
    check_rotary,
    rotate,
    sinusoids,
    token_positions,
)

BATCH, HEADS, LENGTH, WIDTH = 2, 3, 11, 14


def _angle(position: float, pair: int, width: int) -> float:
    return position / 10_000 ** (2 * pair / width)


def _literal_rotation(x: Tensor, positions: Tensor) -> Tensor:
    """Each pair (x_i, x_(i + D / 2)) as a complex number, rotated by its angle."""
    out = torch.empty_like(x)
    half = x.shape[-1] // 2
    for b in range(x.shape[0]):
        for n in range(x.shape[2]):
            for i in range(half):
                angle = _angle(positions[b % len(positions), n].item(), i, x.shape[-1])
                for h in range(x.shape[1]):
                    point = complex(x[b, h, n, i], x[b, h, n, i + half])
                    turned = point * complex(math.cos(angle), math.sin(angle))
                    out[b, h, n, i], out[b, h, n, i + half] = turned.real, turned.imag
    return out


def _points(length: int = LENGTH, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(BATCH, HEADS, length, WIDTH, dtype=dtype)


@pytest.mark.parametrize("width", [1, 7, 14])
def test_sinusoids_are_sines_and_cosines(width: int) -> None:
    positions = torch.tensor([[0.0, 1.0, 2.5], [13.0, 101.0, 1021.0]])
    code = sinusoids(positions, width)
    assert code.dtype == torch.float32
    assert code.shape == (2, 3, width)
    for row in range(2):
        for column in range(3):
            for channel in range(width):
                angle = _angle(positions[row, column].item(), channel // 2, width)
                expected = math.cos(angle) if channel % 2 else math.sin(angle)
                assert code[row, column, channel].item() == pytest.approx(expected, abs=3e-4)
    assert sinusoids(torch.tensor([3]), width)[0, 0].item() == pytest.approx(math.sin(3))


def test_sinusoidal_positions_are_added() -> None:
    x = torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.float64)
    added = SinusoidalPositions(WIDTH)(x) - x
    expected = sinusoids(torch.arange(LENGTH), WIDTH, base=128 / math.pi)
    torch.testing.assert_close(added.float(), expected.expand(BATCH, -1, -1))
    assert SinusoidalPositions(WIDTH)(x.bfloat16()).dtype == torch.bfloat16
    assert not list(SinusoidalPositions(WIDTH).parameters())


@pytest.mark.parametrize("rows", [1, BATCH])
def test_rotation_is_a_product_of_complex_numbers(rows: int) -> None:
    x = _points()
    positions = torch.randint(0, 53, (rows, LENGTH))
    torch.testing.assert_close(rotate(x, positions), _literal_rotation(x, positions), rtol=1e-5, atol=1e-5)


def test_rotation_takes_fractions_of_positions() -> None:
    x, positions = _points(), torch.rand(BATCH, LENGTH) * 7
    assert (positions != positions.round()).all()
    torch.testing.assert_close(rotate(x, positions), _literal_rotation(x, positions), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(rotate(x, positions), rotate(x, positions.round()), atol=0.1)


def test_rotation_keeps_lengths_and_types() -> None:
    x, positions = _points(), torch.arange(LENGTH).unsqueeze(0)
    torch.testing.assert_close(rotate(x, positions).norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    torch.testing.assert_close(rotate(x, torch.zeros(1, LENGTH)), x, rtol=0, atol=0)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert rotate(x.to(dtype), positions).dtype == dtype
    half = rotate(x.bfloat16(), positions)
    torch.testing.assert_close(half, rotate(x.bfloat16().double(), positions).bfloat16(), rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("shift", [-17.0, 0.25, 89.0])
def test_products_and_distances_depend_on_differences_of_positions(shift: float) -> None:
    query, key = _points(), _points(7)
    at, there = torch.rand(BATCH, LENGTH) * 19, torch.arange(7.0).unsqueeze(0)
    turned, moved = (
        (rotate(query, at + offset), rotate(key, there + offset)) for offset in (torch.tensor(0.0), torch.tensor(shift))
    )
    torch.testing.assert_close(turned[0] @ turned[1].mT, moved[0] @ moved[1].mT, rtol=0, atol=3e-4)
    torch.testing.assert_close(torch.cdist(*turned), torch.cdist(*moved), rtol=0, atol=3e-4)
    apart = rotate(query, at + shift) @ turned[1].mT
    assert (apart - turned[0] @ turned[1].mT).abs().max() > 0.1


def test_gradients_are_turned_back() -> None:
    x, positions = _points().requires_grad_(), torch.rand(BATCH, LENGTH) * 31
    cotangent = _points()
    (grad,) = torch.autograd.grad(rotate(x, positions), x, cotangent)
    torch.testing.assert_close(grad, rotate(cotangent, -positions), rtol=1e-12, atol=1e-12)


def test_pairs_need_an_even_width() -> None:
    check_rotary(14)
    with pytest.raises(ValueError, match="head width must be even for rotary positions, got 7; choose another dim"):
        check_rotary(7)


def test_positions_count_real_tokens() -> None:
    mask = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)
    positions = token_positions(5, mask, mask.device)
    assert [row[real].tolist() for row, real in zip(positions, mask)] == [[0, 1, 2], [0, 1, 2, 3, 4], [0]]
    assert token_positions(5, None, mask.device).tolist() == [[0, 1, 2, 3, 4]]


def test_learned_positions_are_added() -> None:
    positions = LearnedPositions(WIDTH, 13).double()
    x = torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(positions(x)[1, 7], x[1, 7] + positions.weight[7], rtol=0, atol=0)
    (grad,) = torch.autograd.grad(positions(x).sum(), [positions.weight])
    assert torch.equal(grad, torch.tensor([BATCH] * LENGTH + [0, 0]).double().unsqueeze(1).expand(-1, WIDTH))
    assert 0 < positions.weight.std() < 0.03
    built = LearnedPositions(WIDTH, 13, device="meta", dtype=torch.bfloat16).weight
    assert (built.device.type, built.dtype) == ("meta", torch.bfloat16)


def test_learned_positions_end() -> None:
    positions = LearnedPositions(WIDTH, 13)
    assert positions(torch.zeros(1, 13, WIDTH)).shape == (1, 13, WIDTH)
    with pytest.raises(
        ValueError, match=r"x must have at most 13 tokens, one for each learned position, got 17; .* max_length"
    ):
        positions(torch.zeros(1, 17, WIDTH))
    with pytest.raises(ValueError, match="max_length must be an integer of at least 1, got 0"):
        LearnedPositions(WIDTH, 0)
