"""Batches of recordings with transcripts from files of every kind."""

import json
import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from keeping import Keeping
from sounds import RATE, STORED, check_waves, noise, stored, write_sound
from toy_rows import quiet_trainer

from tasks.audio.built_in.connected_digits import connected_digits
from tasks.audio.processor import AudioProcessor
from tasks.audio.speech.normalization import Writing
from tasks.audio.speech.units import BpeUnits, CharacterUnits, FileUnits
from tasks.audio.speech_data import SpeechDataModule
from tasks.data.batches import Draw
from tasks.data.examples import ReadError

pytestmark = pytest.mark.usefixtures("own_cache")

_WORDS = ["the", "cat", "Sat,", "on", "a", "mat", "and", "Ünder", "it", "slept", "7", "mice"]
_LOWER = Writing(case="lower", punctuation="remove", numerals="spell")


def _transcripts(rows: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(_WORDS, random.integers(1, 8))) for _ in range(rows)]


def _waves(rows: int, first: int = 0) -> dict[int, np.ndarray]:
    return {row: noise(211 + 13 * ((first + 37 * row) % 101), first + row) for row in range(rows)}


_TRAIN, _TEST = _waves(31), _waves(13, 100)
_TRAIN_TEXTS, _TEST_TEXTS = _transcripts(31), _transcripts(13, 1)


def _parquet(file: Path, waves: dict[int, np.ndarray], texts: list[Any], feature: Any = None) -> str:
    features = datasets.Features({"audio": STORED, "text": feature or datasets.Value("string")})
    table = datasets.Dataset.from_dict({"audio": stored(list(waves.values())), "text": texts}, features=features)
    table.cast_column("audio", datasets.Audio()).to_parquet(file)
    return str(file)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {
        "train": _parquet(tmp_path / "train.parquet", _TRAIN, _TRAIN_TEXTS),
        "test": _parquet(tmp_path / "test.parquet", _TEST, _TEST_TEXTS),
    }


def _data(files: Any, path: str = "parquet", **options: Any) -> SpeechDataModule:
    return SpeechDataModule(path, data_files=files, **{"sample_rate": RATE, "batch_size": 5, **options})


def _check(batch: dict[str, Any], data: SpeechDataModule, texts: list[str], normalize: Writing) -> None:
    """Compare the transcripts of a batch with those of rows."""
    assert set(batch) == {"wave", "length", "units", "num_units", "transcript", "file", "index"}
    assert [Path(file).name for file in batch["file"]] == [f"{row}.flac" for row in batch["index"].tolist()]
    assert (batch["units"].dtype, batch["num_units"].dtype) == (torch.int64, torch.int64)
    assert batch["units"].shape == (len(batch["index"]), int(batch["num_units"].max()))
    for units, count, text, row in zip(
        batch["units"], batch["num_units"].tolist(), batch["transcript"], batch["index"].tolist(), strict=True
    ):
        assert text == normalize(texts[row])
        assert units[:count].tolist() == data.processor.units.encode(text)
        assert not units[count:].any()
        assert units[:count].all()


@pytest.mark.parametrize("spec", [CharacterUnits(), BpeUnits(40)], ids=repr)
@pytest.mark.parametrize("writing", [Writing(), _LOWER], ids=["as they are", "normalized"])
@pytest.mark.parametrize("streaming", [False, True])
def test_batches_hold_recordings_and_units(files: dict[str, str], spec: Any, writing: Writing, streaming: bool) -> None:
    data = _data(files, units=spec, writing=writing, streaming=streaming, val_fraction=0.0)
    rows: list[int] = []
    for batch in data.test_dataloader():
        _check(batch, data, _TEST_TEXTS, writing)
        check_waves(batch, _TEST)
        rows += batch["index"].tolist()
    assert sorted(rows) == list(range(13))
    trained = list(data.train_dataloader())
    assert sum(len(batch["wave"]) for batch in trained) in range(28, 32)
    if not streaming:
        for batch in trained:
            _check(batch, data, _TRAIN_TEXTS, writing)
            check_waves(batch, _TRAIN)


