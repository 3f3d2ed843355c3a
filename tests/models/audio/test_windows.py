"""Overlapping windows: every token once, from the middle of its window; neighbours, padding and other lengths change
nothing.
"""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from softformer.models.audio.augment import AudioAugment
from softformer.models.audio.features import LogMel, Normalization, lengths_mask
from softformer.models.audio.network import AudioBackbone
from softformer.models.audio.windows import Windows, windows_of
from softformer.models.sequence import SoftEncoder

# 16 ms and 8 ms, in samples; a token is 4 frames.
RATE, HOP = 8_000, 64
DIM, BANDS = 14, 13
TOKEN = 4 * HOP
# The second is of one window, the third of one token, the fourth of none.
LENGTHS = [61 * TOKEN + 17, 19 * TOKEN, 130, 100, 20 * TOKEN]


class _Ordinary(nn.Module):
    """An encoder that looks at each token alone."""

    dim = DIM

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x


class _Counting(_Ordinary):
    """One that also keeps the lengths it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        self.lengths += mask.sum(1).tolist()
        return x


def _backbone(
    windows: Windows | None, encoder: nn.Module | None = None, normalize: Normalization | None = None
) -> AudioBackbone:
    torch.manual_seed(1)
    features = LogMel(RATE, window=16.0, hop=8.0, num_mels=BANDS, normalize=normalize)
    return AudioBackbone(features, encoder or _Ordinary(), windows=windows).double().eval()


def _batch(lengths: list[int], extra: int = 0) -> tuple[Tensor, Tensor]:
    counts = torch.tensor(lengths)
    waves = torch.randn(len(lengths), max(lengths) + extra, generator=torch.Generator().manual_seed(2)).double()
    return waves.masked_fill(~lengths_mask(counts, waves.shape[1]), torch.nan), counts


@pytest.mark.parametrize(("size", "overlap"), [(7, 0.25), (10, 0.0), (10, 0.5), (3, 0.9), (1, 0.25), (64, 0.25)])
def test_each_token_is_kept_once_and_windows_overlap_as_asked(size: int, overlap: float) -> None:
    for length in range(1, 131):
        windows = windows_of(3, length, size, overlap)
        assert [token for w in windows for token in range(w.first, w.end)] == list(range(length))
        assert [w.last for w in windows] == [False] * (len(windows) - 1) + [True]
        if length <= size:
            assert len(windows) == 1
            continue
        assert windows[0].start == 0
        assert windows[-1].start == length - size
        for before, after in itertools.pairwise(windows):
            common = before.start + size - after.start
            assert common >= min(overlap * size, size - 1)
            assert before.end - before.start <= size
            # Both lack as much of what is around the place where they part, but for the half of a token.
            assert abs((before.start + size - before.end) - (after.first - after.start)) <= 1
    assert windows_of(0, 0, size, overlap) == []


@pytest.mark.parametrize("extra", [0, 5 * TOKEN + 3])
def test_what_looks_around_itself_alone_is_the_same_in_windows(extra: int) -> None:
    """Each token sees a few frames around it: with an overlap, windows give what one pass gives."""
    waves, lengths = _batch(LENGTHS, extra)
    expected, mask = _backbone(None)(waves, lengths)
    found, real = _backbone(Windows(20 * TOKEN / RATE, overlap=0.3))(waves, lengths)
    assert torch.equal(real, mask)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_windows_are_as_long_as_they_should_be() -> None:
    encoder = _Counting()
    backbone = _backbone(Windows(20 * TOKEN / RATE, overlap=0.25), encoder)
    waves, lengths = _batch(LENGTHS)
    backbone(waves, lengths)
    # 61 tokens in four windows; the others fit in one, but for that of no token.
    assert encoder.lengths == [20, 20, 20, 20, 19, 1, 20]


def test_neighbours_and_padding_change_nothing() -> None:
    encoder = SoftEncoder(DIM, 1, 2, num_landmarks=7)
    backbone = _backbone(Windows(20 * TOKEN / RATE), encoder, normalize="bands")
    waves, lengths = _batch(LENGTHS, extra=999)
    together, mask = backbone(waves, lengths)
    assert together[~mask].eq(0).all()
    for row, length in enumerate(LENGTHS):
        alone, _ = backbone(waves[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(together[row, mask[row]], alone[0], rtol=1e-10, atol=1e-10)


def test_gradients_go_through_windows() -> None:
    backbone = _backbone(Windows(20 * TOKEN / RATE, overlap=0.3))
    plain = _backbone(None)
    waves, lengths = _batch(LENGTHS)
    for network in (backbone, plain):
        network(waves, lengths)[0].square().sum().backward()
    for (name, ours), theirs in zip(backbone.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            ours.grad, theirs.grad, rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_a_window_is_as_long_as_the_longest_of_the_training() -> None:
    encoder = _Counting()
    backbone = _backbone(Windows(), encoder)
    waves, lengths = _batch(LENGTHS)
    assert int(backbone.longest) == 0
    backbone(waves, lengths)  # in one pass, as nothing was trained on
    backbone.train()
    backbone(waves[1:3, : LENGTHS[1]], lengths[1:3])
    backbone(waves[2:3, : LENGTHS[2]], lengths[2:3])  # a shorter one does not count
    backbone.eval()
    assert int(backbone.longest) == 19
    encoder.lengths.clear()
    fresh = _backbone(Windows(), encoder)
    fresh.load_state_dict(backbone.state_dict())
    fresh(waves, lengths)
    assert max(encoder.lengths) == 19
    encoder.lengths.clear()
    fresh.windows = None
    fresh(waves, lengths)
    assert max(encoder.lengths) == 61


def test_the_moving_average_of_a_network_learns_the_longest() -> None:
    backbone = _backbone(Windows(), _Counting()).train()
    average = AveragedModel(backbone, avg_fn=get_ema_avg_fn(0.9), use_buffers=True)
    for waves, lengths in [_batch(LENGTHS[2:3]), *[_batch(LENGTHS)] * 40]:
        backbone(waves, lengths)
        average.update_parameters(backbone)
    assert backbone.longest == 61
    assert average.module._window_tokens() == 60  # 0.9 ** 40 of the way is left


def test_training_hears_whole_recordings() -> None:
    encoder = _Counting()
    backbone = _backbone(Windows(20 * TOKEN / RATE), encoder)
    backbone.augment = AudioAugment()
    backbone.train()(*_batch(LENGTHS))
    assert max(encoder.lengths) == 61


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0.0}, "seconds must be positive, or None for the longest of the training, got 0.0"),
        ({"overlap": 1.0}, r"overlap must be a share of a window in \[0, 1\), got 1.0"),
        ({"overlap": -0.1}, r"overlap must be a share of a window in \[0, 1\), got -0.1"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Windows(**options)
