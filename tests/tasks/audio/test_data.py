"""Batches of labelled recordings from files of every kind."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
import torch
from jsonargparse import ArgumentParser
from keeping import Keeping
from sounds import RATE, STORED, check_waves, noise, sound_bytes, stored, write_sound
from tones import write_tones
from toy_rows import quiet_trainer

from softformer.training.encoders.sequence import SoftEncoderSpec
from tasks.audio.classifier import AudioClassifier
from tasks.audio.data import AudioDataModule
from tasks.audio.features import FeatureSpec
from tasks.audio.processor import AudioProcessor
from tasks.data.batches import Draw
from tasks.data.examples import ReadError

pytestmark = pytest.mark.usefixtures("own_cache")

_NAMES = ["ant", "bee", "cat"]


def _waves(rows: int, first: int = 0) -> dict[int, np.ndarray]:
    """Noise of 211 to 1,511 samples, by row number."""
    return {row: noise(211 + 13 * ((first + 37 * row) % 101), first + row) for row in range(rows)}


def _parquet(file: Path, waves: dict[int, np.ndarray], labels: list[Any] | None = None, feature: Any = None) -> str:
    features = {"audio": STORED, "label": feature or datasets.ClassLabel(names=_NAMES)}
    content = {"audio": stored(list(waves.values())), "label": labels or [row % 3 for row in waves]}
    datasets.Dataset.from_dict(content, features=datasets.Features(features)).to_parquet(file)
    return str(file)


_TRAIN, _TEST = _waves(31), _waves(13, 100)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {"train": _parquet(tmp_path / "train.parquet", _TRAIN), "test": _parquet(tmp_path / "test.parquet", _TEST)}


def _data(files: Any, path: str = "parquet", **options: Any) -> AudioDataModule:
    return AudioDataModule(path, data_files=files, **{"sample_rate": RATE, "batch_size": 5, **options})


def _rows(batches: Any) -> list[int]:
    return [row for batch in batches for row in batch["index"].tolist()]


def test_batches_hold_recordings_labels_and_row_numbers(files: dict[str, str]) -> None:
    data = _data(files)
    batches = list(data.test_dataloader())
    assert [len(batch["wave"]) for batch in batches] == [5, 5, 3]
    assert sorted(_rows(batches)) == list(range(13))
    for batch in batches:
        assert set(batch) == {"wave", "length", "label", "index"}
        assert batch["label"].dtype == torch.int64
        assert batch["label"].tolist() == [row % 3 for row in batch["index"].tolist()]
        check_waves(batch, _TEST)
    trained = list(data.train_dataloader())
    assert len(set(_rows(trained))) in range(23, 29)
    for batch in trained:
        check_waves(batch, _TRAIN)
        assert batch["label"].tolist() == [row % 3 for row in batch["index"].tolist()]


def test_attributes_need_no_setup(files: dict[str, str]) -> None:
    data = _data(files, val_fraction=0.0)
    assert (data.num_classes, data.class_names, data.multi_label, data.sample_rate) == (3, _NAMES, False, RATE)
    assert data.class_counts == [11, 10, 10]
    assert data.processor == AudioProcessor(RATE, class_names=_NAMES, multi_label=False)
    assert AudioDataModule("parquet", data_files=files).sample_rate == 16_000


def _write_table(folder: Path, kind: str) -> str:
    """A table of the test recordings: of file names, or of bytes."""
    labels = [_NAMES[row % 3] for row in _TEST]
    if kind in ("csv", "json"):
        for row, wave in _TEST.items():
            write_sound(folder / "files" / f"{row}.wav", wave)
        rows = [{"audio": f"files/{row}.wav", "label": label} for row, label in zip(_TEST, labels)]
        file = folder / f"test.{kind}"
        if kind == "csv":
            file.write_text("audio,label\n" + "".join(f"{row['audio']},{row['label']}\n" for row in rows))
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(file)
    table = datasets.Dataset.from_dict(
        {"audio": stored(list(_TEST.values())), "label": labels},
        features=datasets.Features({"audio": STORED, "label": datasets.Value("string")}),
    )
    if kind == "audio":
        table = table.cast_column("audio", datasets.Audio())
    if kind == "bytes":
        content = [sound_bytes(wave) for wave in _TEST.values()]
        table = datasets.Dataset.from_dict({"audio": content, "label": labels})
    table.to_parquet(folder / "test.parquet")
    return str(folder / "test.parquet")


@pytest.mark.parametrize("kind", ["csv", "json", "stored", "audio", "bytes"])
@pytest.mark.parametrize("streaming", [False, True])
def test_tables_of_every_kind(tmp_path: Path, kind: str, streaming: bool) -> None:
    path = kind if kind in ("csv", "json") else "parquet"
    data = _data({"test": _write_table(tmp_path, kind)}, path, streaming=streaming, class_names=_NAMES)
    batches = list(data.test_dataloader())
    assert sorted(_rows(batches)) == list(range(13))
    assert _rows(batches) == list(range(13)) or not streaming
    for batch in batches:
        check_waves(batch, _TEST)
        assert batch["label"].tolist() == [row % 3 for row in batch["index"].tolist()]


def test_a_streamed_split_is_shuffled(tmp_path: Path) -> None:
    data = _data({"train": _write_table(tmp_path, "audio")}, streaming=True, class_names=_NAMES, val_fraction=0.0)
    lengths = [batch["length"].tolist() for batch in data.train_dataloader()]
    assert [len(batch) for batch in lengths] == [5, 5]
    every = [len(wave) for wave in _TEST.values()]
    assert lengths != [every[:5], every[5:10]]
    assert {length for batch in lengths for length in batch} <= set(every)


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number, name in enumerate(_NAMES):
            for take in range(5):
                write_sound(tmp_path / split / name / f"{take}.wav", noise(211 + 10 * number, take))
    for arguments in ({"path": "audiofolder", "data_dir": str(tmp_path)}, {"path": str(tmp_path)}):
        options: Any = {"sample_rate": RATE, "batch_size": 4, "val_fraction": 0.2}
        data = AudioDataModule(**arguments, **options)
        assert data.class_names == _NAMES
        assert torch.cat([batch["label"] for batch in data.val_dataloader()]).sort().values.tolist() == [0, 1, 2]
        for batch in data.test_dataloader():
            waves = {row: noise(211 + 10 * (row // 5), row % 5) for row in batch["index"].tolist()}
            check_waves(batch, waves)
            assert batch["label"].tolist() == [row // 5 for row in waves]
        assert len(AudioDataModule(**arguments, **options, train_split="train[:80%]").split_for("train")) == 10


def test_a_folder_with_a_table(tmp_path: Path) -> None:
    for row, wave in _TEST.items():
        write_sound(tmp_path / f"{row}.flac", wave)
    lines = [f"{row}.flac,{_NAMES[row % 3]}\n" for row in _TEST]
    (tmp_path / "metadata.csv").write_text("file_name,species\n" + "".join(lines))
    data = AudioDataModule(
        str(tmp_path), label_column="species", test_split="train", sample_rate=RATE, val_fraction=0.0
    )
    assert data.class_names == _NAMES
    (batch,) = data.test_dataloader()
    check_waves(batch, _TEST)


def test_rates_and_channels_of_every_kind(tmp_path: Path) -> None:
    kinds = [(8_000, None), (16_000, 2), (44_100, None), (48_000, 3)]
    for row, (rate, channels) in enumerate(kinds):
        write_sound(tmp_path / f"{row}.wav", noise(rate // 10, row, channels), rate)
    table = tmp_path / "train.csv"
    table.write_text("audio,label\n" + "".join(f"{row}.wav,{row}\n" for row in range(4)))
    (batch,) = _data(str(table), "csv", val_fraction=0.0).train_dataloader()
    assert batch["length"].tolist() == [800] * 4
    assert batch["wave"].shape == (4, 800)


def test_lists_of_labels(tmp_path: Path) -> None:
    labels = [[row % 3, (row + 1) % 3] if row % 4 else [] for row in range(13)]
    feature = datasets.List(datasets.ClassLabel(names=_NAMES))
    data = _data(_parquet(tmp_path / "train.parquet", _TEST, labels, feature), val_fraction=0.3)
    assert (data.num_classes, data.multi_label) == (3, True)
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        assert batch["label"].dtype == torch.float32
        for row, target in zip(batch["index"].tolist(), batch["label"]):
            assert target.nonzero().flatten().tolist() == sorted(labels[row])


def test_the_validation_part_keeps_the_shares_of_classes(tmp_path: Path) -> None:
    file = _parquet(tmp_path / "train.parquet", _waves(40), labels=[0] * 20 + [1] * 12 + [2] * 8)
    (batch,) = _data(file, val_fraction=0.25, batch_size=10).val_dataloader()
    assert batch["label"].bincount().tolist() == [5, 3, 2]


def test_a_class_with_a_single_recording_cannot_be_divided(tmp_path: Path) -> None:
    labels = [row % 2 for row in range(12)] + [2]
    file = _parquet(tmp_path / "train.parquet", _TEST, labels)
    message = r"train_split must have two .* \(val_fraction 0.1\), got one of the classes \('cat'\) in 'train'; add"
    with pytest.raises(ValueError, match=message):
        _data(file).setup("fit")
    _data(file, val_fraction=0.0).setup("fit")
    _data({"train": file, "validation": file}).setup("fit")
    _data({"train": file, "test": file}).setup("test")


def test_batches_are_limited_in_seconds_and_grouped(files: dict[str, str]) -> None:
    seconds = {row: len(wave) / RATE for row, wave in _TRAIN.items()}
    data = _data(files, max_seconds=0.5, batch_size=29, val_fraction=0.0)
    batches = list(data.train_dataloader())
    assert max(batch["wave"].numel() for batch in batches) <= 0.5 * RATE
    assert max(len(batch["wave"]) for batch in batches) > 3
    with pytest.raises(ValueError, match=r"max_seconds must be at least 0\.1\d+, .*, got 0.1; raise it, or .* leave"):
        _data(files, max_seconds=0.1, val_fraction=0.0).train_dataloader()
    least = _data(files, max_seconds=max(seconds.values()), val_fraction=0.0).train_dataloader()
    assert max(batch["wave"].numel() for batch in least) == max(map(len, _TRAIN.values()))

    def padding(**options: Any) -> float:
        batches = list(_data(files, val_fraction=0.0, **options).train_dataloader())
        return 1 - sum(batch["length"].sum().item() for batch in batches) / sum(b["wave"].numel() for b in batches)

    assert padding() < 0.6 * padding(group_by_length=False)


def test_evaluation_drops_no_recordings(files: dict[str, str]) -> None:
    data = _data(files, max_seconds=0.1, longest=0.09, shortest=0.02)
    batches = list(data.test_dataloader())
    assert sorted(_rows(batches)) == list(range(13))
    assert all(len(batch["wave"]) == 1 or batch["wave"].numel() <= 0.1 * RATE for batch in batches)
    assert any(batch["wave"].numel() > 0.1 * RATE for batch in batches)
    assert any(len(batch["wave"]) > 1 for batch in batches)


def test_evaluation_without_grouping_keeps_the_order(files: dict[str, str]) -> None:
    rows = [batch["index"].tolist() for batch in _data(files, group_by_length=False).test_dataloader()]
    assert rows == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]]


def test_longer_recordings_are_dropped_from_training(files: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    short = [row for row, wave in _TRAIN.items() if len(wave) <= 0.1 * RATE]
    assert 5 < len(short) < 26
    with caplog.at_level("INFO", logger="lightning"):
        data = _data(files, longest=0.1, val_fraction=0.0, batch_size=len(short))
        for _ in range(2):
            (batch,) = data.train_dataloader()
            assert sorted(batch["index"].tolist()) == short
            check_waves(batch, _TRAIN)
    message = f"split 'train': {31 - len(short)} of 31 recordings last more than 0.1 s (longest); they are left out"
    assert caplog.text.count(message) == 1
    assert data.skipped == {"train": 0}
    with pytest.raises(
        ValueError,
        match=r"longest must be at least 0\.02\d+, the length of the shortest recording of split 'train', got",
    ):
        _data(files, longest=0.026, val_fraction=0.0, shortest=0.001).train_dataloader()


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_processes_change_nothing(files: dict[str, str], workers: int) -> None:
    one = _data(files, seed=3)
    other = _data(files, seed=3, num_workers=workers, num_proc=3, shortest=0.0251)
    for first, second in zip(one.train_dataloader(), other.train_dataloader(), strict=True):
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_examples_can_be_sent_to_processes_that_share_nothing(files: dict[str, str]) -> None:
    examples = _data(files).examples_for("train")
    copied = pickle.loads(pickle.dumps(examples))
    draw = Draw(3, [4, 0, 7])
    assert torch.equal(copied[draw]["wave"], examples[draw]["wave"])  # type: ignore[index]


def test_headers_are_read_once(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tables; of file names in them; and of folders, which are in memory: until a file changes."""
    for row, wave in _TEST.items():
        write_sound(tmp_path / "folder" / _NAMES[row % 3] / f"{row}.wav", wave)
    names = tmp_path / "names.csv"
    names.write_text("audio,label\n" + "".join(f"folder/{_NAMES[row % 3]}/{row}.wav,{row % 3}\n" for row in _TEST))

    def modules(**options: Any) -> list[AudioDataModule]:
        given: Any = {"val_fraction": 0.0, "sample_rate": RATE, **options}
        folder = AudioDataModule(str(tmp_path / "folder"), **given)
        return [_data(files, **given), _data(str(names), "csv", **given), folder]

    first = [data.examples_for("train").seconds for data in modules()]  # type: ignore[union-attr]
    monkeypatch.setattr("tasks.audio.reading.headers.ReadHeaders.__call__", None)  # cannot be called
    again = [data.examples_for("train").seconds for data in modules()]  # type: ignore[union-attr]
    assert all(np.array_equal(before, now) for before, now in zip(first, again, strict=True))
    for data in modules(shortest=0.024):
        with pytest.raises(TypeError):
            data.examples_for("train")
    os.utime(tmp_path / "folder/ant/0.wav", (1, 1))
    table, *others = modules()
    table.examples_for("train")
    for data in others:
        with pytest.raises(TypeError):
            data.examples_for("train")


