"""torch.jit.trace gives a function for any batch and length."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softformer.layers import (
    AdaptiveGridLandmarks,
    ConvGridLandmarks,
    ConvSegmentLandmarks,
    PooledGridLandmarks,
    SegmentLandmarks,
    SoftAttention,
    SoftmaxAttention,
)
from softformer.models.sequence import SoftEncoder, SoftOptions

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning", "ignore::torch.jit.TracerWarning")
DIM, HEADS = 20, 2

SEQUENCES: dict[str, Any] = {
    "attention": lambda: SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5)),
    "convolved landmarks": lambda: SoftAttention(DIM, HEADS, landmarks=ConvSegmentLandmarks(DIM // HEADS, 5)),
    "values convolved": lambda: SoftAttention(DIM, HEADS, landmarks=SegmentLandmarks(5), value_kernel=3),
    "softmax": lambda: SoftmaxAttention(DIM, HEADS),
    **{
        f"encoder, {positions}": lambda positions=positions: SoftEncoder(
            DIM, 2, HEADS, num_landmarks=5, positions=positions
        )
        for positions in ("none", "sinusoidal", "rotary")
    },
    "encoder, convolved landmarks": lambda: SoftEncoder(DIM, 1, HEADS, soft=SoftOptions(landmarks="conv")),
}


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("make", SEQUENCES.values(), ids=SEQUENCES)
def test_sequences(make: Any, masked: bool) -> None:
    module = make().eval()

    def inputs(batch: int, length: int) -> tuple[Tensor, ...]:
        return torch.randn(batch, length, DIM), *([torch.rand(batch, length) < 0.7] if masked else [])

    traced = torch.jit.trace(module, inputs(2, 17))
    for sizes in ((2, 17), (3, 29), (1, 20), (2, 3), (1, 1)):
        given = inputs(*sizes)
        torch.testing.assert_close(traced(*given), module(*given), rtol=1e-4, atol=1e-5)


class OnGrid(nn.Module):
    def __init__(self, landmarks: nn.Module) -> None:
        super().__init__()
        self.attention = SoftAttention(DIM, HEADS, landmarks=landmarks, value_kernel=3)

    def forward(self, image: Tensor) -> Tensor:
        return self.attention(image.flatten(2).mT, grid=image.shape[2:])


@pytest.mark.parametrize(
    "landmarks",
    [ConvGridLandmarks(DIM // HEADS, 2), PooledGridLandmarks(2), AdaptiveGridLandmarks(9)],
    ids=["convolved", "pooled", "adaptive"],
)
def test_grids(landmarks: nn.Module) -> None:
    module = OnGrid(landmarks).eval()
    traced = torch.jit.trace(module, torch.randn(2, DIM, 7, 5))
    for batch in (2, 3):
        image = torch.randn(batch, DIM, 7, 5)
        torch.testing.assert_close(traced(image), module(image), rtol=1e-4, atol=1e-5)
