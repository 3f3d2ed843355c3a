"""Waveforms at another sample rate, in bounded memory."""

import math
from fractions import Fraction

from torch import Tensor

from tasks.audio.extra import torchaudio

# Largest term of the ratio of sample rates, except for the ratios of all common rates.
_LARGEST_TERM = 1_000
# Samples that go into or come out of resampling at a time. torchaudio counts them in float32, exact up to twice these.
_CHUNK = 1 << 23
# Samples of the lower rate that the filters of torchaudio reach on either side, at least.
_REACH = 6.1


def resample(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """A band-limited waveform (ceil(T new_rate / rate),) of a waveform (T,).

    There are as many filters as the ratio of the rates has in its lowest terms, and those of rates without a common
    factor would fill the memory. In their place, the nearest ratio of smaller terms is used, with a relative error
    below 0.001. Long waveforms are resampled in chunks, each with the samples around it that its filters reach.

    Args:
        waveform: (T,) samples.
        rate: Sample rate of the waveform (Hz).
        new_rate: Sample rate of the result (Hz).

    Source: J. Smith, "Digital audio resampling", by `torchaudio.functional.resample`.
    """
    ratio = Fraction(rate, new_rate).limit_denominator(_LARGEST_TERM)
    if ratio == 1:
        return waveform
    old, new = ratio.numerator, ratio.denominator
    # Chunks begin where the filters begin, at multiples of `old`, and so do the samples before them.
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