def test_a_file_that_was_repaired_is_read_again(tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    table.write_text("audio,label\n0.wav,0\n1.wav,1\n")
    write_sound(tmp_path / "0.wav", _TEST[0])
    with pytest.raises(ReadError, match=f"row 1: the recording '{tmp_path / '1.wav'}' cannot be read: No such file"):
        _data(str(table), "csv", val_fraction=0.0).train_dataloader()
    write_sound(tmp_path / "1.wav", _TEST[1])
    (batch,) = _data(str(table), "csv", val_fraction=0.0).train_dataloader()
    check_waves(batch, _TEST)


def _with_broken(folder: Path, **broken: Any) -> str:
    """A table of 31 files, some of which are replaced: by bytes, or by samples."""
    for row, wave in _TRAIN.items():
        content = broken.get(f"row_{row}", wave)
        file = folder / f"{row}.wav"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            write_sound(file, content, subtype=None if content.dtype == np.int16 else "FLOAT")
    table = folder / "train.csv"
    table.write_text("audio,label\n" + "".join(f"{row}.wav,{_NAMES[row % 3]}\n" for row in _TRAIN))
    return str(table)


_SILENCE = np.zeros(997, dtype=np.int16)
_NAN = np.full(997, np.nan, dtype=np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"broken", "cannot be read"),
        (sound_bytes(noise(997), kind="WAV")[:900], "is cut short"),
        (_SILENCE[:0], "has no samples"),
        (_SILENCE[:100] + 1, "must last at least 25.0 ms .*, got 12.5 ms"),
        (_SILENCE, "is silent"),
        (_NAN, "must have finite samples"),
    ],
    ids=["broken", "cut", "empty", "short", "silent", "nan"],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_bad_recording_is_an_error_that_names_it(tmp_path: Path, content: Any, message: str, streaming: bool) -> None:
    table = _with_broken(tmp_path, row_4=content)
    data = _data(table, "csv", test_split="train", class_names=_NAMES, streaming=streaming, val_fraction=0.0)
    place = "row 4 of the stream" if streaming else "row 4"
    file = tmp_path / "4.wav"
    expected = f"split 'train', {place}: the recording '{file}' {message}.*Repair .* by --data.on_bad_sound skip"
    with pytest.raises(ReadError, match=expected):
        list(data.test_dataloader())


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_recordings_are_skipped_and_counted(
    tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    table = _with_broken(tmp_path, row_4=b"broken", row_9=_SILENCE, row_19=_NAN, row_20=_SILENCE[:100] + 1)
    good = [row for row in range(31) if row not in (4, 9, 19, 20)]
    options: Any = {"class_names": _NAMES, "on_bad_sound": "skip", "val_fraction": 0.0, "batch_size": 27}
    data = _data(table, "csv", test_split="train", streaming=streaming, **options)
    (batch,) = data.test_dataloader()
    assert sorted(batch["index"].tolist()) == good
    check_waves(batch, _TRAIN)
    assert data.skipped == {"test": 4}
    place = "row 4 of the stream" if streaming else "row 4"
    assert f"skipped: split 'train', {place}: the recording '{tmp_path / '4.wav'}' cannot be read" in caplog.text
    (batch,) = data.train_dataloader()
    assert len(batch["index"]) == 27
    if not streaming:
        # Headers show two of them beforehand; the next row replaces the others.
        assert set(batch["index"].tolist()) <= set(good)
        check_waves(batch, _TRAIN)


def test_the_replacement_of_a_bad_recording_is_not_longer(tmp_path: Path) -> None:
    table = _with_broken(tmp_path, row_9=np.zeros(len(_TRAIN[9]), dtype=np.int16))
    data = _data(table, "csv", on_bad_sound="skip", val_fraction=0.0)
    examples = data.examples_for("train")
    batch = examples[[9]]
    (row,) = batch["index"].tolist()
    assert row != 9
    assert len(_TRAIN[row]) <= len(_TRAIN[9])
    shortest = min(_TRAIN, key=lambda row: len(_TRAIN[row]))
    order = list(examples.others(shortest))
    lengths = [len(_TRAIN[row]) for row in order]
    equal = lengths.count(len(_TRAIN[shortest]))
    assert lengths[:equal] == [len(_TRAIN[shortest])] * equal
    assert lengths == sorted(lengths)
    assert sorted([*order, shortest]) == list(range(31))


def _classifier(window: float, **options: Any) -> AudioClassifier:
    features = FeatureSpec(window=window, num_mels=11)
    given = {"processor": AudioProcessor(RATE, class_names=["high", "low", "mid"]), **options}
    return AudioClassifier(SoftEncoderSpec(6, 1, 3, num_landmarks=5), features=features, **given)


def _tones(folder: Path, **options: Any) -> AudioDataModule:
    """31 recordings of 0.11 s and more, six of which are shorter than 0.13 s."""
    names = write_tones(folder / "tones", 31, 0)
    given = {"sample_rate": RATE, "val_fraction": 0.0, "test_split": "train", "sounds": names, **options}
    return AudioDataModule(names, **given)


_TOO_SHORT = r"must last at least 130.0 ms \(shortest, or a window of the features\), got 110.0 ms"


@pytest.mark.parametrize("function", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_recordings_shorter_than_a_window_of_the_task_are_bad(tmp_path: Path, function: str, on_bad: Any) -> None:
    data = _tones(tmp_path, on_bad_sound=on_bad, val_split="train")
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=1.0 if function == "validate" else 0)
    if on_bad == "error":
        with pytest.raises(ReadError, match=_TOO_SHORT):
            getattr(trainer, function)(_classifier(130.0), data)
        return
    getattr(trainer, function)(_classifier(130.0), data)
    roles = {"fit": {"train", "validation"}, "validate": {"validation"}, "test": {"test"}, "predict": {"predict"}}
    assert data.skipped == dict.fromkeys(roles[function], 6)
    # The next run may have another window.
    getattr(trainer, function)(_classifier(25.0), data)
    assert data.skipped == dict.fromkeys(roles[function], 0)


def test_streamed_recordings_shorter_than_a_window_of_the_task_are_bad(tmp_path: Path) -> None:
    files = _parquet(tmp_path / "test.parquet", {row: noise(880 + 40 * row, row) for row in range(7)})
    options: Any = {"streaming": True, "test_split": "train", "val_fraction": 0.0}
    task = _classifier(130.0, processor=AudioProcessor(RATE, class_names=_NAMES))
    with pytest.raises(ReadError, match=f"row 0 of the stream: .*{_TOO_SHORT}"):
        quiet_trainer().test(task, _data(files, **options), verbose=False)
    data = _data(files, **options, on_bad_sound="skip")
    quiet_trainer().test(task, data, verbose=False)
    assert data.skipped == {"test": 4}


def test_short_recordings_of_the_validation_split_stop_a_run_before_its_first_step(tmp_path: Path) -> None:
    train = _parquet(tmp_path / "train.parquet", {row: noise(1_600, row) for row in range(5)})
    short = _parquet(tmp_path / "val.parquet", {row: noise(880, row) for row in range(5)})
    data = _data({"train": train, "validation": short})
    task = _classifier(130.0, processor=AudioProcessor(RATE, class_names=_NAMES))
    trainer = quiet_trainer(max_epochs=1)
    with pytest.raises(ReadError, match=_TOO_SHORT):
        trainer.fit(task, data)
    assert trainer.global_step == 0


def test_a_window_of_default_length_needs_no_second_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At this sample rate a window of 25 ms is rounded to 25.03 ms."""
    data = _tones(tmp_path, sample_rate=11_025)
    data.setup("test")
    monkeypatch.setattr("tasks.audio.recording_data.read_headers", None)  # cannot be called
    task = _classifier(25.0, processor=AudioProcessor(11_025, class_names=["high", "low", "mid"]))
    assert task.network.backbone.features.window == 276
    quiet_trainer().test(task, data, verbose=False)


def test_every_length_that_is_accepted_makes_a_frame(tmp_path: Path) -> None:
    """Lengths around a window of 25 ms in files of several sample rates, for networks of several."""
    for rate in (8_000, 11_025, 16_000, 22_050, 44_100, 48_000):
        for more in range(-1, 4):
            write_sound(tmp_path / f"{rate}_{more}.wav", noise(rate // 40 + more, 1 + more), rate)
    for rate in (8_000, 11_025, 16_000, 22_050, 44_100):
        data = AudioDataModule(
            "unread", sounds=str(tmp_path), sample_rate=rate, on_bad_sound="skip", group_by_length=False
        )
        task = AudioClassifier(SoftEncoderSpec(6, 1, 3, num_landmarks=5), num_classes=3, sample_rate=rate)
        found = quiet_trainer().predict(task, data)
        assert found is not None
        files = {Path(row["file"]).name for batch in found for row in batch}
        assert files == {file.name for file in tmp_path.iterdir() if soundfile.info(file).duration >= 0.025}


def test_a_split_of_bad_recordings(tmp_path: Path) -> None:
    table = _with_broken(tmp_path, **{f"row_{row}": b"broken" for row in _TRAIN})
    data = _data(table, "csv", on_bad_sound="skip", val_fraction=0.0)
    with pytest.raises(ReadError, match="split 'train': none of its 31 rows can be read"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio_column": "wave"}, "audio_column='wave': split 'train' has no such column; it has: audio, label"),
        ({"label_column": "class"}, "label_column='class': split 'train' has no such column; it has: audio, label"),
        ({"audio_column": "label"}, r"audio_column must be a column of recordings \(.*\), got 'label' of type Cl"),
        ({"label_column": "audio"}, r"label_column must be a column of class labels .*, got \'audio\'"),
        ({"class_names": ["a"]}, "class_names must have 3 names"),
        ({"sample_rate": 8}, "sample_rate must be 1,000 to 768,000 Hz, got 8"),
        ({"shortest": -1.0}, "shortest must be at least 0 seconds, got -1.0"),
        ({"longest": 0.02}, "longest must be more seconds than shortest, 0.025, got 0.02"),
        ({"max_seconds": 0.0}, "max_seconds must be a positive number of seconds, got 0.0"),
        ({"num_proc": 0}, "num_proc must be a whole number of at least 1, got 0"),
        ({"longest": 7.0, "streaming": True}, "longest must be left out with streaming, .* got 7.0; choose"),
        ({"max_seconds": 7.0, "streaming": True}, "max_seconds must be left out with streaming"),
        ({"on_bad_sound": "ignore"}, "on_bad_sound must be 'error' or 'skip', got 'ignore'"),
    ],
)
def test_mistakes(files: dict[str, str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _data(files, **options).setup("fit")


def test_a_given_processor_decides_sample_rate_and_classes(files: dict[str, str]) -> None:
    processor = AudioProcessor(4_000, class_names=["yak", "cat", "bee", "ant"])
    data = _data(files, group_by_length=False, processor=processor)
    data.setup("fit")
    assert (data.processor, data.class_names) == (processor, processor.class_names)
    task = Keeping()
    quiet_trainer().test(task, data, verbose=False)
    for batch in task.batches:
        for length, label, row in zip(batch["length"], batch["label"], batch["index"].tolist()):
            assert (int(length), int(label)) == (-(-len(_TEST[row]) // 2), [3, 2, 1][row % 3])
    assert len(task.batches) == 3
    assert data.sample_rate == 4_000


def _parsed(*arguments: str) -> AudioDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AudioDataModule, "data")
    return parser.instantiate(parser.parse_args(["--data=AudioDataModule", "--data.path=parquet", *arguments])).data


@pytest.mark.parametrize(
    ("option", "attribute", "value"),
    [
        ("audio_column=clip", "audio_column", "clip"),
        ("label_column=kind", "label_column", "kind"),
        ("class_names=[a,b]", "given_names", ["a", "b"]),
        ("sample_rate=8000", "sample_rate", 8_000),
        ("shortest=0.5", "shortest", 0.5),
        ("longest=20", "longest", 20),
        ("max_seconds=120", "max_seconds", 120),
        ("group_by_length=false", "group_by_length", False),
        ("sounds=folder", "sounds", "folder"),
        ("sounds=[a.wav,b.wav]", "sounds", ["a.wav", "b.wav"]),
        ("on_bad_sound=skip", "on_bad", "skip"),
        ("num_proc=3", "num_proc", 3),
        ("streaming=true", "source.streaming", True),
        ("data_dir=folder", "source.data_dir", "folder"),
        ("val_split=dev", "val_split", "dev"),
        ("loading.shuffle_buffer=7", "loading.shuffle_buffer", 7),
    ],
)
def test_options_reach_the_module_from_the_command_line(option: str, attribute: str, value: Any) -> None:
    data = _parsed(f"--data.{option}")
    found: Any = data
    for name in attribute.split("."):
        found = getattr(found, name)
    assert found == value
    assert set(data.hparams) >= {"path", "sample_rate", "on_bad_sound", "label_column"}
