"""Units, the output classes of a speech recognizer: characters, or frequent sequences of characters.

Unit 0 is the blank of CTC, which has no text.
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

# Threads of `tokenizers` do not survive the forks of loaders and `datasets`, and the library warns at each fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BLANK = 0
UNITS_FILE = "units.json"
# Replaces the space in the vocabularies of `tokenizers`.
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class Units(ABC):
    """Numbered units.

    Args:
        table: (V,) texts of the units in the order of their numbers; the text of the blank is empty.
    """

    def __init__(self, table: Sequence[str]) -> None:
        self.table = list(table)
        self._characters = set("".join(table))

    @property
    def size(self) -> int:
        """Number of units V, including the blank."""
        return len(self.table)

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The units as plain values, for `units_from`."""

    @abstractmethod
    def _numbers(self, text: str) -> list[int]:
        """The units of a text whose characters all belong to units."""

    def lacking(self, text: str) -> list[str]:
        """Characters of a text that no unit has, sorted."""
        return sorted(set(text) - self._characters)

    def encode(self, text: str) -> list[int]:
        """The units of a normalized text, without blanks; a ValueError lists characters that no unit has."""
        if missing := self.lacking(text):
            raise ValueError(f"the text has characters that the units lack: {', '.join(map(repr, missing))}")
        return self._numbers(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of units, with single spaces between words."""
        return " ".join("".join(self.table[number] for number in ids).split())


class _Characters(Units):
    """Single characters, of the units 1, 2, and so on."""

    def __init__(self, characters: str) -> None:
        super().__init__(["", *characters])
        self._number_of = {character: number for number, character in enumerate(self.table)}

    @property
    def settings(self) -> dict[str, Any]:
        return {"kind": "characters", "characters": "".join(self.table)}

    def _numbers(self, text: str) -> list[int]:
        return [self._number_of[character] for character in text]


class _Sequences(Units):
    """Characters and frequent sequences of characters; token i of a JSON of `tokenizers` is unit i + 1."""

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
    """The units of `Units.settings`, the same object for the same settings; a ValueError for other settings."""
    return _cached_units(json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=8)
def _cached_units(description: str) -> Units:
    settings = json.loads(description)
    kind = settings.get("kind") if isinstance(settings, dict) else None
    if kind == "characters" and isinstance(settings.get("characters"), str):
        return _Characters(settings["characters"])
    if kind == "bpe" and isinstance(settings.get("tokenizer"), str):
        return _Sequences(settings["tokenizer"])
    raise ValueError(
        "units must be settings of the kind 'characters' with 'characters', or of the kind 'bpe' with 'tokenizer', got "
        f"{description[:80]}"
    )


class UnitsSpec(Spec, ABC):
    """Describes units and builds them."""

    learns: ClassVar[bool] = True  # whether the units depend on the transcripts

    @abstractmethod
    def build(self, transcripts: Iterable[str]) -> Units:
        """Units from the normalized transcripts of the training split; a ValueError if these do not allow them."""


class CharacterUnits(UnitsSpec):
    """The characters (Unicode code points) of the transcripts, sorted."""

    def build(self, transcripts: Iterable[str]) -> Units:
        """Units of the characters that occur in the transcripts."""
        return _Characters("".join(_characters_of(transcripts)))


class BpeUnits(UnitsSpec):
    """The characters of the transcripts, and frequent sequences of them within words by byte pair encoding.

    A space belongs to the word after it.

    Args:
        vocab_size: Maximum number of units, including the blank and the characters; few transcripts may give fewer.
        min_frequency: Minimum number of occurrences of a pair that becomes a unit.

    Source: R. Sennrich et al. 2016 (arXiv 1508.07909), over characters, with spaces as in SentencePiece (arXiv
    1808.06226).
    """

    def __init__(self, vocab_size: int = 256, min_frequency: int = 2) -> None:
        if vocab_size < 2:
            raise ValueError(f"units.vocab_size must be at least 2 (the blank and a character), got {vocab_size}")
        if min_frequency < 1:
            raise ValueError(f"units.min_frequency must be at least 1 (times that a pair occurs), got {min_frequency}")
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency

    def build(self, transcripts: Iterable[str]) -> Units:
        """Units learned from the transcripts."""
        texts = list(transcripts)
        if any(_SPACE in text for text in texts):
            raise ValueError(
                f"units: transcripts must not contain the character {_SPACE!r} (U+{ord(_SPACE):04X}), which replaces "
                "the space in sequences; remove it from them, or use --data.units CharacterUnits"
            )
        # Every word begins with a space.
        fewest = 1 + len({" ", *_characters_of(texts)})
        if self.vocab_size < fewest:
            raise ValueError(
                f"units.vocab_size must be at least {fewest}, for the blank, the space, and the other characters of "
                f"the transcripts, got {self.vocab_size}; increase it, or set writing.case or writing.punctuation"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - 1, min_frequency=self.min_frequency, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return _Sequences(tokenizer.to_str())


class FileUnits(UnitsSpec):
    """The units of another run, to start from its weights; they do not depend on transcripts.

    Args:
        path: The file units.json of the run, or the folder of the run.
    """

    learns = False

    def __init__(self, path: str) -> None:
        self.path = path

    def build(self, transcripts: Iterable[str]) -> Units:
        """The units of the file."""
        expected = f"units.path must be the {UNITS_FILE} of a run, or the folder of the run, got {self.path!r}"
        file = Path(self.path).expanduser()
        file = file / UNITS_FILE if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(f"{expected}; there is no file {str(file)!r}")
        try:
            return units_from(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{expected}, a file without units ({error})") from error


def _characters_of(texts: Iterable[str]) -> list[str]:
    """The different characters of texts, sorted; a ValueError without any."""
    characters = set().union(*texts)
    if not characters:
        raise ValueError("units: the transcripts of the training split must have characters; check transcript_column")
    return sorted(characters)
