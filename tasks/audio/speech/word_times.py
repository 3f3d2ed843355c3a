"""Times of the words of a recording from the probabilities of a recognizer trained by CTC.

Letters: N tokens, V units, U units of a text.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.audio.extra import torchaudio
from tasks.audio.speech.ctc import tokens_needed
from tasks.audio.speech.units import BLANK, Units

# torchaudio stores a byte for each pair of a token and a position in the text, and indexes the pairs by 32 bits.
_MOST_PAIRS = 1 << 30


class WordTime(NamedTuple):
    """A word, and its start and end in seconds."""

    word: str
    start: float
    end: float


def word_times(
    log_probs: Tensor, units: Units, *, token_seconds: float, seconds: float = math.inf, text: str | None = None
) -> list[WordTime]:
    """The words of a recording with their times, which are usually a little short: CTC emits a unit at few tokens.

    A word lasts from the first token of its first unit to the last token of its last unit. The tokens of a given text
    are found by forced alignment. The hypothesis of greedy decoding needs no alignment, because the likeliest units of
    all tokens are its best path: time and memory are linear in the number of tokens.

    Args:
        log_probs: (N, V), logarithms of the probabilities of units at each token of one recording.
        units: The units.
        token_seconds: Distance between tokens (s).
        seconds: Length of the recording (s); the last token may end later.
        text: Normalized transcript; None for the hypothesis of greedy decoding.

    Raises:
        ValueError: The text has characters that the units lack, the recording has too few tokens for the text, or too
            many, or the probabilities are not finite.
    """
    log_probs = log_probs.detach().cpu()
    path = log_probs.argmax(-1) if text is None else best_path(log_probs, units.encode(text))
    scores = log_probs.gather(1, path.long().unsqueeze(1)).squeeze(1)
    spans = torchaudio.functional.merge_tokens(path, scores, blank=BLANK)
    words: list[WordTime] = []
    in_word = False
    for span in spans:
        end = min(span.end * token_seconds, seconds)
        for character in units.table[span.token]:
            if not character.isspace():
                begun = words.pop() if in_word else WordTime("", span.start * token_seconds, 0.0)
                words.append(WordTime(begun.word + character, begun.start, end))
            in_word = not character.isspace()
    return words


def best_path(log_probs: Tensor, ids: Sequence[int]) -> Tensor:
    """Units (N,) int32 of the likeliest path of the given units, without blanks, through log_probs (N, V) on the CPU.

    Raises:
        ValueError: N is too small, N times U is too large, or the probabilities are not finite.
    """
    if not ids:
        return torch.full((len(log_probs),), BLANK, dtype=torch.int32)
    target, count = torch.tensor([ids], dtype=torch.int32), torch.tensor([len(ids)])
    if len(log_probs) < (needed := int(tokens_needed(target, count))):
        raise ValueError(
            f"text: its {len(ids)} units need a recording of at least {needed} tokens, got {len(log_probs)}; shorten "
            "the text, or check that it belongs to the recording"
        )
    if len(log_probs) * (2 * len(ids) + 1) > _MOST_PAIRS:
        raise ValueError(
            f"text: units times tokens must be at most {_MOST_PAIRS // 2:,}, got {len(ids):,} units and "
            f"{len(log_probs):,} tokens; divide the recording and its text"
        )
    if not log_probs.isfinite().all():
        raise ValueError("log_probs must be finite, got NaN or infinity from the network; train it again")
    paths, _ = torchaudio.functional.forced_align(log_probs.unsqueeze(0).contiguous(), target, blank=BLANK)
    return paths[0]
