"""Random augmentation of recordings: speed and gain of waveforms, masks over time and frequency in spectra."""

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from softformer.layers.padding import zero_pads
from softformer.layers.pooling import mean_pool
from softformer.models.audio.features import lengths_mask
from softformer.ops.options import Options


class AudioAugment(Options):
    """Augmentation of recordings in training; the defaults change nothing.

    Args:
        speeds: Factors of speed and pitch, of which each batch takes one at random: (0.9, 1.0, 1.1) is usual.
        gain: Largest change of the loudness of a recording (dB), without effect on normalized features.
        time_masks: Number of masks over time in a recording.
        time_width: Largest width of a mask over time, as a share of the recording.
        band_masks: Number of masks over mel bands.
        band_width: Largest width of a mask over mel bands, in bands.

    Raises:
        ValueError: An argument is out of range.

    Source: D. Park et al., "SpecAugment", 2019 (arXiv 1904.08779), with the widths in time of their adaptive form
    (arXiv 1912.05533); T. Ko et al., "Audio augmentation for speech recognition", 2015.
    """

    def __init__(
        self,
        speeds: tuple[float, ...] = (1.0,),
        gain: float = 0.0,
        time_masks: int = 0,
        time_width: float = 0.05,
        band_masks: int = 0,
        band_width: int = 27,
    ) -> None:
        if not speeds or min(speeds) <= 0.1 or max(speeds) > 10:
            raise ValueError(f"speeds must be factors between 0.1 and 10, one at least, got {speeds}")
        if gain < 0:
            raise ValueError(f"gain must be zero or positive (dB), got {gain}")
        if min(time_masks, band_masks) < 0 or band_width < 1:
            raise ValueError(
                "time_masks and band_masks must be zero or positive, and band_width at least 1, got "
                f"{time_masks}, {band_masks} and {band_width}"
            )
        if not 0 < time_width <= 1:
            raise ValueError(f"time_width must be a share of the recording in (0, 1], got {time_width}")
        self.speeds = tuple(speeds)
        self.gain = gain
        self.time_masks = time_masks
        self.time_width = time_width
        self.band_masks = band_masks
        self.band_width = band_width

    def waves(self, waves: Tensor, lengths: Tensor, *, shortest: int = 0) -> tuple[Tensor, Tensor]:
        """Change the speed and loudness of waveforms (B, T) of lengths (B,) samples; padding becomes zero.

        A recording of at least `shortest` samples that becomes shorter than that is extended by silence.
        """
        waves = waves.masked_fill(~lengths_mask(lengths, waves.shape[1]), 0)
        speed = self.speeds[int(torch.randint(len(self.speeds), ()))]
        if speed != 1.0:
            least = lengths.clamp(max=shortest)
            waves, lengths = changed_speed(waves, lengths, speed)
            waves, lengths = F.pad(waves, (0, max(0, shortest - waves.shape[1]))), lengths.maximum(least)
        if self.gain > 0:
            decibels = self.gain * (2 * torch.rand(waves.shape[0], 1, device=waves.device) - 1)
            waves = waves * 10 ** (decibels / 20)
        return waves, lengths

    def frames(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Replace masked values of frames (B, N, F) by the mean of their band; mask (B, N) is True at real frames."""
        if not self.time_masks and not self.band_masks:
            return frames
        batch, length, bands = frames.shape
        mean = mean_pool(frames, mask).unsqueeze(1)
        counts = mask.sum(1)
        for _ in range(self.time_masks):
            masked = _random_mask(counts, self.time_width * counts, length)
            frames = torch.where(masked.unsqueeze(2), mean, frames)
        whole = torch.full((batch,), bands, device=frames.device)
        for _ in range(self.band_masks):
            masked = _random_mask(whole, torch.full_like(whole, min(self.band_width, bands)), bands)
            frames = torch.where(masked.unsqueeze(1), mean, frames)
        return zero_pads(frames, mask)


def changed_speed(waves: Tensor, lengths: Tensor, speed: float) -> tuple[Tensor, Tensor]:
    """Waveforms (B, T) played `speed` times as fast, resampled by fractions of a hundredth, and their lengths."""
    old, new = round(100 * speed), 100
    resampled = torchaudio.functional.resample(waves, old, new)
    return resampled, torch.div(lengths * new + old - 1, old, rounding_mode="floor").clamp(max=resampled.shape[1])


def _random_mask(sizes: Tensor, widest: Tensor, length: int) -> Tensor:
    """(B, length) bool: a range of random width, up to `widest` (B,), at a random position in the first `sizes`."""
    random = torch.rand(2, sizes.shape[0], device=sizes.device)
    width = (random[0] * (widest.floor() + 1)).floor().minimum(sizes)
    start = (random[1] * (sizes - width + 1)).floor()
    position = torch.arange(length, device=sizes.device)
    return (position >= start.unsqueeze(1)) & (position < (start + width).unsqueeze(1))
