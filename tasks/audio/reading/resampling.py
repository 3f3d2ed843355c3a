"""Waveforms at another sample rate, in bounded memory."""

import math
from fractions import Fraction

from torch import Tensor

from tasks.audio.extra import torchaudio

# Largest term of the ratio of sample rates; larger than those of all common rates.
_LARGEST_TERM = 1_000
# Samples of a chunk before or after resampling. torchaudio counts in float32, which is exact up to twice this number.
_CHUNK = 1 << 23
# The filters of torchaudio reach less than this number of samples of the lower rate to either side.
_REACH = 6.1


def resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample a waveform (T,) from `rate` to `new_rate` (Hz): (ceil(T new_rate / rate),), band-limited.

    The number of filters is a term of the reduced ratio of the rates; the filters of rates without a common factor
    would fill the memory. The nearest ratio of smaller terms replaces such a ratio, with a relative error below 0.001.
    Long waveforms are resampled in chunks, each with the samples around it that its filters reach.

    Source: J. Smith, "Digital audio resampling", by `torchaudio.functional.resample`.
    """
    ratio = Fraction(rate, new_rate).limit_denominator(_LARGEST_TERM)
    if ratio == 1:
        return waveform
    old, new = ratio.numerator, ratio.denominator
    # Filters begin at multiples of `old`, so chunks and the samples before them do as well.
    size = old * max(1, _CHUNK // max(old, new))
    around = old * math.ceil(_REACH * max(1.0, old / new) / old)
    if len(waveform) <= size:
        return torchaudio.functional.resample(waveform, old, new)
    result = waveform.new_empty(-(-len(waveform) * new // old))
    for start in range(0, len(waveform), size):
        before = min(start, around)
        chunk = torchaudio.functional.resample(waveform[start - before : start + size + around], old, new)
        part = result[start // old * new :][: size // old * new]
        part.copy_(chunk[before // old * new :][: len(part)])
    return result
