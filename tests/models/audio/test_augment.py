"""Augmentation of sound: lengths and pitch of other speeds, decibels, shares and places of what is hidden, seeds."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from softformer.models.audio.augment import AudioAugment, changed_speed
from softformer.models.audio.features import lengths_mask

RATE = 8_000
LENGTHS = [4_001, 401, 0, 1_999, 1]
SAMPLES = 4_507
FRAMES, BANDS = 211, 31
COUNTS = [211, 97, 0, 13, 1]


def _waves() -> tuple[Tensor, Tensor]:
    """Recordings with NaN behind them."""
    lengths = torch.tensor(LENGTHS)
    return torch.randn(len(LENGTHS), SAMPLES).masked_fill(~lengths_mask(lengths, SAMPLES), torch.nan), lengths


def _frames() -> tuple[Tensor, Tensor]:
    """Frames far from zero, of which those of the recording with one frame alone are their own mean."""
    mask = lengths_mask(torch.tensor(COUNTS), FRAMES)
    return (1 + torch.rand(len(COUNTS), FRAMES, BANDS)).masked_fill(~mask.unsqueeze(-1), 0), mask


def _hidden(found: Tensor, frames: Tensor) -> Tensor:
    """Where frames were changed, (B, N, F) bool; to the mean of their band, and nowhere else."""
    hidden = found.ne(frames)
    counts = torch.tensor(COUNTS).clamp(min=1).view(-1, 1, 1)
    mean = (frames.double().sum(1, keepdim=True) / counts).expand_as(frames)
    torch.testing.assert_close(found[hidden].double(), mean[hidden], rtol=1e-6, atol=0)
    return hidden


def _runs(hidden: Tensor) -> list[tuple[int, int]]:
    """Beginnings and ends of the stretches of True in (n,)."""
    edges = torch.nn.functional.pad(hidden.int(), (1, 1)).diff()
    return list(zip((edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist()))


def test_the_defaults_change_nothing_but_padding() -> None:
    augment = AudioAugment()
    waves, lengths = _waves()
    found, kept = augment.waves(waves, lengths)
    assert torch.equal(kept, lengths)
    assert torch.equal(found, waves.nan_to_num(0))
    frames, mask = _frames()
    assert torch.equal(augment.frames(frames, mask), frames)


@pytest.mark.parametrize("speed", [0.9, 1.1, 0.83, 2.0])
def test_another_speed_changes_lengths_and_pitch(speed: float) -> None:
    hz = 440.0
    waves = torch.sin(2 * math.pi * hz * torch.arange(8_000) / RATE).repeat(3, 1)
    lengths = torch.tensor([8_000, 4_001, 1])
    found, shorter = changed_speed(waves.masked_fill(~lengths_mask(lengths, 8_000), 0), lengths, speed)
    hundredths = round(100 * speed)
    assert shorter.tolist() == [-(-length * 100 // hundredths) for length in lengths.tolist()]
    assert found.shape[1] == shorter.max()
    for row in (0, 1):
        count = int(shorter[row])
        spectrum = torch.fft.rfft(found[row, :count] * torch.hann_window(count)).abs()
        assert spectrum.argmax().item() * RATE / count == pytest.approx(hz * speed, abs=RATE / count)


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_padding_and_batch_mates_change_nothing_at_another_speed(speed: float) -> None:
    augment = AudioAugment(speeds=(speed,))
    waves, lengths = _waves()
    found, shorter = augment.waves(waves, lengths)
    assert found.isfinite().all()
    for row, length in enumerate(LENGTHS):
        if length:
            alone, count = augment.waves(waves[row : row + 1, :length], lengths[row : row + 1])
            assert count.tolist() == [int(shorter[row])]
            torch.testing.assert_close(found[row, : int(count)], alone[0, : int(count)], rtol=1e-5, atol=1e-5)


def test_a_recording_keeps_a_window() -> None:
    augment = AudioAugment(speeds=(1.25,))
    waves, lengths = torch.rand(3, 100), torch.tensor([100, 50, 30])
    for shortest, expected in ((0, [80, 40, 24]), (40, [80, 40, 30]), (90, [90, 50, 30]), (120, [100, 50, 30])):
        found, counts = augment.waves(waves, lengths, shortest=shortest)
        assert counts.tolist() == expected
        assert found.shape[1] >= max(expected)
        torch.testing.assert_close(found[:, :80], augment.waves(waves, lengths)[0])
        assert not found[:, 80:].any()


def test_each_batch_takes_one_of_the_speeds() -> None:
    augment = AudioAugment(speeds=(0.8, 1.0, 1.25))
    waves, lengths = torch.randn(2, 1_000), torch.tensor([1_000, 500])
    drawn = [augment.waves(waves, lengths)[1].tolist() for _ in range(150)]
    counts = [drawn.count(expected) for expected in ([1_250, 625], [1_000, 500], [800, 400])]
    assert sum(counts) == 150
    assert min(counts) > 25


def test_gain_is_in_decibels_and_differs_between_recordings() -> None:
    augment = AudioAugment(gain=6.0)
    waves, lengths = torch.rand(997, 7) + 0.1, torch.full((997,), 7)
    found, kept = augment.waves(waves, lengths)
    assert torch.equal(kept, lengths)
    decibels = 20 * (found / waves).log10()
    torch.testing.assert_close(decibels, decibels[:, :1].expand_as(decibels), rtol=0, atol=1e-4)
    each = decibels[:, 0]
    assert -6.001 <= each.min() < -5.9
    assert 5.9 < each.max() <= 6.001
    assert each.mean().abs() < 0.5
    assert each.std().item() == pytest.approx(6 / 3**0.5, rel=0.1)


def test_time_masks_hide_whole_frames_up_to_their_share() -> None:
    """Also of recordings whose share is no whole number of frames."""
    augment = AudioAugment(time_masks=1, time_width=0.1)
    frames, mask = _frames()
    widths: list[list[int]] = [[] for _ in COUNTS]
    places: list[int] = []
    for _ in range(997):
        hidden = _hidden(augment.frames(frames, mask), frames)
        assert torch.equal(hidden.any(-1), hidden.all(-1))
        for row, stripe in enumerate(hidden.all(-1)):
            runs = _runs(stripe)
            assert len(runs) <= 1
            widths[row].append(sum(end - start for start, end in runs))
            places += [place for start, end in runs if row == 0 for place in range(start, end)]
    assert [max(several) for several in widths] == [21, 9, 0, 1, 0]
    assert set(widths[0]) == set(range(22))
    assert sum(widths[0]) / 997 == pytest.approx(10.5, rel=0.1)
    counts = torch.tensor(places).bincount(minlength=FRAMES)
    assert counts[:5].sum() > 0
    assert counts[-5:].sum() > 0
    assert counts[50:100].sum().item() == pytest.approx(counts[110:160].sum().item(), rel=0.4)


def test_several_time_masks() -> None:
    augment = AudioAugment(time_masks=3, time_width=0.05)
    frames, mask = _frames()
    several = []
    for _ in range(199):
        hidden = _hidden(augment.frames(frames, mask), frames)[0].all(-1)
        several.append(len(_runs(hidden)))
        assert hidden.sum() <= 3 * 10
    assert max(several) == 3


def test_band_masks_hide_bands_of_all_frames() -> None:
    augment = AudioAugment(band_masks=2, band_width=5)
    frames, mask = _frames()
    widths: list[int] = []
    seen = torch.zeros(BANDS, dtype=torch.int64)
    rows_differ = False
    for _ in range(499):
        hidden = _hidden(augment.frames(frames, mask), frames)
        stripes = torch.stack([hidden[row, :count].all(0) for row, count in enumerate(COUNTS) if count > 1])
        for row, stripe in zip((0, 1, 3), stripes):
            assert torch.equal(hidden[row, : COUNTS[row]], stripe.expand(COUNTS[row], -1))
            assert stripe.sum() <= 10
            assert len(_runs(stripe)) <= 2
        rows_differ = rows_differ or bool((stripes != stripes[:1]).any())
        widths.append(int(stripes[0].sum()))
        seen += stripes[0]
    assert rows_differ
    assert min(widths) == 0
    assert max(widths) > 5
    assert seen.min() > 0


def test_a_stripe_is_at_most_all_bands() -> None:
    frames, mask = _frames()
    augment = AudioAugment(band_masks=1, band_width=1_000)
    found = [_hidden(augment.frames(frames, mask), frames)[0, : COUNTS[0]] for _ in range(199)]
    assert max(int(each.all(0).sum()) for each in found) == BANDS


def test_padding_changes_nothing_in_what_is_hidden() -> None:
    augment = AudioAugment(time_masks=2, time_width=0.2, band_masks=1, band_width=7)
    frames, mask = _frames()
    torch.manual_seed(5)
    found = augment.frames(frames, mask)
    torch.manual_seed(5)
    longer = augment.frames(torch.nn.functional.pad(frames, (0, 0, 0, 19)), torch.nn.functional.pad(mask, (0, 19)))
    torch.testing.assert_close(longer[:, :FRAMES], found, rtol=1e-6, atol=0)  # means are rounded


def test_the_same_seed_gives_the_same() -> None:
    augment = AudioAugment(speeds=(0.9, 1.0, 1.1), gain=9.0, time_masks=2, band_masks=2, band_width=7)
    waves, lengths = _waves()
    frames, mask = _frames()

    def changed(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(seed)
        return *augment.waves(waves, lengths), augment.frames(frames, mask)

    first, again, other = changed(3), changed(3), changed(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[2], other[2])


def test_options_are_compared_by_value() -> None:
    assert AudioAugment() == AudioAugment(gain=0.0)
    assert AudioAugment(speeds=(0.9, 1.1)) != AudioAugment()
    assert len({AudioAugment(), AudioAugment(), AudioAugment(gain=1.0)}) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speeds": ()}, r"speeds must be factors between 0.1 and 10, one at least, got \(\)"),
        ({"speeds": (1.0, 0.0)}, "speeds must be factors between 0.1 and 10"),
        ({"speeds": (11.0,)}, "speeds must be factors between 0.1 and 10"),
        ({"gain": -1.0}, r"gain must be zero or positive \(dB\), got -1.0"),
        ({"time_masks": -1}, "time_masks and band_masks must be zero or positive"),
        ({"band_masks": -1}, "band_width at least 1, got 0, -1 and 27"),
        ({"band_width": 0}, "band_width at least 1, got 0, 0 and 0"),
        ({"time_width": 0.0}, r"time_width must be a share of the recording in \(0, 1\], got 0.0"),
        ({"time_width": 1.1}, "time_width must be a share"),
    ],
)
def test_errors_name_the_argument(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AudioAugment(**options)
