"""Connected digits: strings of spoken digits joined from single ones, with their words as transcripts; made here.

A string is of one speaker. Its digits are uniform, each by any of the speaker's clips of that digit; there is faint
noise before, between and after them. Strings to train on come from the training clips but the last tenth of the takes,
strings to validate on from that tenth, and strings to test on from the test clips alone.
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError

from tasks.audio.extra import soundfile
from tasks.audio.reading.sound import read_header, read_sound
from tasks.data.sources import DataFiles, Source

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# The Free Spoken Digit Dataset: six speakers, 50 takes of each digit, 8 kHz; takes 0 to 4 are the test clips.
_HUB = "mteb/free-spoken-digit-dataset"
# How that names its files: digit, speaker, take.
_NAME = re.compile(r"(?P<label>\d)_(?P<speaker>[^/\\]+)_(?P<take>\d+)\.\w+\Z")
_COLUMNS = ("label", "speaker", "take")

_FEWEST, _MOST = 3, 7
# Seconds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 0.5
# Standard deviation of the noise, as a share of full scale: -60 dB.
_NOISE = 1e-3
_FULL_SCALE = 1 << 15
# Share of the takes of the training clips that only validate.
_VALIDATING = 10
# Splits in the order in which they are made; a split's place is part of its seed.
_SPLITS = ("test", "validation", "train")
# Part of the name under which `datasets` keeps the rows, as it does not see changes of the code: raise it with these.
_VERSION = 1

Clips = dict[str, list[list[np.ndarray]]]
"""Clips of each speaker by digit: int16 samples."""


class _Row(NamedTuple):
    """A clip that was not decoded yet, and what is spoken in it."""

    audio: dict[str, Any]
    label: int
    speaker: str
    take: int


def connected_digits(
    data_dir: str | None = None,
    data_files: DataFiles | None = None,
    *,
    num_train: int = 3_000,
    num_val: int = 200,
    num_test: int = 300,
    seed: int = 0,
) -> datasets.DatasetDict:
    """Splits train, validation and test with the columns audio (bytes of a FLAC file, path), text and speaker.

    Rows follow from the clips and the arguments alone, under any release of numpy; those of a split are the same
    whatever is asked of the others, and the first ones the same for any number of rows. They are made once and kept in
    the cache of `datasets`.

    Args:
        data_dir: folder of parquet files of single digits, with splits train and test. Their columns are audio, and
            label, speaker and take where the names of the sound files do not tell these (7_jackson_32.wav).
        data_files: files by split in place of it; without both, the Free Spoken Digit Dataset of the hub.
        num_train: number of strings to train on.
        num_val: number of strings to validate on.
        num_test: number of strings to test on.
        seed: decides the strings, 0 to 2^32 - 1.

    Raises:
        ValueError: an argument is out of range, or the clips lack a split, a column or a digit of a speaker.
        FileNotFoundError: there are no such files, or the hub cannot be reached.

    Source: the clips are those of Z. Jackson et al., Free Spoken Digit Dataset.
    """
    counts = {"train": num_train, "validation": num_val, "test": num_test}
    for name, count in (("num_train", num_train), ("num_val", num_val), ("num_test", num_test)):
        if count < 1:
            raise ValueError(f"{name}: expected at least 1 row, got {count}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: expected 0 to 2^32 - 1, got {seed}")
    clips = _SingleDigits(_single_digits(data_dir, data_files))
    splits = {name: _made(clips, name, counts[name], seed) for name in _SPLITS}
    return datasets.DatasetDict({name: splits[name] for name in ("train", "validation", "test")})


def _single_digits(data_dir: str | None, data_files: DataFiles | None) -> Mapping[str, datasets.Dataset]:
    """The splits of single digits, not decoded."""
    own = bool(data_dir or data_files)
    source = Source("parquet" if own else _HUB, None, data_dir, data_files, False, {})
    try:
        splits = source.load()
    except FileNotFoundError as error:
        if own:
            raise
        raise FileNotFoundError(
            f"path='connected_digits' joins clips of the Free Spoken Digit Dataset, which the Hugging Face hub has as "
            f"{_HUB} and which cannot be reached. Give its parquet files by --data.data_dir FOLDER (train and test), "
            "or by --data.data_files"
        ) from error
    missing = [name for name in ("train", "test") if name not in splits]
    if missing:
        raise ValueError(f"{source}: connected digits need the splits train and test, got {', '.join(splits)}")
    for name in ("train", "test"):
        if "audio" not in splits[name].column_names:
            raise ValueError(
                f"{source}: split {name!r} has no column 'audio'; it has: {', '.join(splits[name].column_names)}"
            )
    return {name: _undecoded(splits[name]) for name in ("train", "test")}


def _undecoded(rows: datasets.Dataset) -> datasets.Dataset:
    rows = rows.select_columns([name for name in ("audio", *_COLUMNS) if name in rows.column_names])
    if isinstance(rows.features["audio"], datasets.Audio):
        return rows.cast_column("audio", datasets.Audio(decode=False))
    return rows


class _SingleDigits:
    """The splits of single digits as an argument of a generator, whose cache goes by their fingerprints."""

    def __init__(self, splits: Mapping[str, datasets.Dataset]) -> None:
        self.splits = splits

    def __getstate__(self) -> dict[str, str]:
        return {name: rows._fingerprint for name, rows in self.splits.items()}


def _made(clips: _SingleDigits, name: str, count: int, seed: int) -> datasets.Dataset:
    """The strings of a split, from the cache where they were made before."""
    features = datasets.Features(
        {
            "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "text": datasets.Value("string"),
            "speaker": datasets.Value("string"),
        }
    )
    try:
        return datasets.Dataset.from_generator(
            _rows,
            features=features,
            gen_kwargs={"clips": clips, "name": name, "count": count, "seed": seed, "version": _VERSION},
            split=datasets.NamedSplit(f"connected_digits_{name}"),  # what the progress bar calls it
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def _rows(clips: _SingleDigits, name: str, count: int, seed: int, version: int) -> Iterator[dict[str, Any]]:
    spoken, rate = clips_of(clips.splits, name)
    for number, (wave, text, speaker) in enumerate(strings(spoken, rate, count, seed=[seed, _SPLITS.index(name)])):
        file = io.BytesIO()
        soundfile.write(file, wave, rate, format="FLAC", subtype="PCM_16")
        path = f"{name}_{number}.flac"
        yield {"audio": {"bytes": file.getvalue(), "path": path}, "text": text, "speaker": speaker}


def clips_of(splits: Mapping[str, datasets.Dataset], name: str) -> tuple[Clips, int]:
    """The clips that strings of a split are made from, decoded, and their sample rate (Hz).

    Args:
        splits: single digits of the splits train and test.
        name: "train", "validation" or "test".

    Raises:
        ValueError: a row does not tell digit, speaker and take, cannot be decoded, or has another rate than the others;
            there are too few takes to validate on some; or a speaker lacks a digit.
    """
    split = "test" if name == "test" else "train"
    rows = [_row(row, split, number) for number, row in enumerate(splits[split])]
    if split == "train":
        takes = sorted({row.take for row in rows})
        if len(takes) < 2:
            raise ValueError(
                f"split 'train': connected digits need at least two takes, as the last ones only validate, got {takes}"
            )
        first = takes[-max(1, len(takes) // _VALIDATING)]
        rows = [row for row in rows if (row.take >= first) == (name == "validation")]
    found: Clips = {}
    rates = set()
    for row in sorted(rows, key=lambda row: (row.speaker, row.label, row.take)):
        wave, rate = _decoded(row.audio)
        rates.add(rate)
        found.setdefault(row.speaker, [[] for _ in WORDS])[row.label].append(wave)
    if len(rates) != 1:
        raise ValueError(f"split {split!r}: expected clips of one sample rate, got {sorted(rates)} Hz; resample them")
    for speaker, digits in found.items():
        lacking = [word for word, several in zip(WORDS, digits) if not several]
        if lacking:
            raise ValueError(
                f"split {split!r}: speaker {speaker!r} has no clip of {', '.join(lacking)} for the strings to {name}; "
                "leave the speaker out, or add clips"
            )
    return found, rates.pop()


def _row(row: dict[str, Any], split: str, number: int) -> _Row:
    place, audio = f"split {split!r}, row {number}", row["audio"] or {}
    if isinstance(audio, str | bytes):
        audio = {"path" if isinstance(audio, str) else "bytes": audio}
    if not isinstance(audio, dict):
        raise ValueError(
            f"{place}: expected a sound, its bytes or its file in column 'audio', got {type(audio).__name__}"
        )
    named = _NAME.search(audio.get("path") or "")
    told = {key: row.get(key) if row.get(key) is not None else named and named[key] for key in _COLUMNS}
    missing = [key for key, value in told.items() if value is None]
    if missing:
        raise ValueError(
            f"{place}: neither columns nor the name of the sound file tell its {', '.join(missing)}; expected columns "
            f"label, speaker and take, or names such as 7_jackson_32.wav, got {audio.get('path')!r}"
        )
    label, take = str(told["label"]), str(told["take"])
    if label not in map(str, range(len(WORDS))) or not take.isdecimal():
        raise ValueError(
            f"{place}: expected a digit from 0 to 9 as label and a whole number as take, got {label!r} and {take!r}"
        )
    return _Row(audio, int(label), str(told["speaker"]), int(take))


def _decoded(audio: dict[str, Any]) -> tuple[np.ndarray, int]:
    """int16 samples, the mean of the channels, and the sample rate (Hz). Files of 16 bits give their own numbers."""
    rate = read_header(audio).rate
    scaled = np.rint(read_sound(audio, rate).numpy().astype(np.float64) * _FULL_SCALE)
    return scaled.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16), rate


def strings(clips: Clips, rate: int, count: int, *, seed: list[int]) -> Iterator[tuple[np.ndarray, str, str]]:
    """Strings of digits: int16 samples, their words, and the speaker.

    Args:
        clips: single digits.
        rate: their sample rate (Hz).
        count: number of strings.
        seed: whole numbers from 0 to 2^32 - 1 that decide them.
    """
    # The older of numpy's generators, as its numbers never change.
    random = np.random.RandomState(seed)
    speakers = sorted(clips)
    for _ in range(count):
        speaker = speakers[random.randint(len(speakers))]
        digits = random.randint(len(WORDS), size=random.randint(_FEWEST, _MOST + 1)).tolist()
        parts = [_pause(random, rate)]
        for digit in digits:
            takes = clips[speaker][digit]
            parts += [takes[random.randint(len(takes))], _pause(random, rate)]
        yield np.concatenate(parts), " ".join(WORDS[digit] for digit in digits), speaker


def _pause(random: np.random.RandomState, rate: int) -> np.ndarray:
    size = random.randint(round(_SHORTEST_PAUSE * rate), round(_LONGEST_PAUSE * rate) + 1)
    return np.rint(random.standard_normal(size) * (_NOISE * _FULL_SCALE)).astype(np.int16)
