"""Segments against a loop over the real tokens: token i of n belongs to segment floor(i M / n)."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from softformer.layers.segments import segment_means, segment_positions, segments_of

HEADS, WIDTH = 3, 5
CPU = torch.device("cpu")


def _members(real: list[int], num_segments: int) -> list[list[int]]:
    """The tokens of each segment, from the positions of the real tokens."""
    used = min(num_segments, len(real))
    members: list[list[int]] = [[] for _ in range(used)]
    for number, place in enumerate(real):
        members[number * used // len(real)].append(place)
    return members


def _literal(x: Tensor, real: list[int], num_segments: int) -> Tensor:
    """Means (H, M, D) of one sequence (H, N, D)."""
    members = _members(real, num_segments)
    return torch.stack([torch.stack([x[:, place] for place in places]).mean(0) for places in members], dim=1)


def _queries(batch: int, length: int) -> Tensor:
    """Queries with the memory layout of a projection, in which heads are the second innermost axis."""
    return torch.randn(batch, length, HEADS, WIDTH, dtype=torch.float64).transpose(1, 2)


def _scattered(length: int, counts: list[int]) -> Tensor:
    mask = torch.zeros(len(counts), length, dtype=torch.bool)
    for row, count in enumerate(counts):
        mask[row, torch.randperm(length)[:count]] = True
    return mask


def _places(mask: Tensor, row: int) -> list[int]:
    return mask[row].nonzero().flatten().tolist()


@pytest.mark.parametrize("num_segments", [1, 3, 5, 7, 16, 31])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 13, 16, 29])
def test_means_without_a_mask(length: int, num_segments: int) -> None:
    x = _queries(2, length)
    means, kept = segment_means(x, num_segments, None)
    assert kept is None
    expected = torch.stack([_literal(row, list(range(length)), num_segments) for row in x])
    torch.testing.assert_close(means, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
@pytest.mark.parametrize("num_segments", [1, 3, 5, 7, 16, 31])
def test_means_and_gradients_with_holes(num_segments: int, poison: float) -> None:
    counts = [29, 13, 16, 5, 2, 1, 0]
    mask = _scattered(29, counts)
    x = _queries(7, 29).masked_fill(~mask[:, None, :, None], poison).requires_grad_()
    means, kept = segment_means(x, num_segments, mask)
    used = min(num_segments, 29)
    assert kept is not None
    assert means.shape == (7, HEADS, used, WIDTH)
    assert kept.shape == (7, used)
    loss, literal = means.new_zeros(()), means.new_zeros(())
    for row, count in enumerate(counts):
        assert kept[row].tolist() == [number < min(num_segments, count) for number in range(used)]
        assert means[row, :, ~kept[row]].eq(0).all()
        if count:
            expected = _literal(x[row], _places(mask, row), num_segments)
            torch.testing.assert_close(means[row, :, kept[row]], expected, rtol=1e-12, atol=1e-12)
            weights = torch.randn_like(expected)
            loss = loss + (weights * means[row, :, kept[row]].square()).sum()
            literal = literal + (weights * expected.square()).sum()
    (grad,), (wanted,) = torch.autograd.grad(loss, x), torch.autograd.grad(literal, x)
    torch.testing.assert_close(grad, wanted, rtol=1e-12, atol=1e-12)
    assert grad.masked_select(~mask[:, None, :, None]).eq(0).all()


@pytest.mark.parametrize(("length", "num_segments"), [(13, 5), (15, 5), (3, 7)])
def test_gradients_without_a_mask(length: int, num_segments: int) -> None:
    x = _queries(2, length).requires_grad_()
    weights = torch.randn(2, HEADS, min(length, num_segments), WIDTH, dtype=torch.float64)
    (grad,) = torch.autograd.grad((weights * segment_means(x, num_segments, None)[0]).sum(), x)
    for number, places in enumerate(_members(list(range(length)), num_segments)):
        expected = weights[:, :, number : number + 1] / len(places)
        torch.testing.assert_close(grad[:, :, places], expected.expand(-1, -1, len(places), -1))


def test_starts_and_sizes() -> None:
    mask = _scattered(29, [29, 13, 5, 2, 0])
    for row, count in enumerate([29, 13, 5, 2, 0]):
        starts, sizes = segments_of(29, 7, mask[row : row + 1], CPU)
        members = _members(list(range(count)), 7)
        assert sizes[0].tolist() == [len(places) for places in members] + [0] * (7 - len(members))
        assert starts[0, : len(members)].tolist() == [places[0] for places in members]
        together = segments_of(29, 7, mask, CPU)
        assert torch.equal(together.starts[row], starts[0])
        assert torch.equal(together.sizes[row], sizes[0])
    starts, sizes = segments_of(29, 7, None, CPU)
    assert (starts.shape, sizes.sum().item()) == ((1, 7), 29)


def test_segments_share_equally() -> None:
    for length in (7, 8, 29, 101, 128):
        sizes = segments_of(length, 7, None, CPU).sizes[0]
        assert sizes.max() - sizes.min() <= 1
        assert sizes.sum() == length


def test_no_token_and_no_row() -> None:
    for mask in (None, torch.ones(2, 0, dtype=torch.bool)):
        means, kept = segment_means(_queries(2, 0), 7, mask)
        assert means.shape == (2, HEADS, 1, WIDTH)
        assert means.eq(0).all()
        assert kept is None if mask is None else not kept.any()
    means, kept = segment_means(_queries(0, 13), 7, torch.ones(0, 13, dtype=torch.bool))
    assert means.shape == (0, HEADS, 7, WIDTH)
    assert kept is not None
    assert kept.shape == (0, 7)


def test_a_row_of_pads_gives_zeros_and_no_landmark() -> None:
    mask = torch.zeros(2, 13, dtype=torch.bool)
    x = torch.full((2, HEADS, 13, WIDTH), torch.nan, requires_grad=True)
    means, kept = segment_means(x, 5, mask)
    assert means.eq(0).all()
    assert kept is not None
    assert not kept.any()
    (grad,) = torch.autograd.grad(means.sum(), x)
    assert grad.eq(0).all()


@pytest.mark.parametrize("num_segments", [3, 7, 31])
def test_positions_are_means_of_positions(num_segments: int) -> None:
    counts = [29, 13, 5, 2, 1]
    mask = _scattered(29, counts)
    positions = segment_positions(29, num_segments, mask, CPU)
    assert positions.is_floating_point()
    for row, count in enumerate(counts):
        members = _members(list(range(count)), num_segments)
        expected = [sum(places) / len(places) for places in members]
        assert positions[row, : len(members)].tolist() == expected
    assert positions.isfinite().all()
    members = _members(list(range(29)), num_segments)
    assert segment_positions(29, num_segments, None, CPU)[0].tolist() == [
        sum(places) / len(places) for places in members
    ]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [4096, 4099])
def test_bfloat16_means_are_summed_in_float32(length: int, masked: bool) -> None:
    x = (torch.randn(1, 1, length, WIDTH) + 3).bfloat16()
    mask = torch.ones(1, length, dtype=torch.bool) if masked else None
    means, _ = segment_means(x, 2, mask)
    assert means.dtype == torch.bfloat16
    exact = _literal(x[0].double(), list(range(length)), 2)[None]
    torch.testing.assert_close(means.double(), exact, rtol=2**-8, atol=0)
    # Sums in bfloat16 would be far off: it rounds 512 + 1 to 512.
    total = torch.zeros(WIDTH, dtype=torch.bfloat16)
    for token in x[0, 0, : length // 2]:
        total = total + token
    assert ((total.double() / (length // 2) - exact[0, 0, 0]).abs() > 0.5).all()


class Means(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return segment_means(x, 5, mask)


@pytest.mark.parametrize("masked", [False, True])
def test_an_export_takes_any_length(masked: bool) -> None:
    batch, length = Dim("batch"), Dim("length")
    example = (_queries(2, 17), torch.ones(2, 17, dtype=torch.bool))[: 1 + masked]
    shapes = ({0: batch, 2: length}, {0: batch, 1: length})[: 1 + masked]
    program = export(Means(), example, dynamic_shapes=shapes).module()
    for counts in ([29, 11, 0], [3, 2], [1]):
        mask = _scattered(max(counts), counts if masked else [max(counts)] * len(counts))
        x = _queries(len(counts), max(counts)).masked_fill(~mask[:, None, :, None], torch.nan)
        means, kept = program(x, mask) if masked else program(x)
        assert means.shape == (len(counts), HEADS, 5, WIDTH)
        assert kept.tolist() == [[number < real for number in range(5)] for real in mask.sum(1).tolist()]
        for row in range(len(counts)):
            assert means[row, :, ~kept[row]].eq(0).all()
            if mask[row].any():
                torch.testing.assert_close(means[row, :, kept[row]], _literal(x[row], _places(mask, row), 5))
