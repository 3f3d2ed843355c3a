"""Connectionist temporal classification: the loss of transcripts that are not aligned, and the likeliest units.

Letters: B recordings, N tokens, V units, U units of the longest transcript. Unit 0 is the blank. Tokens behind those of
a recording, and units behind those of a transcript, change nothing.

Source: A. Graves et al., "Connectionist temporal classification", 2006.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.audio.speech.units import BLANK


def tokens_needed(units: Tensor, num_units: Tensor) -> Tensor:
    """The fewest tokens in which transcripts fit, (B,): one for each unit, and a blank between two that are equal.

    Args:
        units: (B, U) int64.
        num_units: (B,) int64, how many of them are real.
    """
    second = torch.arange(1, max(1, units.shape[1]), device=units.device)
    repeated = (units[:, 1:] == units[:, :-1]) & (second < num_units.unsqueeze(1))
    return (num_units + repeated.sum(1)).clamp(min=1)


def long_enough(num_tokens: Tensor, units: Tensor, num_units: Tensor) -> Tensor:
    """Which recordings have the tokens that their transcripts need, (B,) bool; the loss of the others is infinite."""
    return num_tokens >= tokens_needed(units, num_units)


def ctc_loss(log_probs: Tensor, num_tokens: Tensor, units: Tensor, num_units: Tensor) -> Tensor:
    """The mean over recordings of -log p(transcript) / number of its units.

    Recordings that are not `long_enough` are left out; where none is left, the loss is zero, and so is its gradient.

    Args:
        log_probs: (B, N, V), logarithms of the probabilities of units at each token.
        num_tokens: (B,) int64, how many of the N are real.
        units: (B, U) int64, the transcripts, without blanks.
        num_units: (B,) int64, how many of the U are real.
    """
    fits = long_enough(num_tokens, units, num_units)
    kept = log_probs[fits]
    if not len(kept):
        return kept.sum()
    return F.ctc_loss(kept.transpose(0, 1), units[fits], num_tokens[fits], num_units[fits], blank=BLANK)


def likeliest_units(log_probs: Tensor, num_tokens: Tensor) -> list[list[int]]:
    """The transcripts of greedy decoding: the likeliest unit of each token, equal neighbours once, without blanks.

    Args:
        log_probs: (B, N, V).
        num_tokens: (B,) int64, how many of the N are real.
    """
    best = log_probs.argmax(-1)
    kept = best != BLANK
    kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    kept &= torch.arange(best.shape[1], device=best.device) < num_tokens.unsqueeze(1)
    return [row[which].tolist() for row, which in zip(best.cpu(), kept.cpu())]
