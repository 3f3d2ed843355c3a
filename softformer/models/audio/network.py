"""Audio networks: waveforms in; hidden states, classes, or units of transcripts out.

Letters: B batch, T samples, N frames or tokens, F mel bands, C model width, K classes, V units.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.padding import zero_pads
from softformer.models.audio.augment import AudioAugment
from softformer.models.audio.features import LogMel, lengths_mask
from softformer.models.audio.windows import Windows, in_windows
from softformer.models.classifier import ClassifierNetwork, encoder_width
from softformer.ops.precision import compute_dtype

_NO_AUGMENT = AudioAugment()
# Frames that are subsampled at a time; a multiple of every factor.
_CHUNK = 1 << 15


class ConvSubsampling(nn.Module):
    """Frames to fewer tokens: convolutions of 3 x 3 over time and frequency with GELU, a linear layer, and LayerNorm.

    There is a convolution for each halving of time, but at least two; each halves the bands, too. Padding is set to
    zero before each convolution, so it has no effect. The LayerNorm makes tokens as large as the positions that an
    encoder adds.

    Args:
        num_bands: Width F of the frames.
        dim: Width C of the result.
        factor: Number of frames of a token: 1, 2, 4, or 8.
        channels: Width of the convolutions.

    Source: L. Dong et al., "Speech-Transformer", 2018; A. Gulati et al., "Conformer", 2020 (arXiv 2005.08100), but
    with fewer channels, so that the convolutions cost less than the encoder.
    """

    def __init__(self, num_bands: int, dim: int, factor: int = 4, channels: int = 32) -> None:
        super().__init__()
        if factor not in (1, 2, 4, 8):
            raise ValueError(f"subsampling must be 1, 2, 4 or 8, got {factor}")
        self.factor = factor
        halvings = factor.bit_length() - 1
        strides = [(2 if i < halvings else 1, 2) for i in range(max(2, halvings))]
        widths = [1] + [channels] * len(strides)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=stride, padding=1)
            for (before, after), stride in zip(pairwise(widths), strides)
        )
        bands = -(-num_bands // 2 ** len(strides))
        self.project = nn.Linear(channels * bands, dim)
        self.norm = nn.LayerNorm(dim)

    def num_tokens(self, frames: Tensor) -> Tensor:
        """Number of tokens of the given numbers of frames."""
        return (frames + self.factor - 1) // self.factor

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, ceil(N / factor), C) and their mask, of frames (B, N, F) and their mask (B, N)."""
        if frames.shape[1] == 0:  # convolutions do not support it
            return frames.new_zeros(frames.shape[0], 0, self.project.out_features), mask
        if frames.shape[1] <= _CHUNK or self.training:
            return self._subsample(frames, mask)
        # Chunks overlap by the frames of their neighbors on which their first and last tokens depend.
        around, chunks = 2 * self.factor, []
        for start in range(0, frames.shape[1], _CHUNK):
            before = min(start, around)
            part = slice(start - before, start + _CHUNK + around)
            inner = slice(before // self.factor, (before + _CHUNK) // self.factor)
            chunks.append([x[:, inner] for x in self._subsample(frames[:, part], mask[:, part])])
        tokens, real = (torch.cat(parts, 1) for parts in zip(*chunks))
        return tokens, real

    def _subsample(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.unsqueeze(1)
        for convolution in self.convolutions:
            x = F.gelu(convolution(x.masked_fill(~mask[:, None, :, None], 0)))
            mask = mask[:, :: convolution.stride[0]]  # type: ignore[index]
        return zero_pads(self.norm(self.project(x.transpose(1, 2).flatten(2))), mask), mask


class AudioBackbone(nn.Module):
    """Features, subsampling, and an encoder: waveforms to hidden states.

    Args:
        features: Waveforms to frames.
        encoder: Module called as ``encoder(x, mask)`` with x (B, N, C), whose attribute ``dim`` is C.
        subsampling: Number of frames of a token: 1, 2, 4, or 8.
        augment: Augmentation in training.
        windows: Windows of recordings that are longer than a window, outside training; None for no windows.

    Attributes:
        longest: Tokens of the longest recording in training, a buffer; 0 before training. Stored as a float: a moving
            average of an integer buffer would never change. With several processes it is the value of the first.

    Raises:
        ValueError: The encoder has no dim, or subsampling is another number.
    """

    def __init__(
        self,
        features: LogMel,
        encoder: nn.Module,
        *,
        subsampling: int = 4,
        augment: AudioAugment = _NO_AUGMENT,
        windows: Windows | None = None,
    ) -> None:
        super().__init__()
        self.dim = encoder_width(encoder)
        self.features = features
        self.subsampling = ConvSubsampling(features.num_mels, self.dim, subsampling)
        self.encoder = encoder
        self.augment = augment
        self.windows = windows
        self.register_buffer("longest", torch.zeros(()))
        self.longest: Tensor

    @property
    def token_seconds(self) -> float:
        """Distance of tokens in seconds."""
        return self.features.hop * self.subsampling.factor / self.features.sample_rate

    def num_tokens(self, lengths: Tensor) -> Tensor:
        """Numbers of tokens of recordings of `lengths` (B,) samples."""
        return self.subsampling.num_tokens(self.features.num_frames(lengths))

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, N, C), zero at padding, and their mask (B, N), of waveforms (B, T) of lengths (B,) samples.

        Waveforms are in [-1, 1], at the sample rate of the features.
        """
        size = 0 if self.training else self._window_tokens()
        most = int(self.num_tokens(torch.tensor(waves.shape[1])))
        if size and most > size and max(counts := self.num_tokens(lengths).tolist()) > size:
            hidden = in_windows(
                self._encode,
                waves,
                lengths,
                counts,
                size=size,
                overlap=self.windows.overlap if self.windows else 0.0,
                token_samples=self.subsampling.factor * self.features.hop,
                window_samples=(size * self.subsampling.factor - 1) * self.features.hop + self.features.window,
            )
            hidden = F.pad(hidden, (0, 0, 0, most - hidden.shape[1]))
            return hidden, lengths_mask(torch.tensor(counts, device=waves.device), most)
        return self._encode(waves, lengths)

    def _window_tokens(self) -> int:
        """Tokens of a window; 0 without windows."""
        if self.windows is None:
            return 0
        if self.windows.seconds is None:
            return round(float(self.longest))
        return max(1, round(self.windows.seconds / self.token_seconds))

    def _encode(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and their mask, of whole recordings."""
        # Like the features, resampling is a convolution that needs more than half precision.
        with torch.no_grad(), torch.autocast(waves.device.type, enabled=False):
            waves = waves.to(compute_dtype(waves))
            if self.training:
                waves, lengths = self.augment.waves(waves, lengths, shortest=self.features.window)
            frames, mask = self.features(waves, lengths)
            if self.training:
                frames = self.augment.frames(frames, mask)
        tokens, mask = self.subsampling(frames.to(self.subsampling.project.weight.dtype), mask)
        if self.training:
            with torch.no_grad():
                self.longest.copy_(torch.maximum(self.longest, mask.sum(1).max()))
        return self.encoder(tokens, mask), mask


class AudioClassifierNetwork(ClassifierNetwork):
    """A classifier of recordings on an `AudioBackbone`; arguments as in `ClassifierNetwork`."""

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, K) of waveforms (B, T) of `lengths` (B,) samples."""
        return self.classify(*self.backbone(waves, lengths))


class SpeechNetwork(nn.Module):
    """A backbone and a linear layer that predicts one of `num_units` units, unit 0 the blank of CTC, at each token.

    Source: A. Graves et al., "Connectionist temporal classification", 2006.
    """

    def __init__(self, backbone: AudioBackbone, num_units: int) -> None:
        super().__init__()
        if num_units < 2:
            raise ValueError(f"num_units must be an integer of at least 2, blank included, got {num_units}")
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, num_units)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, N, V), float32 or float64, and the numbers of real tokens (B,)."""
        hidden, mask = self.backbone(waves, lengths)
        logits = self.head(hidden)
        return logits.to(compute_dtype(logits)).log_softmax(-1), mask.sum(1)
