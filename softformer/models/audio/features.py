"""Log-mel features of waveforms, normalized over the real frames of each recording.

Letters: B batch, T samples, N frames, F mel bands. Samples after the length of a recording are padding and have no
effect.
"""

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
import torchaudio
from torch import Tensor, nn

from softformer.layers.padding import zero_pads
from softformer.layers.pooling import mean_pool
from softformer.ops.options import check_positive
from softformer.ops.precision import compute_dtype

Normalization = Literal["bands", "recording"]

# The energy of digital silence, whose logarithm must be finite; it is below the noise of 16-bit quantization.
_LEAST_ENERGY = 1e-10
# Frames that are computed at a time, over all recordings of a batch.
_CHUNK = 20_000


def lengths_mask(lengths: Tensor, size: int) -> Tensor:
    """Mask (B, size) that is True at the first `lengths` (B,) positions."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


class LogMel(nn.Module):
    """Log-mel features: y[i, f] = log(max(sum_k mel[k, f] |X[i, k]|^2, 1e-10)).

    X is the discrete Fourier transform of a Hann window over samples i * hop to i * hop + window, padded with zeros to
    a power of two. Only windows within the recording become frames, so neither padding nor the other recordings of a
    batch change a frame; a recording shorter than a window has no frames.

    Normalization makes each frame depend on all frames of its recording. Digital silence, far below the noise of any
    room, would shift all of them, so values are first raised to a floor relative to the largest value of the recording:
    y[i, f] = max(y[i, f], max(y) - top_db ln(10) / 10). Without normalization there is no floor.

    Args:
        sample_rate: Sample rate (Hz).
        window: Length of a window (ms).
        hop: Distance between windows (ms).
        num_mels: Number of mel bands F.
        min_hz: Lowest frequency of the bands (Hz).
        max_hz: Highest frequency of the bands (Hz); None for half the sample rate.
        normalize: Values of a recording whose mean becomes 0 and whose standard deviation becomes 1: "recording", all
            bands together, which removes the loudness; "bands", each band, which also removes the mean spectrum of the
            microphone and the room, and of the speech in short recordings; None for no normalization.
        top_db: Dynamic range of a recording before it is normalized (dB); None for no floor.

    Raises:
        ValueError: An argument is out of range, or bands are narrower than the resolution of the window.

    Source: S. Davis and P. Mermelstein, 1980; torchaudio's mel filters (HTK scale, triangles of height 1). librosa's
    ``power_to_db`` has the same floor, and so has Whisper, at 80 dB (A. Radford et al., 2022, arXiv 2212.04356).
    """

    def __init__(
        self,
        sample_rate: int = 16_000,
        *,
        window: float = 25.0,
        hop: float = 10.0,
        num_mels: int = 80,
        min_hz: float = 20.0,
        max_hz: float | None = None,
        normalize: Normalization | None = "bands",
        top_db: float | None = 80.0,
    ) -> None:
        super().__init__()
        if normalize not in (None, *get_args(Normalization)):
            raise ValueError(f"normalize must be bands, recording or None, got {normalize!r}")
        if top_db is not None and not top_db > 0:
            raise ValueError(f"top_db must be a positive number of dB, or None for no floor, got {top_db}")
        highest = sample_rate / 2
        max_hz = highest if max_hz is None else max_hz
        if sample_rate < 1:
            raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
        if not 0 <= min_hz < max_hz <= highest:
            raise ValueError(
                f"min_hz and max_hz must satisfy 0 <= min_hz < max_hz <= {highest:g} (half the sample rate), got "
                f"{min_hz:g} and {max_hz:g}"
            )
        self.sample_rate = sample_rate
        self.window = round(sample_rate * window / 1000)
        self.hop = round(sample_rate * hop / 1000)
        if self.window < 2 or self.hop < 1:
            raise ValueError(
                f"window and hop must be at least two samples and one, got {window:g} ms and {hop:g} ms at "
                f"{sample_rate} Hz"
            )
        self.num_mels = check_positive("num_mels", num_mels)
        self.normalize = normalize
        self.top_db = top_db
        self.size = 1 << (self.window - 1).bit_length()
        filters = torchaudio.functional.melscale_fbanks(
            self.size // 2 + 1, min_hz, max_hz, num_mels, sample_rate, norm=None, mel_scale="htk"
        )
        if empty := int((filters.amax(0) == 0).sum()):
            raise ValueError(
                f"num_mels={num_mels} makes {empty} bands narrower than the {sample_rate / self.size:.1f} Hz that a "
                f"window of {window:g} ms resolves; choose fewer bands, a longer window or a higher min_hz"
            )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("taper", torch.hann_window(self.window), persistent=False)
        self.filters: Tensor
        self.taper: Tensor

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Number of frames of recordings of `lengths` (B,) samples."""
        return ((lengths - self.window) // self.hop + 1).clamp(min=0)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, N, F), zero at padding, and their mask (B, N), of waveforms (B, T) of lengths (B,) samples.

        Waveforms are in [-1, 1]. The frames are float32, or float64 for a network of that type, also under autocast,
        because energies are far outside the range of half precision.
        """
        waves = waves.to(compute_dtype(waves, self.filters))
        with torch.autocast(waves.device.type, enabled=False):
            frames = torch.cat(list(self._chunks(waves, lengths)), 1)
        real = lengths_mask(self.num_frames(lengths), frames.shape[1])
        frames = zero_pads(frames, real)
        if self.normalize is None or frames.shape[1] == 0:
            return frames, real
        if self.top_db is not None:
            peak = frames.masked_fill(~real.unsqueeze(-1), -math.inf).amax((1, 2), keepdim=True)
            frames = frames.maximum(peak - self.top_db * math.log(10) / 10)
        return normalized(frames, real, self.normalize), real

    def _chunks(self, waves: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """Frames of waveforms (B, T) in chunks, so that memory beyond the result is constant in T."""
        total = max(0, (waves.shape[1] - self.window) // self.hop + 1)
        taper, filters = self.taper.to(waves.dtype), self.filters.to(waves.dtype)
        count = max(1, _CHUNK // max(1, waves.shape[0]))
        if total == 0:
            yield waves.new_zeros(waves.shape[0], 0, self.num_mels)
        for start in range(0, total, count):
            end = min(total, start + count)
            part = waves[:, start * self.hop : (end - 1) * self.hop + self.window]
            part = part.masked_fill(~lengths_mask(lengths - start * self.hop, part.shape[1]), 0)
            windows = part.unfold(1, self.window, self.hop) * taper
            power = torch.view_as_real(torch.fft.rfft(windows, self.size)).square().sum(-1)
            yield (power @ filters).clamp(min=_LEAST_ENERGY).log()

    def extra_repr(self) -> str:
        return (
            f"sample_rate={self.sample_rate}, window={self.window} samples, hop={self.hop} samples, "
            f"num_mels={self.num_mels}, normalize={self.normalize}, top_db={self.top_db}"
        )


def normalized(frames: Tensor, mask: Tensor, over: Normalization = "bands") -> Tensor:
    """Frames (B, N, F) with mean 0 and standard deviation 1 over the real frames of each recording, as in `LogMel`.

    Constant values, as in silence, become zero.
    """

    def mean(x: Tensor) -> Tensor:
        bands = mean_pool(x, mask).unsqueeze(1)
        return bands.mean(2, keepdim=True) if over == "recording" else bands

    centered = zero_pads(frames - mean(frames), mask)
    variance = mean(centered.square())
    # A standard deviation below 0.1, half a decibel of energy, is rounding noise. The clamp comes before the root,
    # whose gradient at zero is infinite.
    return centered / variance.clamp(min=0.01).sqrt()
