"""Landmarks on grids and of sequences, with padding between tokens, short rows, and rows without tokens."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.landmarks import (
    AdaptiveGridLandmarks,
    ConvGridLandmarks,
    ConvSegmentLandmarks,
    PooledGridLandmarks,
    SegmentLandmarks,
)

HEADS, WIDTH = 3, 5


def _queries(batch: int, length: int) -> Tensor:
    """Queries with the memory layout of a projection, in which heads are the second innermost axis."""
    return torch.randn(batch, length, HEADS, WIDTH, dtype=torch.float64).transpose(1, 2)


def _picture(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, H, N, D) -> (B H, D, h, w)."""
    return x.flatten(0, 1).mT.unflatten(-1, grid)


@pytest.mark.parametrize("grid", [(8, 12), (11, 13)], ids=["whole", "incomplete"])
def test_conv_is_the_published_convolution(grid: tuple[int, int]) -> None:
    landmarks = ConvGridLandmarks(WIDTH, 4).double()
    nn.init.normal_(landmarks.norm.weight)
    nn.init.normal_(landmarks.norm.bias)
    x = _queries(2, grid[0] * grid[1])
    points, mask = landmarks(x, grid=grid)
    expected = F.conv2d(_picture(x, grid), landmarks.weight, stride=4).flatten(2).mT.unflatten(0, (2, HEADS))
    expected = F.gelu(F.layer_norm(expected, (WIDTH,), landmarks.norm.weight, landmarks.norm.bias))
    assert mask is None
    assert points.shape == (2, HEADS, (grid[0] // 4) * (grid[1] // 4), WIDTH)
    torch.testing.assert_close(points, expected)


def test_pool_is_the_mean_of_whole_windows() -> None:
    x = _queries(2, 7 * 11)
    points, _ = PooledGridLandmarks(3)(x, grid=(7, 11))
    expected = F.avg_pool2d(_picture(x, (7, 11)), 3).flatten(2).mT.unflatten(0, (2, HEADS))
    torch.testing.assert_close(points, expected)


@pytest.mark.parametrize(("grid", "number"), [((7, 11), 9), ((13, 5), 9), ((2, 5), 6)])
def test_adaptive_gives_a_fixed_number(grid: tuple[int, int], number: int) -> None:
    x = _queries(2, grid[0] * grid[1])
    points, _ = AdaptiveGridLandmarks(9)(x, grid=grid)
    size = (min(3, grid[0]), min(3, grid[1]))
    expected = F.adaptive_avg_pool2d(_picture(x, grid), size).flatten(2).mT.unflatten(0, (2, HEADS))
    assert points.shape[2] == number
    torch.testing.assert_close(points, expected)


def test_grids_are_checked() -> None:
    x = _queries(1, 12)
    pool = PooledGridLandmarks(4)
    with pytest.raises(
        ValueError, match=r"grid must be the \(rows, columns\) of the tokens for PooledGridLandmarks, got None"
    ):
        pool(x)
    with pytest.raises(ValueError, match=r"grid must have one cell for each of the 12 tokens, got \(3, 5\)"):
        pool(x, grid=(3, 5))
    with pytest.raises(ValueError, match="mask must be None for PooledGridLandmarks"):
        pool(x, grid=(3, 4), mask=torch.ones(1, 12, dtype=torch.bool))
    for landmarks in (pool, ConvGridLandmarks(WIDTH, 4).double()):
        with pytest.raises(ValueError, match="grid must be at least 4 x 4 for a landmark stride of 4, got 3 x 4"):
            landmarks(x, grid=(3, 4))
    with pytest.raises(ValueError, match=r"must be a square number for landmarks on a grid, got 50; .* 49 and 64"):
        AdaptiveGridLandmarks(50)


@pytest.mark.parametrize("number", [0, -3, 2.5, True])
def test_numbers_are_positive_integers(number: int) -> None:
    for make in (SegmentLandmarks, AdaptiveGridLandmarks, lambda n: ConvSegmentLandmarks(WIDTH, n)):
        with pytest.raises(ValueError, match="num_landmarks must be an integer of at least 1"):
            make(number)
    for make in (PooledGridLandmarks, lambda n: ConvGridLandmarks(WIDTH, n)):
        with pytest.raises(ValueError, match="stride must be an integer of at least 1"):
            make(number)
    with pytest.raises(ValueError, match="kernel_size must be odd and positive, got 4"):
        ConvSegmentLandmarks(WIDTH, 8, 4)


def test_segments_share_the_tokens_equally() -> None:
    x = _queries(2, 13)
    points, mask = SegmentLandmarks(4)(x)
    members = [[i for i in range(13) if i * 4 // 13 == segment] for segment in range(4)]
    assert max(map(len, members)) - min(map(len, members)) <= 1
    assert mask is None
    torch.testing.assert_close(points, torch.stack([x[:, :, segment].mean(2) for segment in members], dim=2))


def _landmarks(kind: str) -> nn.Module:
    torch.manual_seed(1)
    return SegmentLandmarks(5) if kind == "mean" else ConvSegmentLandmarks(WIDTH, 5).double()


@pytest.mark.parametrize("kind", ["mean", "conv"])
def test_pads_and_batch_mates_change_nothing(kind: str) -> None:
    landmarks = _landmarks(kind)
    lengths = [11, 3, 0, 5]
    mask = torch.zeros(4, 17, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask[row, torch.randperm(17)[:length]] = True
    x = _queries(4, 17).masked_fill(~mask[:, None, :, None], torch.nan).requires_grad_()
    points, kept = landmarks(x, mask=mask)
    assert points.isfinite().all()
    assert kept.sum(1).tolist() == [5, 3, 0, 5]
    for row, length in enumerate(lengths):
        alone = x[row : row + 1, :, mask[row]]
        if length:
            torch.testing.assert_close(points[row, :, kept[row]], landmarks(alone)[0][0])
    (grad,) = torch.autograd.grad(points[kept[:, None].expand(-1, HEADS, -1)].square().sum(), x)
    assert grad.masked_fill(mask[:, None, :, None], 0).eq(0).all()
    assert grad.isfinite().all()
    assert all(grad[row, :, mask[row]].ne(0).any() for row in (0, 1, 3))


@pytest.mark.parametrize("kind", ["mean", "conv"])
def test_a_full_mask_is_no_mask(kind: str) -> None:
    landmarks, x = _landmarks(kind), _queries(2, 13)
    points, kept = landmarks(x, mask=torch.ones(2, 13, dtype=torch.bool))
    torch.testing.assert_close(points, landmarks(x)[0])
    assert kept.all()


def test_fewer_tokens_than_landmarks_are_landmarks_themselves() -> None:
    x = _queries(2, 3)
    points, _ = SegmentLandmarks(7)(x)
    torch.testing.assert_close(points, x)


def test_no_tokens_give_one_zero() -> None:
    points, _ = SegmentLandmarks(7)(_queries(2, 0))
    assert points.shape == (2, HEADS, 1, WIDTH)
    assert points.eq(0).all()


def test_conv_convolves_before_it_pools() -> None:
    landmarks = ConvSegmentLandmarks(WIDTH, 4, 3).double()
    x = _queries(2, 13)
    mixed = F.conv1d(x.flatten(0, 1).mT, landmarks.weight, padding=1, groups=WIDTH).mT.unflatten(0, (2, HEADS))
    expected = F.gelu(F.layer_norm(SegmentLandmarks(4)(mixed)[0], (WIDTH,)))
    torch.testing.assert_close(landmarks(x)[0], expected)


def test_means_of_long_bfloat16_sequences_stay_exact() -> None:
    x = torch.ones(1, 1, 4099, 1, dtype=torch.bfloat16)
    points, _ = SegmentLandmarks(2)(x)
    torch.testing.assert_close(points.float(), torch.ones(1, 1, 2, 1), rtol=1e-2, atol=0)


@pytest.mark.parametrize("dynamic", [None, True])
def test_adaptive_windows_compile_as_one_graph(dynamic: bool | None) -> None:
    torch._dynamo.reset()
    landmarks = AdaptiveGridLandmarks(9)
    compiled = torch.compile(landmarks, fullgraph=True, dynamic=dynamic, backend="eager")
    for grid in ((7, 11), (5, 13), (8, 9)):
        x = _queries(2, grid[0] * grid[1])
        torch.testing.assert_close(compiled(x, grid=grid)[0], landmarks(x, grid=grid)[0])
