"""Recordings of hours, joined from real recordings: time, memory, and error rates."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import soundfile
import torch
from command_line import softformer
from speech_tasks import RATE, recognizer

from softformer.models.audio.windows import Windows
from tasks.audio.reading.waveforms import read_waveform

HOUR = 3_600


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that also measures the tables of the README."""
    root = Path(__file__).parents[3]
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root))
    from benchmarks import audio

    return audio


def test_a_file_of_three_hours(shared: Path, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_parquet(str(shared / "data" / "fsdd" / "test.parquet"))
    samples = torch.cat([read_waveform(row["audio"], RATE) for row in rows])
    file = tmp_path / "hours.flac"
    with soundfile.SoundFile(file, "w", RATE, 1, "PCM_16") as output:
        for _ in range(1 + 3 * HOUR * RATE // len(samples)):
            output.write(samples.numpy())
        seconds = output.frames / RATE
    assert seconds > 3 * HOUR
    for windows in (None, Windows(seconds=60.0)):
        (transcript,) = recognizer(windows=windows).predict(file)
        times = [time for word in transcript.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert times[-1] <= seconds
        # Random weights emit some unit in every minute.
        assert {int(time // 60) for time in times if time < 3 * HOUR} == set(range(180))


@pytest.mark.slow
def test_one_pass_over_three_hours_costs_three_times_that_over_one(shared: Path, benchmark: Any) -> None:
    found: dict[int, dict[str, float]] = {}
    for hours in (1, 3):
        request = {"attention": "soft", "seconds": hours * HOUR, "device": "cpu", "budget": 30.0}
        found[hours] = {}
        for figure in ("time", "memory"):
            request |= {"what": f"inference {figure}", "local": str(shared / "data")}
            found[hours] |= benchmark.measured_apart(request)
    assert found[1]["inference_seconds"] <= 40
    assert found[1]["inference_bytes"] <= 4e9
    for figure in ("inference_seconds", "inference_bytes"):
        assert found[3][figure] <= 3.3 * found[1][figure]


@pytest.mark.slow
def test_joined_strings_have_the_error_rate_of_single_strings(shared: Path, tmp_path: Path, benchmark: Any) -> None:
    data = shared / "data"
    outcome = softformer(
        tmp_path,
        *("fit", "--config", "audio/connected_digits", "--data.data_dir", str(data / "fsdd")),
        *("--trainer.enable_progress_bar", "false"),
    )
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs" / "connected_digits"
    assert json.loads((run / "results.json").read_text())["test"]["wer"] <= 0.05
    for hours in (1, 3):
        single, windows, whole = benchmark.joined_strings(run / "checkpoints" / "best.ckpt", hours, [], data)
        assert windows["heard"].startswith("windows")
        assert windows["wer"] <= single["wer"] + 0.02
        assert whole["heard"] == "one pass"
        assert whole["wer"] < 0.1
