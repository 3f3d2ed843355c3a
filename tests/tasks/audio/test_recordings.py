"""Recordings without a data module: what a batch holds, what files and arrays become, errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tones import RATE, tone

from softformer.models.audio.features import LogMel
from tasks.audio.processor import AudioProcessor
from tasks.audio.recordings import check_recordings


def test_recordings_are_put_together_up_to_a_number_of_seconds() -> None:
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


def _heard(sounds: Any, **options: Any) -> None:
    for batch in AudioProcessor(RATE).batches(sounds, **options):
        check_recordings(batch, LogMel(RATE, num_mels=11))


def test_what_cannot_be_predicted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"recordings must be files, arrays, or tensors, got int at place 1"):
        _heard([np.ones(801, dtype=np.float32), 3])
    with pytest.raises(ValueError, match=r"arrays of one axis, .* got shape \(801, 2\) at place 0"):
        _heard(np.ones((801, 2)))
    with pytest.raises(ValueError, match=r"got int16 at place 0; divide integers by .* of 16 bits by 32768"):
        _heard(np.ones(801, dtype=np.int16))
    with pytest.raises(ValueError, match="the recording at place 0 must have finite samples"):
        _heard(np.full(801, np.nan))
    with pytest.raises(
        ValueError, match=r"the recording at place 1 must have .* samples in \[-1, 1\], got 300 times full scale"
    ):
        _heard([np.ones(801), 300 * np.ones(801)])
    for nothing in (None, 3, b"RIFF", {"array": np.ones(801)}):
        with pytest.raises(
            ValueError, match=r"recordings must be files, arrays, or tensors, or a list of these, got (No|in|by|di)"
        ):
            _heard(nothing)
    with pytest.raises(ValueError, match="max_seconds must be a positive number of seconds, got 0"):
        _heard(np.ones(801), max_seconds=0)
    soundfile.write(tmp_path / "short.wav", tone("low", 0.02, 0), RATE)
    with pytest.raises(ValueError, match=r"the recording '.*short\.wav' lasts 20.0 ms, less than one window"):
        _heard(tmp_path / "short.wav")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"broken\.wav"):
        _heard(tmp_path / "broken.wav")
