"""Depthwise convolutions of tokens and the value convolution."""

import pytest
import torch
from torch import Tensor

from softformer.layers.convolution import ValueConvolution, convolve_grid, convolve_sequence


def test_grid_convolution_is_the_sum_over_neighbours() -> None:
    height, width, channels = 5, 3, 7
    x = torch.randn(2, height * width, channels, dtype=torch.float64)
    weight = torch.randn(channels, 1, 3, 3, dtype=torch.float64)
    picture = x.reshape(2, height, width, channels)
    expected = torch.zeros_like(picture)
    for i in range(height):
        for j in range(width):
            for a in range(3):
                for b in range(3):
                    if 0 <= i + a - 1 < height and 0 <= j + b - 1 < width:
                        expected[:, i, j] += picture[:, i + a - 1, j + b - 1] * weight[:, 0, a, b]
    out = convolve_grid(x, weight, (height, width))
    torch.testing.assert_close(out, expected.flatten(1, 2))


def test_sequence_convolution_is_that_of_a_grid_of_one_row() -> None:
    x, weight = torch.randn(2, 11, 3), torch.randn(3, 1, 5)
    expected = torch.nn.functional.conv1d(x.mT, weight, padding=2, groups=3).mT
    torch.testing.assert_close(convolve_sequence(x, weight), expected)
    assert convolve_sequence(x[:, :0], weight).shape == (2, 0, 3)


def _shared_filter(conv: ValueConvolution, value: Tensor, heads: int) -> Tensor:
    """The convolution head by head: the filter of a head convolves an image of each of its channels."""
    parts = value.unflatten(-1, (heads, -1)).unbind(2)
    return torch.cat(
        [
            convolve_sequence(part, conv.weight[h : h + 1].expand(part.shape[-1], -1, -1))
            for h, part in enumerate(parts)
        ],
        dim=-1,
    )


def test_a_head_has_one_filter() -> None:
    conv = ValueConvolution(3, 5, axes=1)
    value = torch.randn(2, 11, 3 * 7)
    torch.testing.assert_close(conv(value), _shared_filter(conv, value, 3))


def test_pads_between_tokens_do_not_count_as_neighbours() -> None:
    conv = ValueConvolution(2, 3, axes=1).double()
    mask = torch.tensor([[1, 0, 1, 1, 0, 0, 1], [0, 1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    value = torch.randn(2, 7, 6, dtype=torch.float64).masked_fill(~mask[..., None], torch.nan).requires_grad_()
    out = conv(value, mask=mask)
    for row in range(2):
        torch.testing.assert_close(out[row, mask[row]], conv(value[row, mask[row]][None])[0])
    assert out[~mask].eq(0).all()
    out[mask].sum().backward()
    assert value.grad is not None
    assert value.grad[~mask].eq(0).all()
    assert conv.weight.grad is not None
    assert conv.weight.grad.isfinite().all()


@pytest.mark.parametrize("kernel_size", [2, -1])
def test_kernels_are_odd(kernel_size: int) -> None:
    with pytest.raises(ValueError, match="value_kernel must be odd"):
        ValueConvolution(2, kernel_size)


def test_two_axes_need_a_grid() -> None:
    with pytest.raises(ValueError, match="grid must be given"):
        ValueConvolution(2, 3)(torch.randn(1, 9, 4))
    with pytest.raises(ValueError, match="mask must be None for a value convolution over two axes"):
        ValueConvolution(2, 3)(torch.randn(1, 9, 4), grid=(3, 3), mask=torch.ones(1, 9, dtype=torch.bool))