def test_attributes_need_no_setup(files: dict[str, str], tmp_path: Path) -> None:
    data = _data(files, writing=_LOWER, val_fraction=0.2)
    train = data.split_for("train").rows["text"]
    found = sorted(set("".join(map(_LOWER, train))))
    assert data.num_units == 1 + len(found)
    processor = data.processor
    assert processor.units.table == ["", *found]
    assert processor == AudioProcessor(RATE, processor.units.settings, _LOWER.settings)
    assert (processor.writing, processor.class_names) == (_LOWER, None)
    data.write_run_files(tmp_path)
    assert json.loads((tmp_path / "units.json").read_text(encoding="utf-8")) == processor.unit_settings
    again = _data(files, units=FileUnits(str(tmp_path)), val_fraction=0.0)
    assert again.processor.units.table == processor.units.table


def test_units_are_learned_once(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def first(**options: Any) -> SpeechDataModule:
        return _data(files, **{"units": BpeUnits(40), "val_fraction": 0.0, **options})

    table = first().processor.units.table
    monkeypatch.setattr(BpeUnits, "build", None)  # cannot be called
    assert first().processor.units.table == table
    for options in ({"units": BpeUnits(41)}, {"writing": _LOWER}, {"val_fraction": 0.3}):
        with pytest.raises(TypeError):
            _ = first(**options).processor


def test_a_folder_with_tables(tmp_path: Path) -> None:
    for split, waves, texts in (("train", _TRAIN, _TRAIN_TEXTS), ("test", _TEST, _TEST_TEXTS)):
        lines = [f'{row}.flac,"{text}"\n' for row, text in zip(waves, texts)]
        for row, wave in waves.items():
            write_sound(tmp_path / split / f"{row}.flac", wave)
        (tmp_path / split / "metadata.csv").write_text("file,spoken\n" + "".join(lines), encoding="utf-8")
    for arguments in ({"path": "audiofolder", "data_dir": str(tmp_path)}, {"path": str(tmp_path)}):
        data = SpeechDataModule(**arguments, transcript_column="spoken", sample_rate=RATE)
        for batch in data.test_dataloader():
            _check(batch, data, _TEST_TEXTS, Writing())
            check_waves(batch, _TEST)


def test_examples_can_be_sent_to_processes_that_share_nothing(files: dict[str, str]) -> None:
    for spec in (CharacterUnits(), BpeUnits(40)):
        examples = _data(files, units=spec).examples_for("train")
        copied = pickle.loads(pickle.dumps(examples))
        draw = Draw(3, [4, 0, 7])
        one, other = examples[draw], copied[draw]  # type: ignore[index]
        assert torch.equal(one["units"], other["units"])
        assert torch.equal(one["wave"], other["wave"])
        assert one["transcript"] == other["transcript"]


_FAULTS = [
    (None, "the transcript is missing"),
    ("", "the transcript is empty"),
    (" \t\n", "the transcript is empty"),
    ("?!", r"the transcript '\?!' is empty after normalization \(writing\)"),
]


def _with(place: int, text: Any, texts: list[Any]) -> list[Any]:
    return [*texts[:place], text, *texts[place + 1 :]]


@pytest.mark.parametrize(("text", "fault"), _FAULTS)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_bad_transcript_is_an_error_that_names_it(tmp_path: Path, text: Any, fault: str, streaming: bool) -> None:
    file = _parquet(tmp_path / "train.parquet", _TEST, _with(4, text, _TEST_TEXTS))
    data = _data(file, writing=_LOWER, test_split="train", streaming=streaming, val_fraction=0.0)
    place = "row 4 of the stream" if streaming else "row 4"
    with pytest.raises(
        ReadError,
        match=rf"split 'train', {place}: {fault} \(of the recording '4.flac'\)\. Repair .* by --data.on_bad_sound skip",
    ):
        list(data.test_dataloader())


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_transcripts_are_skipped_and_counted(
    tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    texts: list[Any] = _with(4, None, _with(6, "?!", _with(9, "", _TEST_TEXTS)))
    file = _parquet(tmp_path / "train.parquet", _TEST, texts)
    options: Any = {"writing": _LOWER, "on_bad_sound": "skip", "val_fraction": 0.0, "batch_size": 10}
    data = _data(file, test_split="train", streaming=streaming, **options)
    for loader in (data.test_dataloader(), data.train_dataloader()):
        (batch,) = loader
        assert len(batch["index"]) == 10
        assert not {4, 6, 9} & set(batch["index"].tolist()) or streaming
    place = "row 4 of the stream" if streaming else "row 4"
    assert f"skipped: split 'train', {place}: the transcript is missing" in caplog.text
    assert data.skipped == {"test": 3, "train": 3}


def _with_strange_characters(folder: Path) -> dict[str, str]:
    texts = _with(3, "the ñandú sat", _with(8, "the cat: ñ", _TEST_TEXTS))
    return {
        "train": _parquet(folder / "train.parquet", _TRAIN, _TRAIN_TEXTS),
        "test": _parquet(folder / "test.parquet", _TEST, texts),
    }


@pytest.mark.parametrize("spec", [CharacterUnits(), BpeUnits(40)], ids=repr)
def test_characters_that_the_units_lack_are_listed(tmp_path: Path, spec: Any) -> None:
    data = _data(_with_strange_characters(tmp_path), units=spec, writing=_LOWER)
    data.setup("fit")
    message = (
        r"split 'test': 2 transcripts with characters that the units lack, \('ñ', 'ú'\); the first in row 3: the "
        r"transcript 'the ñandú sat' has characters that the units lack: 'ñ', 'ú' \(of the recording '3.flac'\)\. Rep"
        r".* --data.on_bad_sound skip"
    )
    with pytest.raises(ReadError, match=message):
        data.setup("test")
    streamed = _data(data.source.data_files, units=spec, writing=_LOWER, streaming=True)
    with pytest.raises(ReadError, match="split 'test', row 3 of the stream: the transcript 'the ñandú sat' has char"):
        list(streamed.test_dataloader())


def test_transcripts_with_characters_that_the_units_lack_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = _data(_with_strange_characters(tmp_path), writing=_LOWER, on_bad_sound="skip")
    rows = [row for _ in range(2) for batch in data.test_dataloader() for row in batch["index"].tolist()]
    assert sorted(rows) == sorted(2 * [row for row in range(13) if row not in (3, 8)])
    assert data.skipped == {"test": 2}
    message = "split 'test': 2 transcripts with characters that the units lack, ('ñ', 'ú'); their rows are left out"
    assert caplog.text.count(message) == 1


def test_bad_recordings_and_bad_transcripts_together(tmp_path: Path) -> None:
    waves = {**_TEST, 2: np.zeros(997, dtype=np.int16), 7: noise(101)}
    file = _parquet(tmp_path / "train.parquet", waves, _with(5, None, _TEST_TEXTS))
    data = _data(file, on_bad_sound="skip", test_split="train", val_fraction=0.0)
    rows = [row for batch in data.test_dataloader() for row in batch["index"].tolist()]
    assert sorted(rows) == [row for row in range(13) if row not in (2, 5, 7)]
    assert data.skipped == {"test": 3}


def test_longer_recordings_are_dropped_from_training(tmp_path: Path) -> None:
    """Faults stay with their rows when other rows are dropped."""
    short = [row for row, wave in _TEST.items() if len(wave) <= 0.1 * RATE]
    long = next(row for row in _TEST if row not in short)
    file = _parquet(tmp_path / "train.parquet", _TEST, _with(long, None, _with(short[2], None, _TEST_TEXTS)))
    with pytest.raises(ReadError, match=f"split 'train', row {short[2]}: the transcript is missing"):
        _data(file, longest=0.1, val_fraction=0.0).setup("fit")
    data = _data(file, longest=0.1, val_fraction=0.0, on_bad_sound="skip", batch_size=len(short) - 1)
    (batch,) = data.train_dataloader()
    assert sorted(batch["index"].tolist()) == [row for row in short if row != short[2]]
    check_waves(batch, _TEST)


def test_a_given_processor_decides_sample_rate_units_and_normalization(files: dict[str, str]) -> None:
    upper = Writing(case="upper", numerals="spell")
    units = BpeUnits(60).build(map(upper, [*_TRAIN_TEXTS, *_TEST_TEXTS]))
    processor = AudioProcessor(4_000, units.settings, upper.settings)
    data = _data(files, writing=_LOWER, units=CharacterUnits(), processor=processor)
    data.setup("fit")
    task = Keeping()
    quiet_trainer().test(task, data, verbose=False)
    assert (data.processor, data.num_units, data.sample_rate) == (processor, units.size, 4_000)
    for batch in task.batches:
        _check(batch, data, _TEST_TEXTS, upper)
        for length, row in zip(batch["length"].tolist(), batch["index"].tolist()):
            assert length == -(-len(_TEST[row]) // 2)
    assert sum(len(batch["index"]) for batch in task.batches) == 13


def test_files_to_predict_have_the_rate_of_the_processor(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", _TEST[0])
    task = Keeping()
    data = SpeechDataModule("nobody/nothing", sounds=str(tmp_path), processor=AudioProcessor(4_000))
    quiet_trainer().predict(task, data)
    (batch,) = task.batches
    assert set(batch) == {"wave", "length", "file", "index"}
    assert batch["length"].tolist() == [-(-len(_TEST[0]) // 2)]


def test_built_in_data() -> None:
    assert SpeechDataModule.built_in == {"connected_digits": connected_digits}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transcript_column": "txt"},
            "transcript_column='txt': split 'train' has no such column; it has: audio, text",
        ),
        ({"audio_column": "wav"}, "audio_column='wav': split 'train' has no such column; it has: audio, text"),
        (
            {"transcript_column": "audio"},
            "transcript_column must be a column of texts, got 'audio' of type Audio",
        ),
        ({"audio_column": "text", "transcript_column": "text"}, "cannot be read: No such file or directory"),
        ({"units": BpeUnits(3)}, "units.vocab_size must be at least"),
        ({"units": FileUnits("/no/such")}, "there is no file '/no/such'"),
        ({"sample_rate": 8}, "sample_rate must be 1,000 to 768,000 Hz, got 8"),
        ({"on_bad_sound": "ignore"}, "on_bad_sound must be 'error' or 'skip', got 'ignore'"),
    ],
)
def test_mistakes(files: dict[str, str], options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _data(files, **options).setup("fit")


def test_transcripts_that_are_numbers(tmp_path: Path) -> None:
    file = _parquet(tmp_path / "train.parquet", _TEST, list(range(13)), datasets.Value("int32"))
    with pytest.raises(ValueError, match=r"transcript_column must be a column of texts, got 'text' of type .*int32"):
        _data(file).setup("fit")


def test_transcripts_without_characters(tmp_path: Path) -> None:
    file = _parquet(tmp_path / "train.parquet", _TEST, [None] * 13)
    with pytest.raises(
        ValueError, match="transcripts of the training split must have characters; check transcript_col"
    ):
        _data(file).setup("fit")


def _parsed(*arguments: str) -> SpeechDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SpeechDataModule, "data")
    return parser.instantiate(parser.parse_args(["--data=SpeechDataModule", "--data.path=parquet", *arguments])).data


@pytest.mark.parametrize(
    ("arguments", "attribute", "value"),
    [
        (["transcript_column=said"], "transcript_column", "said"),
        (["audio_column=clip"], "audio_column", "clip"),
        (["units=BpeUnits", "units.vocab_size=77"], "units_spec", BpeUnits(77)),
        (["units=FileUnits", "units.path=runs/a"], "units_spec", FileUnits("runs/a")),
        (["writing.case=upper"], "writing", Writing(case="upper")),
        (["writing.punctuation=remove"], "writing", Writing(punctuation="remove")),
        (["writing.numerals=spell"], "writing", Writing(numerals="spell")),
        (["max_seconds=120"], "max_seconds", 120),
        (["longest=20"], "longest", 20),
        (["on_bad_sound=skip"], "on_bad", "skip"),
        (["sounds=a.wav"], "sounds", "a.wav"),
    ],
)
def test_options_reach_the_module_from_the_command_line(arguments: list[str], attribute: str, value: Any) -> None:
    data = _parsed(*(f"--data.{argument}" for argument in arguments))
    assert getattr(data, attribute) == value
    assert data.hparams["units"] == data.units_spec.to_dict()
