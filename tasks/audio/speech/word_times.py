"""When each word of a recording was said, from the probabilities of a recognizer trained by CTC.

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

# torchaudio keeps a byte for each pair of a token and a place in the text, and counts these in 32 bits.
_MOST_PAIRS = 1 << 30


class WordTime(NamedTuple):
    """A word, and when it begins and ends in seconds."""

    word: str
    start: float
    end: float


def word_times(
    log_probs: Tensor, units: Units, *, token_seconds: float, seconds: float = math.inf, text: str | None = None
) -> list[WordTime]:
    """The words of a recording with their times, as a rule a little short: CTC names a unit in few tokens.

    A word lasts from the first token of its first unit to the last token of its last one. Those of a text are found by
    forced alignment. What greedy decoding heard needs none: the likeliest units of all tokens are also the best path
    among those that write it, so time and memory grow with the length alone.

    Args:
        log_probs: (N, V), logarithms of the probabilities of units at each token of one recording.
        units: What the V units write.
        token_seconds: Distance of tokens.
        seconds: How long the recording lasts, beyond which the last token may reach.
        text: What was said, normalized; None for what greedy decoding heard.

    Raises:
        ValueError: The text has characters that the units lack, or the recording has too few tokens for it, or too
            many; or the probabilities are not finite.
    """
    log_probs = log_probs.detach().cpu()
    path = log_probs.argmax(-1) if text is None else best_path(log_probs, units.encode(text))
    scores = log_probs.gather(1, path.long().unsqueeze(1)).squeeze(1)
    spans = torchaudio.functional.merge_tokens(path, scores, blank=BLANK)
    places = [(span.start, span.end) for span in spans]
    words = _divided(units.pieces(span.token for span in spans), places, token_seconds)
    return [word._replace(end=min(word.end, seconds)) for word in words]


def best_path(log_probs: Tensor, ids: Sequence[int]) -> Tensor:
    """The likeliest unit at each token, (N,) int32, among the paths that write the given units.

    Args:
        log_probs: (N, V), finite, on the CPU.
        ids: (U,) units, without blanks.

    Raises:
        ValueError: There is no such path, N times U is too large, or the probabilities are not finite.
    """
    if not ids:
        return torch.full((len(log_probs),), BLANK, dtype=torch.int32)
    target, count = torch.tensor([ids], dtype=torch.int32), torch.tensor([len(ids)])
    if len(log_probs) < (needed := int(tokens_needed(target, count))):
        raise ValueError(
            f"text: its {len(ids)} units need at least {needed} tokens, but the recording has {len(log_probs)}; it is "
            "too short for this text"
        )
    if len(log_probs) * (2 * len(ids) + 1) > _MOST_PAIRS:
        raise ValueError(
            f"text: {len(ids):,} units cannot be aligned with {len(log_probs):,} tokens at a time; divide the "
            "recording and its text"
        )
    if not log_probs.isfinite().all():
        raise ValueError("log_probs must be finite, but the network gives NaN or infinite ones; its weights are broken")
    paths, _ = torchaudio.functional.forced_align(log_probs.unsqueeze(0).contiguous(), target, blank=BLANK)
    return paths[0]


def _divided(pieces: Sequence[str], places: Sequence[tuple[int, int]], token_seconds: float) -> list[WordTime]:
    """Words between the spaces of what units write, from the tokens (first, last + 1) of each unit."""
    words: list[WordTime] = []
    goes_on = False
    for piece, (first, end) in zip(pieces, places):
        for sign in piece:
            if not sign.isspace():
                begun = words.pop() if goes_on else WordTime("", first * token_seconds, 0.0)
                words.append(WordTime(begun.word + sign, begun.start, end * token_seconds))
            goes_on = not sign.isspace()
    return words
