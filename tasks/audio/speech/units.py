"""Units of writing: what a speech recognizer names by number, single characters or frequent sequences of them.

Unit 0 is the blank of CTC, which writes nothing.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from softformer.training.specs import Spec

# The threads of the library do not live on in the forks that loaders and `datasets` make, so it would warn at each.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BLANK = 0
UNITS_FILE = "units.json"
# What stands for a space in the vocabularies of `tokenizers`.
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class Units(ABC):
    """Numbered units of writing.

    Args:
        table: (V,) what each unit writes, in the order of their numbers; the first is the blank, and empty.
    """

    def __init__(self, table: Sequence[str]) -> None:
        self.table = list(table)
        self._characters = set("".join(table))

    @property
    def size(self) -> int:
        """Number of units V, the blank included."""
        return len(self.table)

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The units as plain values, from which `units_from` makes them again."""

    @abstractmethod
    def _numbers(self, text: str) -> list[int]:
        """The units of a text whose characters they all write."""

    def lacking(self, text: str) -> list[str]:
        """Characters of a text that no unit writes, in their order."""
        return sorted(set(text) - self._characters)

    def encode(self, text: str) -> list[int]:
        """The units that write a text, which was normalized before; none of them is the blank.

        Raises:
            ValueError: The text has characters that no unit writes; they are listed.
        """
        if missing := self.lacking(text):
            raise ValueError(f"the text has characters that the units lack: {', '.join(map(repr, missing))}")
        return self._numbers(text)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """What each unit writes: one after the other the text, but for spaces at its ends and several in a row."""
        return [self.table[number] for number in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text that units write, words set apart by single spaces."""
        return " ".join("".join(self.pieces(ids)).split())


class _Characters(Units):
    """Single characters.

    Args:
        characters: Those of the units 1, 2 and so on.
    """

    def __init__(self, characters: str) -> None:
        super().__init__(["", *characters])
        self._number_of = {character: number for number, character in enumerate(self.table)}

    @property
    def settings(self) -> dict[str, Any]:
        return {"kind": "characters", "characters": "".join(self.table)}

    def _numbers(self, text: str) -> list[int]:
        return [self._number_of[character] for character in text]


class _Sequences(Units):
    """Characters and frequent sequences of them.

    Args:
        tokenizer: JSON of `tokenizers`; its token i is unit i + 1.
    """

    def __init__(self, tokenizer: str) -> None:
        self._json = tokenizer
        self._tokenizer = Tokenizer.from_str(tokenizer)
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
        tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
        super().__init__(["", *(token.replace(_SPACE, " ") for token in tokens)])

    @property
    def settings(self) -> dict[str, Any]:
        return {"kind": "bpe", "tokenizer": self._json}

    def _numbers(self, text: str) -> list[int]:
        return [1 + number for number in self._tokenizer.encode(text, add_special_tokens=False).ids]


def units_from(settings: dict[str, Any]) -> Units:
    """The units that `Units.settings` described; the same object for the same settings.

    Raises:
        ValueError: The settings describe no units.
    """
    return _made(json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=8)
def _made(description: str) -> Units:
    settings = json.loads(description)
    kind = settings.get("kind") if isinstance(settings, dict) else None
    if kind == "characters" and isinstance(settings.get("characters"), str):
        return _Characters(settings["characters"])
    if kind == "bpe" and isinstance(settings.get("tokenizer"), str):
        return _Sequences(settings["tokenizer"])
    raise ValueError(
        "units: expected settings of the kind 'characters' with 'characters', or of the kind 'bpe' with 'tokenizer', "
        f"got {description[:80]}"
    )


class UnitsSpec(Spec, ABC):
    """Describes units and makes them.

    Attributes:
        learns: Whether they are made from the transcripts of the training split.
    """

    learns: ClassVar[bool] = True

    @abstractmethod
    def build(self, transcripts: Iterable[str]) -> Units:
        """New units.

        Args:
            transcripts: What they learn from, normalized, where they learn.

        Raises:
            ValueError: They cannot be made.
        """


class CharacterUnits(UnitsSpec):
    """The characters (Unicode code points) of the transcripts, in their order."""

    def build(self, transcripts: Iterable[str]) -> Units:
        """Units of the characters that occur in the transcripts."""
        return _Characters("".join(_characters_of(transcripts)))


class BpeUnits(UnitsSpec):
    """The characters of the transcripts, and the sequences of them that byte pair encoding finds frequent in words.

    The space belongs to the word that follows it.

    Args:
        vocab_size: Most units, the blank and the characters included; few transcripts may give fewer.
        min_frequency: How often a pair must occur to become a unit.

    Source: R. Sennrich et al. 2016 (arXiv 1508.07909), over characters, with spaces as in SentencePiece (arXiv
    1808.06226).
    """

    def __init__(self, vocab_size: int = 256, min_frequency: int = 2) -> None:
        if vocab_size < 2:
            raise ValueError(f"units.vocab_size: expected at least 2 (the blank and a character), got {vocab_size}")
        if min_frequency < 1:
            raise ValueError(
                f"units.min_frequency: expected at least 1 (times that a pair occurs), got {min_frequency}"
            )
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency

    def build(self, transcripts: Iterable[str]) -> Units:
        """Units learned from the transcripts.

        Raises:
            ValueError: There are more characters than units, or one that stands for the space.
        """
        texts = list(transcripts)
        if any(_SPACE in text for text in texts):
            raise ValueError(
                f"units: the transcripts hold the character {_SPACE!r} (U+{ord(_SPACE):04X}), by which sequences mark "
                "the space; replace it by one, or take --data.units CharacterUnits"
            )
        # Every word begins with a space.
        fewest = 1 + len({" ", *_characters_of(texts)})
        if self.vocab_size < fewest:
            raise ValueError(
                f"units.vocab_size: expected at least {fewest}, which is the blank, the space and the other characters "
                f"of the transcripts, got {self.vocab_size}; raise it, or let writing lower the case or remove "
                "punctuation"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - 1, min_frequency=self.min_frequency, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return _Sequences(tokenizer.to_str())


class FileUnits(UnitsSpec):
    """The units of another run, whatever the transcripts hold: to start from its weights.

    Args:
        path: Its file units.json, or the folder of the run.
    """

    learns = False

    def __init__(self, path: str) -> None:
        self.path = path

    def build(self, transcripts: Iterable[str]) -> Units:
        """The units of the file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It holds no units.
        """
        file = Path(self.path).expanduser()
        file = file / UNITS_FILE if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(
                f"units.path={self.path!r}: there is no file {str(file)!r}; expected the {UNITS_FILE} that a run "
                "leaves in its folder"
            )
        try:
            return units_from(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(
                f"units.path={self.path!r}: expected the {UNITS_FILE} that a run leaves in its folder, got a file that "
                f"holds no units ({error})"
            ) from error


def _characters_of(texts: Iterable[str]) -> list[str]:
    """The different characters of texts, in their order.

    Raises:
        ValueError: There is none.
    """
    found: set[str] = set()
    for text in texts:
        found.update(text)
    if not found:
        raise ValueError("units: the transcripts of the training split hold no characters; check transcript_column")
    return sorted(found)
