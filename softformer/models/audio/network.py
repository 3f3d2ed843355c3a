"""Sound networks: waveforms in; hidden states, classes or characters out.

Letters: B batch, T samples, N frames, F mel bands, C model width, K classes, V units of writing.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.padding import zero_pads
from softformer.layers.pooling import Pooling, PoolingKind
from softformer.models.audio.augment import AudioAugment
from softformer.models.audio.features import LogMel, lengths_mask
from softformer.models.audio.windows import Windows, in_windows
from softformer.ops.precision import compute_dtype

_NO_AUGMENT = AudioAugment()
# Frames that are subsampled at a time; a multiple of every factor.
_CHUNK = 1 << 15


class ConvSubsampling(nn.Module):
    """Frames to fewer tokens: convolutions of 3 x 3 over time and frequency with GELU, a linear layer and LayerNorm.

    There is a convolution for each halving of time, two at least; each halves the bands, too. Padding is zero before
    each, so it changes nothing. The LayerNorm makes tokens as large as the positions that an encoder adds, which would
    drown them otherwise.

    Args:
        num_bands: Width F of the frames.
        dim: Width C of the result.
        factor: How many frames become one token: 1, 2, 4 or 8.
        channels: Width of the convolutions.

    Raises:
        ValueError: The factor is another number.

    Source: L. Dong et al., "Speech-Transformer", 2018; A. Gulati et al., "Conformer", 2020 (arXiv 2005.08100), but
    with fewer channels, whose cost would otherwise exceed that of the encoder.
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
        """What so many frames become."""
        return (frames + self.factor - 1) // self.factor

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, N, F) with the mask (B, N) to tokens (B, ceil(N / factor), C) with theirs."""
        if frames.shape[1] == 0:  # which a convolution refuses
            return frames.new_zeros(frames.shape[0], 0, self.project.out_features), mask
        if frames.shape[1] <= _CHUNK or self.training:
            return self._whole(frames, mask)
        # Stretches overlap by what the first and last token of one see of its neighbours.
        around, found = 2 * self.factor, []
        for start in range(0, frames.shape[1], _CHUNK):
            before = min(start, around)
            part = slice(start - before, start + _CHUNK + around)
            tokens, real = self._whole(frames[:, part], mask[:, part])
            skipped, count = before // self.factor, _CHUNK // self.factor
            found.append((tokens[:, skipped : skipped + count], real[:, skipped : skipped + count]))
        return torch.cat([tokens for tokens, _ in found], 1), torch.cat([real for _, real in found], 1)

    def _whole(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.unsqueeze(1)
        for convolution in self.convolutions:
            x = F.gelu(convolution(x.masked_fill(~mask[:, None, :, None], 0)))
            mask = mask[:, :: convolution.stride[0]]  # type: ignore[index]
        return zero_pads(self.norm(self.project(x.transpose(1, 2).flatten(2))), mask), mask


class AudioBackbone(nn.Module):
    """What the heads stand on: features, subsampling and an encoder of frames.

    Args:
        features: Waveforms to frames.
        encoder: Tokens in, tokens out: called as ``encoder(x, mask)`` with x (B, N, C), and has ``dim``, which is C.
        subsampling: How many frames become one token: 1, 2, 4 or 8.
        augment: What chance changes in training.
        windows: How recordings are heard, outside training, that are longer than those of the training; None hears
            every recording in one pass.

    Attributes:
        longest: Tokens of the longest recording of the training, a buffer; 0 before any. It is no integer, whose
            moving average would never move. Of several processes it is the longest that the first one met.

    Raises:
        ValueError: The encoder has no dim.
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
        dim = getattr(encoder, "dim", None)
        if not isinstance(dim, int):
            raise ValueError(
                f"encoder must have its width as the attribute dim, got {type(encoder).__name__}, which has "
                f"{'none' if dim is None else repr(dim)}"
            )
        self.dim = dim
        self.features = features
        self.subsampling = ConvSubsampling(features.num_mels, dim, subsampling)
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
        """Tokens of recordings of so many samples (B,)."""
        return self.subsampling.num_tokens(self.features.num_frames(lengths))

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, N, C), zero at padding, and which are real, (B, N) bool.

        Args:
            waves: (B, T) samples in [-1, 1] at the features' sample rate.
            lengths: (B,) int64, samples of each recording; what lies behind changes nothing.
        """
        size = 0 if self.training else self._window_tokens()
        most = int(self.num_tokens(torch.tensor(waves.shape[1])))
        if size and most > size and max(counts := self.num_tokens(lengths).tolist()) > size:
            hidden = in_windows(
                self._whole,
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
        return self._whole(waves, lengths)

    def _window_tokens(self) -> int:
        """Tokens of a window; 0 where every recording is heard in one pass."""
        if self.windows is None:
            return 0
        if self.windows.seconds is None:
            return round(float(self.longest))
        return max(1, round(self.windows.seconds / self.token_seconds))

    def _whole(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states of recordings in one pass."""
        # Resampling, which is a convolution, is no matter for half precision either.
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


class AudioClassifierNetwork(nn.Module):
    """A backbone, a pooling over real tokens, dropout and a linear layer.

    Args:
        backbone: Waveforms to hidden states.
        num_classes: Number of classes K.
        pooling: "mean", "cls" (the first token) or "attention".
        dropout: Dropout rate before the linear layer.
    """

    def __init__(
        self, backbone: AudioBackbone, num_classes: int, *, pooling: PoolingKind = "mean", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be an integer of at least 1, got {num_classes}")
        self.backbone = backbone
        self.pooling = Pooling(pooling, backbone.dim)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.dim, num_classes)

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, K) of waveforms (B, T) of `lengths` (B,) samples."""
        hidden, mask = self.backbone(waves, lengths)
        return self.head(self.drop(self.pooling(hidden, mask)))


class SpeechNetwork(nn.Module):
    """A backbone and a linear layer that names a unit of writing, or none, at each token.

    Args:
        backbone: Waveforms to hidden states.
        num_units: Number of units V, the blank of CTC included, which is unit 0.

    Source: A. Graves et al., "Connectionist temporal classification", 2006.
    """

    def __init__(self, backbone: AudioBackbone, num_units: int) -> None:
        super().__init__()
        if num_units < 2:
            raise ValueError(f"num_units must be an integer of at least 2, blank included, got {num_units}")
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, num_units)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of probabilities (B, N, V), float32 or float64, and how many of the N are real, (B,)."""
        hidden, mask = self.backbone(waves, lengths)
        logits = self.head(hidden)
        return logits.to(compute_dtype(logits)).log_softmax(-1), mask.sum(1)
