"""Subtitles (SubRip, .srt) from words with times."""

import textwrap
from collections.abc import Iterator, Sequence

from tasks.audio.speech.word_times import WordTime

# Minimum duration of a cue (s), so that it can be read.
_SHORTEST = 1.0


def subtitles(
    words: Sequence[WordTime],
    *,
    line_length: int = 42,
    num_lines: int = 2,
    seconds: float = 6.0,
    pause: float = 0.6,
) -> str:
    """The text of an .srt file; empty without words.

    A cue ends at a pause, or before a word that would make it too long. It lasts at least a second, unless the next cue
    begins earlier.

    Args:
        words: The words in their order.
        line_length: Maximum number of characters of a line; a longer word is divided.
        num_lines: Maximum number of lines of a cue; a word that needs more is a cue by itself.
        seconds: Maximum duration of a cue (s); a longer word is a cue by itself.
        pause: Duration of a pause between words that ends a cue (s).

    Raises:
        ValueError: An option is not positive.
    """
    for name, value in (("line_length", line_length), ("num_lines", num_lines), ("seconds", seconds), ("pause", pause)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    cues = list(_cues(words, line_length, num_lines, seconds, pause))
    following = [cue[0].start for cue in cues[1:]] + [float("inf")]
    blocks = []
    for number, (cue, limit) in enumerate(zip(cues, following), start=1):
        start, end = cue[0].start, max(cue[-1].end, min(cue[0].start + _SHORTEST, limit))
        lines = "\n".join(_lines(cue, line_length))
        blocks.append(f"{number}\n{clock(start)} --> {clock(end)}\n{lines}\n")
    return "\n".join(blocks)


def clock(seconds: float) -> str:
    """A time as 00:00:00,000: hours, minutes, seconds, and milliseconds."""
    minutes, rest = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"


def _cues(
    words: Sequence[WordTime], line_length: int, num_lines: int, seconds: float, pause: float
) -> Iterator[list[WordTime]]:
    cue: list[WordTime] = []
    for word in words:
        if cue and (
            word.start - cue[-1].end >= pause
            or word.end - cue[0].start > seconds
            or len(_lines([*cue, word], line_length)) > num_lines
        ):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def _lines(cue: Sequence[WordTime], line_length: int) -> list[str]:
    return textwrap.wrap(" ".join(word.word for word in cue), line_length, break_on_hyphens=False)
