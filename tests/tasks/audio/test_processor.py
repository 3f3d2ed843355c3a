"""AudioProcessor: batches of files and arrays, errors, plain values, and differences."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tones import RATE, tone

from softformer.models.audio.features import LogMel
from tasks.audio.base import check_recordings
from tasks.audio.processor import AudioProcessor
from tasks.audio.speech.normalization import Writing
from tasks.audio.speech.units import BpeUnits, CharacterUnits
from tasks.processor import Processor


def test_batches_have_a_maximum_number_of_seconds() -> None:
    waves = [
        torch.full((samples,), float(number)) for number, samples in enumerate((500, 300, 900, 100, 100, 4_000, 7))
    ]
    found = list(AudioProcessor(1_000).batches(waves, max_seconds=1.0))
    assert [each["index"].tolist() for each in found] == [[0, 1], [2], [3, 4], [5], [6]]
    assert [each["length"].tolist() for each in found] == [[500, 300], [900], [100, 100], [4_000], [7]]
    assert found[0]["wave"].shape == (2, 500)
    assert found[0]["wave"][1].tolist() == [1.0] * 300 + [0.0] * 200
    assert found[3]["wave"].eq(5).all()


def test_other_rates_and_channels_become_those_of_the_network(tmp_path: Path) -> None:
    time = np.arange(44_100) / 44_100
    wave = 0.3 * np.sin(2 * np.pi * 500 * time)
    soundfile.write(tmp_path / "stereo.wav", np.stack([wave + 0.1, wave - 0.1], axis=1), 44_100)
    (batch,) = AudioProcessor(RATE).batches([tmp_path / "stereo.wav"])
    expected = 0.3 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    assert batch["length"].tolist() == [RATE]
    assert np.abs(batch["wave"][0].numpy() - expected)[100:-100].max() < 1e-2
    assert batch["file"] == [str(tmp_path / "stereo.wav")]


def _check(sounds: Any, **options: Any) -> None:
    for batch in AudioProcessor(RATE).batches(sounds, **options):
        check_recordings(batch, LogMel(RATE, num_mels=11))


def test_recordings_that_cannot_be_predicted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sounds must be files, arrays, or tensors, got int at place 1"):
        _check([np.ones(801, dtype=np.float32), 3])
    with pytest.raises(ValueError, match=r"sounds must be arrays of one axis, .* got shape \(801, 2\) at place 0"):
        _check(np.ones((801, 2)))
    for values in (np.ones(801, np.int16), np.ones(801, bool), np.ones(801, np.complex64), np.array(["a"] * 801)):
        message = rf"must be floating-point .* got {values.dtype} at place 0; divide integers by .* 32768 for 16 bits"
        with pytest.raises(ValueError, match=message):
            _check(values)
    with pytest.raises(ValueError, match=r"must be floating-point .* got torch.int16 at place 1"):
        _check([torch.ones(801), torch.ones(801, dtype=torch.int16)])
    with pytest.raises(ValueError, match="the recording at place 0 must have finite samples, got NaN"):
        _check(np.full(801, np.nan))
    with pytest.raises(
        ValueError, match=r"the recording at place 1 must have .* in \[-1, 1\], got 300 times full scale"
    ):
        _check([np.ones(801), 300 * np.ones(801)])
    for nothing in (None, 3, b"RIFF", {"array": np.ones(801)}):
        with pytest.raises(ValueError, match=r"sounds must be files, .*, or a list of these, got (No|in|by|di)"):
            _check(nothing)
    with pytest.raises(ValueError, match="max_seconds must be a positive number of seconds, got 0"):
        _check(np.ones(801), max_seconds=0)
    soundfile.write(tmp_path / "short.wav", tone("low", 0.02, 0), RATE)
    with pytest.raises(
        ValueError, match=r"the recording '.*short\.wav' must last at least one .*, 25.0 ms, got 20.0 ms"
    ):
        _check(tmp_path / "short.wav")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"broken\.wav"):
        _check(tmp_path / "broken.wav")


ODD = " 0123nul{}[]:,#-~\"'\\|>%@`\n\t\N{OWL}\u0301"
PROCESSORS = [
    AudioProcessor(RATE),
    AudioProcessor(11_025, class_names=["1", "yes", "null", "a: b", "{c}", "[2]", "\N{OWL}", "1e3", ""]),
    AudioProcessor(RATE, class_names=["a", "b"], multi_label=True),
    *(
        AudioProcessor(RATE, CharacterUnits().build([text]).settings, Writing(case="lower").settings)
        for text in (ODD, "123", "null", "~", "yes")
    ),
    AudioProcessor(RATE, BpeUnits(40).build(["a banana and a can", ODD]).settings, Writing(numerals="spell").settings),
]


@pytest.mark.parametrize("processor", PROCESSORS, ids=range(len(PROCESSORS)))
def test_it_is_stored_as_plain_values(processor: AudioProcessor, tmp_path: Path) -> None:
    described = processor.to_dict()
    assert described["class_path"] == "tasks.audio.AudioProcessor"
    torch.save({"processor": described}, tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)["processor"]
    for values in (described, json.loads(json.dumps(described)), loaded):
        found = Processor.from_dict(values)
        assert found == processor
        assert isinstance(found, AudioProcessor)
        assert (found.sample_rate, found.class_names) == (processor.sample_rate, processor.class_names)
        assert (found.multi_label, found.writing) == (processor.multi_label, processor.writing)
        assert found.unit_settings == processor.unit_settings
        if processor.unit_settings is not None:
            assert found.units.table == processor.units.table
        assert found.difference(processor) is None


def test_differences() -> None:
    plain, classes = AudioProcessor(8_000), AudioProcessor(8_000, class_names=["a", "b"])
    assert plain.difference(classes) is None  # the task compares class names
    assert plain.difference(AudioProcessor(16_000)) == "sample_rate is 16000 Hz in the data and 8000 Hz in the task"
    abc, abd, ab = (AudioProcessor(8_000, CharacterUnits().build([text]).settings) for text in ("abc", "abd", "ab"))
    assert abc.difference(abd) == "unit 3 is 'd' in the data and 'c' in the task"
    assert abc.difference(ab) == "unit 3 is none in the data and 'c' in the task"
    assert ab.difference(abc) == "unit 3 is 'c' in the data and none in the task"
    assert abc.difference(plain) is plain.difference(abc) is None
    assert abc.difference(abc.replace(writing=Writing(case="upper").settings)) is None
    # Units of the same texts in the same order are equal, however they were made.
    bpe = AudioProcessor(8_000, BpeUnits(5).build(["abc"]).settings)
    characters = bpe.replace(units={"kind": "characters", "characters": "".join(bpe.units.table)})
    assert bpe.unit_settings != characters.unit_settings
    assert bpe.difference(characters) is characters.difference(bpe) is None


def test_a_processor_without_units_has_none() -> None:
    with pytest.raises(
        ValueError, match=r"the processor must have units .*, got None; use the processor of a SpeechDataModule"
    ):
        _ = AudioProcessor(RATE).units
    assert AudioProcessor(RATE).writing == Writing()


def test_arrays_of_every_layout() -> None:
    wave = tone("low", 0.1, 0)
    expected = torch.from_numpy(wave).float()
    read_only = wave.astype(np.float32)
    read_only.setflags(write=False)
    layouts = [wave, wave.astype(">f4"), np.stack([wave, wave], 1)[:, 0], wave[::-1].copy()[::-1], read_only]
    layouts += [np.longdouble(wave), torch.from_numpy(wave), torch.from_numpy(wave).requires_grad_()]
    for layout in layouts:
        (batch,) = AudioProcessor(RATE).batches(layout)
        assert torch.equal(batch["wave"], expected[None])
