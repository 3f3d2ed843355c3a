"""What chance does to sound in training: speed and gain of waveforms, and stripes of spectra that are hidden.

Random numbers are torch's own; a training module seeds them by the place in the run.
"""

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from softformer.layers.padding import zero_pads
from softformer.layers.pooling import mean_pool
from softformer.models.audio.features import lengths_mask
from softformer.ops.options import Options


class AudioAugment(Options):
    """How training sounds are changed; the defaults change nothing.

    Args:
        speeds: Factors of speed, pitch included, of which each batch takes one: (0.9, 1.0, 1.1) is usual.
        gain: Most that a recording is made louder or softer (dB). Normalized features do not hear it.
        time_masks: Number of stretches of time that are hidden in a recording.
        time_width: Longest of these, as a share of the recording.
        band_masks: Number of stretches of mel bands that are hidden.
        band_width: Most bands of a stretch.

    Raises:
        ValueError: An argument is out of range.

    Source: D. Park et al., "SpecAugment", 2019 (arXiv 1904.08779), the widths in time as in their adaptive form (arXiv
    1912.05533); T. Ko et al., "Audio augmentation for speech recognition", 2015.
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
        """Waveforms (B, T) and their lengths (B,) with another speed and loudness; padding becomes zero.

        Args:
            waves: Samples.
            lengths: Samples of each.
            shortest: Samples that a recording keeps if it has them: one that would have fewer ends in silence.
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
        """Frames (B, N, F) with stripes set to the mean of their band; mask (B, N) tells real ones."""
        if not self.time_masks and not self.band_masks:
            return frames
        batch, length, bands = frames.shape
        mean = mean_pool(frames, mask).unsqueeze(1)
        counts = mask.sum(1)
        hidden = torch.zeros_like(mask)
        for _ in range(self.time_masks):
            hidden = hidden | _stretch(counts, self.time_width * counts, length)
        frames = torch.where(hidden.unsqueeze(2), mean, frames)
        whole = torch.full((batch,), bands, device=frames.device)
        for _ in range(self.band_masks):
            stripe = _stretch(whole, torch.full_like(whole, min(self.band_width, bands)), bands)
            frames = torch.where(stripe.unsqueeze(1), mean, frames)
        return zero_pads(frames, mask)


def changed_speed(waves: Tensor, lengths: Tensor, speed: float) -> tuple[Tensor, Tensor]:
    """Waveforms (B, T) played `speed` times as fast, resampled by fractions of a hundredth, and their lengths."""
    old, new = round(100 * speed), 100
    resampled = torchaudio.functional.resample(waves, old, new)
    return resampled, torch.div(lengths * new + old - 1, old, rounding_mode="floor").clamp(max=resampled.shape[1])


def _stretch(sizes: Tensor, widest: Tensor, places: int) -> Tensor:
    """(B, places) bool: a stretch of random width, up to `widest` (B,), at a random place among the first `sizes`."""
    chance = torch.rand(2, sizes.shape[0], device=sizes.device)
    width = (chance[0] * (widest.floor() + 1)).floor().minimum(sizes)
    start = (chance[1] * (sizes - width + 1)).floor()
    place = torch.arange(places, device=sizes.device)
    return (place >= start.unsqueeze(1)) & (place < (start + width).unsqueeze(1))
