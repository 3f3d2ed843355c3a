"""Long recordings in overlapping windows: each as long as what training heard, their tokens joined again.

Letters: B batch, T samples, N tokens, C model width.

A network is right at the lengths that it has met. In hours, the landmarks of a sequence stand for far more than in
seconds, and a normalization over the whole mixes speakers and rooms; in windows neither happens, and time and memory
still grow with the length alone.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from softformer.ops.options import Options

# Tokens of windows that are computed together, padding included.
_TOGETHER = 8_192


class Windows(Options):
    """How a recording is heard that is longer than a window, outside training.

    Args:
        seconds: Length of a window (s); None for that of the longest recording that the network was trained on.
        overlap: Share of a window that the next one hears again, at least, in [0, 1). Half of it at either end gives
            nothing to the result, as it lacks what is around it.

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
    """Tokens from `start` on of which those in [first, end) are kept; `last` of a recording ends where that ends."""

    row: int
    start: int
    first: int
    end: int
    last: bool


def windows_of(row: int, length: int, size: int, overlap: float) -> list[Window]:
    """Windows of `size` tokens over a recording of `length`, at even distances; one where it is not longer.

    Args:
        row: Place of the recording in its batch.
        length: Its tokens.
        size: Tokens of a window.
        overlap: Least share that two neighbours have in common.
    """
    if length <= size:
        return [Window(row, 0, 0, length, True)] if length else []
    step = max(1, size - math.ceil(overlap * size))
    count = 1 + math.ceil((length - size) / step)
    starts = [i * (length - size) // (count - 1) for i in range(count)]
    # Neighbours part in the middle of what they have in common.
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
    """Hidden states (B, N, C) of recordings, zero at padding, N that of the longest.

    Args:
        network: Waveforms (B', T') and their lengths (B',) to hidden states (B', N', C) and which are real, (B', N').
        waves: (B, T) samples.
        lengths: (B,) int64, samples of each recording.
        counts: Tokens of each recording.
        size: Most tokens of a window.
        overlap: Least share that two neighbours have in common.
        token_samples: Distance of tokens in samples.
        window_samples: Samples of `size` tokens.
    """
    windows = [window for row, count in enumerate(counts) for window in windows_of(row, count, size, overlap)]
    ends = lengths.tolist()
    joined: Tensor | None = None
    for together in _grouped(windows, max(1, _TOGETHER // size)):
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
            kept = states[window.first - window.start : window.end - window.start]
            joined[window.row, window.first : window.end] = kept
    assert joined is not None  # there are recordings longer than a window
    return joined


def _grouped(windows: list[Window], count: int) -> Iterator[list[Window]]:
    for first in range(0, len(windows), count):
        yield windows[first : first + count]
