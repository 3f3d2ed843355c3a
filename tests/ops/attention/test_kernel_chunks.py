"""Kernel matrices in chunks: their values for any distances and masks, and the division of tokens into chunks."""

import pytest
import torch
from torch import Tensor

from softformer.ops.attention import reference
from softformer.ops.attention.kernel_chunks import KernelChunks


def kernel_of(x: Tensor, mask: Tensor | None, points: Tensor, landmark_mask: Tensor | None, size: int) -> Tensor:
    """P (b, H, N, M), as its product with the identity."""
    batch, heads, num_landmarks = points.shape[:3]
    chunks = KernelChunks(x, mask, points, landmark_mask, size)
    out = points.new_full((batch, heads, x.shape[2], num_landmarks), torch.nan)
    chunks.expand(torch.eye(num_landmarks, dtype=points.dtype).expand(batch, heads, -1, -1), out)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 7.0, 60.0])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_kernel_at_any_distance(dtype: torch.dtype, scale: float, size: int) -> None:
    """Subnormal kernel entries are zero, because processors are slow with subnormal numbers."""
    generator = torch.Generator().manual_seed(0)
    x = scale * torch.randn(2, 3, 173, 5, generator=generator, dtype=dtype)
    points = torch.randn(2, 3, 7, 5, generator=generator, dtype=dtype)
    x[..., :7, :] = points
    kernel = kernel_of(x, None, points, None, size)
    exact = reference.gaussian_kernel(x.double(), points.double())
    assert not ((kernel > 0) & (kernel < torch.finfo(dtype).tiny)).any()
    if scale == 60.0:
        assert (kernel == 0).float().mean() > 0.5
    torch.testing.assert_close(kernel.double(), exact, rtol=1e-3 if dtype == torch.float32 else 1e-10, atol=1e-36)
    assert kernel.max() <= 1


def test_selected_away_whatever_stands_there() -> None:
    generator = torch.Generator().manual_seed(0)
    x, points = torch.randn(2, 3, 173, 5, generator=generator), torch.randn(2, 3, 7, 5, generator=generator)
    mask, landmark_mask = torch.rand(2, 173, generator=generator) < 0.7, torch.rand(2, 7, generator=generator) < 0.7
    law = reference.masked_kernel(x, points, mask, landmark_mask)
    for pad in (torch.nan, torch.inf, -torch.inf, 3e38):
        poisoned = x.masked_fill(~mask[:, None, :, None], pad)
        kernel = kernel_of(poisoned, mask, reference.select_rows(points, landmark_mask), landmark_mask, 1)
        torch.testing.assert_close(kernel, law, rtol=1e-5, atol=1e-6)
        assert (kernel[~mask[:, None, :, None].expand_as(kernel)] == 0).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_bad_real_tokens_stay_visible(bad: float) -> None:
    """NaN in a real token is not hidden."""
    x, points = torch.randn(1, 1, 13, 5), torch.randn(1, 1, 7, 5)
    x[0, 0, 3, 2] = bad
    kernel = kernel_of(x, None, points, None, 1 << 20)
    assert kernel[0, 0, 3].isnan().all()
    assert kernel[0, 0, [*range(3), *range(4, 13)]].isfinite().all()


@pytest.mark.parametrize(
    ("length", "most"), [(0, 64), (1, 64), (64, 64), (65, 64), (12544, 2674), (173, 64), (4097, 128)]
)
def test_chunks_cover_each_token_once(length: int, most: int) -> None:
    chunks = KernelChunks(torch.randn(1, 1, length, 3), None, torch.randn(1, 1, 1, 3), None, most)
    spans = [(chunk.start, chunk.stop) for chunk, _ in chunks._chunks()]
    assert [token for span in spans for token in range(*span)] == list(range(length))
    assert all(stop - start <= most + 15 for start, stop in spans)
    assert len(spans) == -(-length // most)
