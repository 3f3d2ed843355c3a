"""Connected digits: a data set of strings of spoken digits, made from recordings of single digits.

A string has one speaker. Its digits are uniformly random, each a random recording of the digit by the speaker, with
faint noise before, between, and after them. The last tenth of the takes of the training recordings makes the validation
strings, the others make the training strings; the test recordings make the test strings.
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError

from softformer.ops.options import check_positive
from tasks.audio.extra import soundfile
from tasks.audio.reading.waveforms import read_header, read_waveform
from tasks.data.sources import DataFiles, load_from_hub

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Standard deviation of the noise in pauses, relative to full scale: -60 dB.
NOISE = 1e-3

# The Free Spoken Digit Dataset: six speakers, 50 takes of each digit, 8 kHz; takes 0 to 4 are its test split.
_HUB = "mteb/free-spoken-digit-dataset"
# Its file names: digit, speaker, take.
_NAME = re.compile(r"(?P<label>\d)_(?P<speaker>[^/\\]+)_(?P<take>\d+)\.\w+\Z")
_COLUMNS = ("label", "speaker", "take")

_FEWEST_DIGITS, _MOST_DIGITS = 3, 7
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 0.5  # seconds
_FULL_SCALE = 1 << 15
# One of this number of takes of the training recordings is for validation.
_VALIDATION = 10
# Splits in the order in which they are made; the position of a split is part of its seed.
_SPLITS = ("test", "validation", "train")
# Part of the cache key, which does not depend on the code. Increase it when the same arguments give other rows.
_VERSION = 1

Digits = dict[str, list[list[np.ndarray]]]
"""int16 waveforms of each speaker, by digit."""


class _Row(NamedTuple):
    """An encoded recording of a single digit."""

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
    """Splits train, validation, and test with the columns audio (bytes of a FLAC file, path), text, and speaker.

    Rows depend only on the recordings and the arguments, under any release of numpy; more rows leave the first rows and
    the other splits unchanged. They are made once and cached.

    Args:
        data_dir: folder of parquet files of single digits, with splits train and test. Their columns are audio, and
            label, speaker, and take unless the names of the audio files give these (7_jackson_32.wav).
        data_files: files by split instead of data_dir; by default the Free Spoken Digit Dataset of the hub.
        num_train: number of strings to train on.
        num_val: number of strings to validate on.
        num_test: number of strings to test on.
        seed: seed of the strings, 0 to 2^32 - 1.

    Raises:
        ValueError: an argument is out of range, or the recordings lack a split, a column, or a digit of a speaker.
        FileNotFoundError: the files do not exist, or the hub cannot be reached.

    Source: Z. Jackson et al., Free Spoken Digit Dataset, for the recordings.
    """
    counts = {"train": num_train, "validation": num_val, "test": num_test}
    for name, count in zip(("num_train", "num_val", "num_test"), counts.values()):
        check_positive(name, count)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2^32 - 1, got {seed}")
    digits = _SingleDigits(single_digits(data_dir, data_files))
    splits = {name: _cached_rows(digits, name, counts[name], seed) for name in _SPLITS}
    return datasets.DatasetDict({name: splits[name] for name in counts})


def single_digits(data_dir: str | None = None, data_files: DataFiles | None = None) -> dict[str, datasets.Dataset]:
    """Splits train and test of single digits with encoded recordings; arguments and errors as in `connected_digits`."""
    source, splits = load_from_hub("connected_digits", _HUB, data_dir, data_files)
    for name in ("train", "test"):
        if name not in splits:
            raise ValueError(f"{source}: single digits must have the splits train and test, got {', '.join(splits)}")
        if "audio" not in splits[name].column_names:
            columns = ", ".join(splits[name].column_names)
            raise ValueError(f"{source}: split {name!r} must have a column 'audio', got the columns {columns}")
    return {name: _encoded(splits[name]) for name in ("train", "test")}


def _encoded(rows: datasets.Dataset) -> datasets.Dataset:
    rows = rows.select_columns([name for name in ("audio", *_COLUMNS) if name in rows.column_names])
    if isinstance(rows.features["audio"], datasets.Audio):
        return rows.cast_column("audio", datasets.Audio(decode=False))
    return rows


class _SingleDigits:
    """The splits of single digits as an argument of a generator, which `datasets` identifies by their fingerprints."""

    def __init__(self, splits: Mapping[str, datasets.Dataset]) -> None:
        self.splits = splits

    def __getstate__(self) -> dict[str, str]:
        return {name: rows._fingerprint for name, rows in self.splits.items()}


def _cached_rows(digits: _SingleDigits, name: str, count: int, seed: int) -> datasets.Dataset:
    """The strings of a split, from the cache or made now."""
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
            gen_kwargs={"digits": digits, "name": name, "count": count, "seed": seed, "version": _VERSION},
            split=datasets.NamedSplit(f"connected_digits_{name}"),  # the label of the progress bar
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def _rows(digits: _SingleDigits, name: str, count: int, seed: int, version: int) -> Iterator[dict[str, Any]]:
    waveforms, rate = recordings_of(digits.splits, name)
    made = strings(waveforms, rate, count, seed=[seed, _SPLITS.index(name)])
    for number, (waveform, text, speaker) in enumerate(made):
        file = io.BytesIO()
        soundfile.write(file, waveform, rate, format="FLAC", subtype="PCM_16")
        path = f"{name}_{number}.flac"
        yield {"audio": {"bytes": file.getvalue(), "path": path}, "text": text, "speaker": speaker}


def recordings_of(splits: Mapping[str, datasets.Dataset], name: str) -> tuple[Digits, int]:
    """Waveforms of the single digits for the strings of a split, and their sample rate (Hz).

    Args:
        splits: Single digits, train and test.
        name: "train", "validation", or "test".
    """
    split = "test" if name == "test" else "train"
    rows = [_row(row, split, number) for number, row in enumerate(splits[split])]
    if split == "train":
        takes = sorted({row.take for row in rows})
        if len(takes) < 2:
            raise ValueError(
                f"split 'train' must have at least two takes, because the last ones are for validation, got {takes}"
            )
        first = takes[-max(1, len(takes) // _VALIDATION)]
        rows = [row for row in rows if (row.take >= first) == (name == "validation")]
    digits: Digits = {}
    rates = set()
    for row in sorted(rows, key=lambda row: (row.speaker, row.label, row.take)):
        waveform, rate = _read(row.audio)
        rates.add(rate)
        digits.setdefault(row.speaker, [[] for _ in WORDS])[row.label].append(waveform)
    if len(rates) != 1:
        raise ValueError(f"split {split!r} must have one sample rate, got {sorted(rates)} Hz; resample the recordings")
    for speaker, waveforms in digits.items():
        if missing := [word for word, takes_of_digit in zip(WORDS, waveforms) if not takes_of_digit]:
            raise ValueError(
                f"split {split!r} must have all digits of speaker {speaker!r} for the strings to {name}, but lacks "
                f"{', '.join(missing)}; leave the speaker out, or add recordings"
            )
    return digits, rates.pop()


def _row(row: dict[str, Any], split: str, number: int) -> _Row:
    place, audio = f"split {split!r}, row {number}", row["audio"] or {}
    if isinstance(audio, str | bytes):
        audio = {"path" if isinstance(audio, str) else "bytes": audio}
    if not isinstance(audio, dict):
        raise ValueError(f"{place}: column 'audio' must hold audio files or their names, got {type(audio).__name__}")
    named = _NAME.search(audio.get("path") or "")
    given = {key: row.get(key) if row.get(key) is not None else named and named[key] for key in _COLUMNS}
    if missing := [key for key, value in given.items() if value is None]:
        raise ValueError(
            f"{place} must have the columns label, speaker, and take, or a file name such as 7_jackson_32.wav, got no "
            f"{', '.join(missing)} and the file name {audio.get('path')!r}"
        )
    label, take = str(given["label"]), str(given["take"])
    if label not in map(str, range(len(WORDS))) or not take.isdecimal():
        raise ValueError(
            f"{place}: label must be a digit from 0 to 9 and take an integer of at least 0, got {label!r} and {take!r}"
        )
    return _Row(audio, int(label), str(given["speaker"]), int(take))


def _read(audio: dict[str, Any]) -> tuple[np.ndarray, int]:
    """int16 samples, the mean of the channels, and the sample rate (Hz); samples of 16 bits keep their values."""
    rate = read_header(audio).rate
    scaled = np.rint(read_waveform(audio, rate).numpy().astype(np.float64) * _FULL_SCALE)
    return scaled.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16), rate


def strings(
    digits: Digits, rate: int, count: int, *, seed: list[int], noise: float = NOISE
) -> Iterator[tuple[np.ndarray, str, str]]:
    """Strings of digits: int16 samples, their words, and the speaker.

    Args:
        digits: Waveforms of single digits.
        rate: Their sample rate (Hz).
        count: Number of strings.
        seed: Integers from 0 to 2^32 - 1 that decide the strings.
        noise: Standard deviation of the noise in pauses, relative to full scale.
    """
    # numpy's legacy generator, because its numbers never change.
    random = np.random.RandomState(seed)
    speakers = sorted(digits)
    for _ in range(count):
        speaker = speakers[random.randint(len(speakers))]
        string = random.randint(len(WORDS), size=random.randint(_FEWEST_DIGITS, _MOST_DIGITS + 1)).tolist()
        parts = [_pause(random, rate, noise)]
        for digit in string:
            takes = digits[speaker][digit]
            parts += [takes[random.randint(len(takes))], _pause(random, rate, noise)]
        yield np.concatenate(parts), " ".join(WORDS[digit] for digit in string), speaker


def _pause(random: np.random.RandomState, rate: int, noise: float) -> np.ndarray:
    size = random.randint(round(_SHORTEST_PAUSE * rate), round(_LONGEST_PAUSE * rate) + 1)
    return np.rint(random.standard_normal(size) * (noise * _FULL_SCALE)).astype(np.int16)
