"""Word and character error rates of texts of any length."""

from collections.abc import Sequence

from torchmetrics.text import CharErrorRate, WordErrorRate

from tasks.audio.extra import edit_distance


class WordErrors(WordErrorRate):
    """Word error rate: (substitutions + deletions + insertions) / words of the transcripts.

    torchmetrics fills a table of both lengths in Python, minutes and gigabytes for a transcript of an hour.
    """

    def update(self, preds: Sequence[str], target: Sequence[str]) -> None:
        """Add hypotheses and their transcripts."""
        for hypothesis, transcript in zip(preds, target):
            words = transcript.split()
            self.errors += edit_distance(hypothesis.split(), words)
            self.total += len(words)


class CharacterErrors(CharErrorRate):
    """Character error rate, as `WordErrors` with the characters of the transcripts, spaces included."""

    def update(self, preds: Sequence[str], target: Sequence[str]) -> None:
        """Add hypotheses and their transcripts."""
        for hypothesis, transcript in zip(preds, target):
            self.errors += edit_distance(hypothesis, transcript)
            self.total += len(transcript)
