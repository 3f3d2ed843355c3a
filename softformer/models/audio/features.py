"""Sound as frames: log-mel spectra of windows, normalized over what was said and not over padding.

Letters: B batch, T samples, N frames, F mel bands. A recording has a length in samples; samples behind it are padding
and reach nothing, whatever they hold.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
import torchaudio
from torch import Tensor, nn

from softformer.layers.padding import zero_pads
from softformer.layers.pooling import mean_pool
from softformer.ops.precision import compute_dtype

Normalization = Literal["bands", "recording"]

# Below the power of 16-bit quantization noise; the logarithm of digital silence is that of this.
_FLOOR = 1e-10
# Frames that are computed at a time, those of all recordings of a batch together.
_CHUNK = 20_000


def lengths_mask(lengths: Tensor, size: int) -> Tensor:
    """(B, size) bool, True at the first `lengths` (B,) places."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


class LogMel(nn.Module):
    """Waveforms to frames: y[i, f] = log(max(sum_k mel[k, f] |X[i, k]|^2, 1e-10)).

    X is the discrete Fourier transform of a Hann window over samples i * hop to i * hop + window, filled up with zeros
    to a power of two. Only windows that lie within the recording make frames, so neither padding nor batch mates change
    one; a recording shorter than a window has none.

    Args:
        sample_rate: Samples a second (Hz).
        window: Length of a window (ms).
        hop: Distance of windows (ms).
        num_mels: Number of mel bands F.
        min_hz: Lowest frequency of the bands (Hz).
        max_hz: Highest frequency (Hz); None for half the sample rate.
        normalize: What is brought to mean 0 and standard deviation 1 over the frames of a recording: "recording", all
            bands together, which removes its loudness; "bands", each band, which removes its mean spectrum, too: that
            of the microphone and of the room, and, where a recording is short, that of what is said; None for nothing.

    Raises:
        ValueError: An argument is out of range, or bands are narrower than the resolution of the window.

    Source: S. Davis and P. Mermelstein, 1980; torchaudio's mel filters (HTK scale, triangles of height 1).
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
    ) -> None:
        super().__init__()
        if normalize not in (None, *get_args(Normalization)):
            raise ValueError(f"normalize must be bands, recording or None, got {normalize!r}")
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
        if num_mels < 1:
            raise ValueError(f"num_mels must be an integer of at least 1, got {num_mels}")
        self.num_mels = num_mels
        self.normalize = normalize
        self.size = 1 << (self.window - 1).bit_length()
        filters = torchaudio.functional.melscale_fbanks(
            self.size // 2 + 1, min_hz, max_hz, num_mels, sample_rate, norm=None, mel_scale="htk"
        )
        empty = int((filters.amax(0) == 0).sum())
        if empty:
            raise ValueError(
                f"num_mels={num_mels} makes {empty} bands narrower than the {sample_rate / self.size:.1f} Hz that a "
                f"window of {window:g} ms resolves; choose fewer bands, a longer window or a higher min_hz"
            )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("taper", torch.hann_window(self.window), persistent=False)
        self.filters: Tensor
        self.taper: Tensor

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Frames of recordings of so many samples (B,)."""
        return ((lengths - self.window) // self.hop + 1).clamp(min=0)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, N, F), zero at padding, and which are real, (B, N) bool.

        They are float32 whatever autocast says and the type of the network is, or float64: powers lie far outside the
        range of half precision.

        Args:
            waves: (B, T) samples in [-1, 1].
            lengths: (B,) int64, samples of each recording.
        """
        waves = waves.to(compute_dtype(waves, self.filters))
        with torch.autocast(waves.device.type, enabled=False):
            frames = torch.cat(list(self._chunks(waves, lengths)), 1)
        real = lengths_mask(self.num_frames(lengths), frames.shape[1])
        frames = zero_pads(frames, real)
        return (frames if self.normalize is None else normalized(frames, real, self.normalize)), real

    def _chunks(self, waves: Tensor, lengths: Tensor) -> Iterator[Tensor]:
        """Frames of the whole of waves (B, T), some at a time: memory beyond the result does not grow with T."""
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
            spectrum = torch.view_as_real(torch.fft.rfft(windows, self.size))
            power = spectrum.square().sum(-1)
            yield (power @ filters).clamp(min=_FLOOR).log()

    def extra_repr(self) -> str:
        return (
            f"sample_rate={self.sample_rate}, window={self.window} samples, hop={self.hop} samples, "
            f"num_mels={self.num_mels}, normalize={self.normalize}"
        )


def normalized(frames: Tensor, mask: Tensor, over: Normalization = "bands") -> Tensor:
    """Frames (B, N, F) at mean 0 and standard deviation 1 over real frames: each band of a recording, or the whole.

    What does not change, as in silence, becomes zero. The mask (B, N) tells real frames.
    """

    def mean(x: Tensor) -> Tensor:
        each = mean_pool(x, mask).unsqueeze(1)
        return each.mean(2, keepdim=True) if over == "recording" else each

    centred = zero_pads(frames - mean(frames), mask)
    variance = mean(centred.square())
    # At least 0.1, half a decibel of power: what varies less is noise of rounding, not sound. The root is taken of
    # what is never zero, as its gradient there is infinite.
    return centred / variance.clamp(min=0.01).sqrt()
