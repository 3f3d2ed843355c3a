"""Long recordings in overlapping windows, as long as the recordings in training, whose tokens are joined.

Letters: B batch, T samples, N tokens, C model width.

A network is accurate at the lengths of its training. In recordings of hours each landmark represents far more tokens,
and a normalization over the whole recording mixes speakers and rooms; in windows neither happens. Time and memory are
linear in the length of the recording.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from softformer.ops.options import Options

# Most tokens of the windows that are computed together, padding included.
_TOGETHER = 8_192


class Windows(Options):
    """Windows of recordings that are longer than a window, outside training.

    Args:
        seconds: Length of a window (s); None for the length of the longest recording in training.
        overlap: Smallest share of a window that the next window repeats, in [0, 1). The tokens in the outer half of an
            overlap are discarded, because they lack context.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, seconds: float | None = None, overlap: float = 0.25) -> None:
        if seconds is not None and seconds <= 0:
            raise ValueError(f"seconds must be positive, or None for the longest of the training, got {seconds}")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be a share of a window in [0, 1), got {overlap}")
        self.seconds = seconds
        self.overlap = overlap


class Window(NamedTuple):
    """Tokens from `start` on, of which the result takes [first, end); `last` is True at the end of the recording."""

    row: int
    start: int
    first: int
    end: int
    last: bool


def windows_of(row: int, length: int, size: int, overlap: float) -> list[Window]:
    """Windows of `size` tokens at even distances over the recording of `length` tokens at index `row` of its batch."""
    if length <= size:
        return [Window(row, 0, 0, length, True)] if length else []
    step = max(1, size - math.ceil(overlap * size))
    count = 1 + math.ceil((length - size) / step)
    starts = [i * (length - size) // (count - 1) for i in range(count)]
    # Neighbors are cut in the middle of their overlap.
    cuts = [0, *((before + size + start) // 2 for before, start in pairwise(starts)), length]
    return [
        Window(row, start, first, end, end == length)
        for start, (first, end) in zip(starts, pairwise(cuts), strict=True)
    ]


def in_windows(
    network: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    waves: Tensor,
    lengths: Tensor,
    counts: Sequence[int],
    *,
    size: int,
    overlap: float,
    token_samples: int,
    window_samples: int,
) -> Tensor:
    """Hidden states (B, N, C) of waveforms (B, T) of lengths (B,) samples, zero at padding.

    Args:
        network: Function from waveforms (B', T') and lengths (B',) to hidden states (B', N', C) and a mask (B', N').
        waves: (B, T) samples.
        lengths: (B,) int64, samples of each recording.
        counts: Tokens of each recording; N is the largest.
        size: Tokens of a window.
        overlap: Smallest share of a window that the next one repeats.
        token_samples: Distance of tokens in samples.
        window_samples: Samples of `size` tokens.
    """
    windows = [window for row, count in enumerate(counts) for window in windows_of(row, count, size, overlap)]
    ends = lengths.tolist()
    joined: Tensor | None = None
    step = max(1, _TOGETHER // size)
    for together in (windows[first : first + step] for first in range(0, len(windows), step)):
        parts = []
        for window in together:
            begin = window.start * token_samples
            end = ends[window.row] if window.last else min(ends[window.row], begin + window_samples)
            parts.append(waves[window.row, begin:end])
        sizes = torch.tensor([len(part) for part in parts], device=waves.device)
        hidden, _ = network(pad_sequence(parts, batch_first=True), sizes)
        if joined is None:
            joined = hidden.new_zeros(len(counts), max(counts), hidden.shape[-1])
        for window, states in zip(together, hidden):
            inner = states[window.first - window.start : window.end - window.start]
            joined[window.row, window.first : window.end] = inner
    assert joined is not None  # there are recordings longer than a window
    return joined
