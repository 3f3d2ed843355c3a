"""Connectionist temporal classification (CTC): the loss of transcripts without alignment, and greedy decoding.

Letters: B recordings, N tokens, V units, U units of the longest transcript. Unit 0 is the blank. Padding of tokens and
of units changes no result.

Source: A. Graves et al., "Connectionist temporal classification", 2006.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.audio.speech.units import BLANK


def tokens_needed(units: Tensor, num_units: Tensor) -> Tensor:
    """Minimum numbers of tokens (B,) for transcripts (B, U): one for each unit, and a blank between equal neighbors."""
    second = torch.arange(1, max(1, units.shape[1]), device=units.device)
    repeated = (units[:, 1:] == units[:, :-1]) & (second < num_units.unsqueeze(1))
    return (num_units + repeated.sum(1)).clamp(min=1)


def long_enough(num_tokens: Tensor, units: Tensor, num_units: Tensor) -> Tensor:
    """Mask (B,) of the recordings that have enough tokens for their transcripts, so that their loss is finite."""
    return num_tokens >= tokens_needed(units, num_units)


def ctc_loss(log_probs: Tensor, num_tokens: Tensor, units: Tensor, num_units: Tensor) -> Tensor:
    """The mean over recordings of -log p(transcript) / number of units of the transcript.

    Recordings that are not `long_enough` are left out. If none is left, the loss and its gradient are zero.

    Args:
        log_probs: (B, N, V), logarithms of the probabilities of units at each token.
        num_tokens: (B,) int64, number of real tokens.
        units: (B, U) int64, the transcripts, without blanks.
        num_units: (B,) int64, number of real units.
    """
    fits = long_enough(num_tokens, units, num_units)
    log_probs = log_probs[fits]
    if not len(log_probs):
        return log_probs.sum()
    return F.ctc_loss(log_probs.transpose(0, 1), units[fits], num_tokens[fits], num_units[fits], blank=BLANK)


def likeliest_units(log_probs: Tensor, num_tokens: Tensor) -> list[list[int]]:
    """Greedy decoding of (B, N, V): the likeliest unit of each real token, without repetitions and blanks."""
    best = log_probs.argmax(-1)
    mask = best != BLANK
    mask[:, 1:] &= best[:, 1:] != best[:, :-1]
    mask &= torch.arange(best.shape[1], device=best.device) < num_tokens.unsqueeze(1)
    return [row[mask].tolist() for row, mask in zip(best.cpu(), mask.cpu())]
