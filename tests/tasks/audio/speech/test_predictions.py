"""Predictions of a speech recognizer: of files and arrays, as rows and files, and with times."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from speech_tasks import FEATURES, LENGTHS, PROCESSOR, RATE, batch, noise, processor, recognizer
from torch import Tensor

from softformer.training.encoders.sequence import SoftEncoderSpec
from tasks.audio.recognizer import SpeechRecognizer
from tasks.audio.speech.ctc import likeliest_units
from tasks.audio.speech.transcripts import Transcript


def test_predictions_of_files_and_arrays(tmp_path: Path) -> None:
    task = recognizer().train()
    waves = [noise(samples, seed) for seed, samples in enumerate((4001, 2003, 9001))]
    soundfile.write(tmp_path / "one.wav", waves[0].numpy(), RATE, subtype="FLOAT")
    recordings = [str(tmp_path / "one.wav"), waves[1], waves[2].numpy()]
    transcripts = task.predict(recordings)
    assert task.training
    assert transcripts == [task.predict(wave)[0] for wave in waves]
    assert transcripts == task.predict(recordings, max_seconds=0.1)
    for transcript, wave in zip(transcripts, waves):
        assert isinstance(transcript, Transcript)
        assert transcript.text == " ".join(word.word for word in transcript.words)
        log_probs, num_tokens = task.eval()(wave[None], torch.tensor([len(wave)]))
        assert transcript.text == PROCESSOR.units.decode(likeliest_units(log_probs, num_tokens)[0])
    assert any(transcript.text for transcript in transcripts)


def test_rows_of_predictions() -> None:
    task, data = recognizer().eval(), batch()
    rows = task.predict_step({**data, "file": ["v.wav", "w.wav", "x.wav", "y.wav", "z.wav"]}, 0)
    assert [row["index"] for row in rows] == [17, 18, 19, 20, 21]
    assert [row["file"] for row in rows] == ["v.wav", "w.wav", "x.wav", "y.wav", "z.wav"]
    expected = [task.predict(wave[:samples])[0] for wave, samples in zip(data["wave"], LENGTHS)]
    assert [row["text"] for row in rows] == [transcript.text for transcript in expected]
    assert [[word.word for word in row["_transcript"].words] for row in rows] == [
        [word.word for word in transcript.words] for transcript in expected
    ]
    assert [row["file"] for row in task.predict_step(data, 0)] == [17, 18, 19, 20, 21]


def test_files_of_predictions(tmp_path: Path) -> None:
    task = recognizer().eval()
    rows = task.predict_step({**batch(), "file": ["v.wav", "w.wav", "x.wav", "y.wav", "z.wav"]}, 0)
    task.write_predictions(rows, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        f"{name}.{ending}" for name in "vwxyz" for ending in ("txt", "srt")
    )
    assert (tmp_path / "v.txt").read_text().strip() == rows[0]["text"]


def test_files_that_cannot_be_predicted(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    soundfile.write(tmp_path / "short.wav", noise(100).numpy(), RATE)
    for name in ("broken.wav", "short.wav"):
        with pytest.raises(ValueError, match=name):
            recognizer().predict(str(tmp_path / name))


def test_only_texts_are_aligned() -> None:
    for text in (None, ["a"]):
        with pytest.raises(ValueError, match=r"text must be the transcript of the recording, got (NoneType|list)"):
            recognizer().align(noise(4_001), text)  # type: ignore[arg-type]


def test_a_text_is_aligned() -> None:
    task = recognizer()
    found = task.align(noise(4201), " AB\tC ")  # lower case, as the transcripts of the training
    assert [word.word for word in found] == ["ab", "c"]
    assert 0 <= found[0].start < found[0].end <= found[1].start < found[1].end <= 13 * 0.04 + 1e-9
    with pytest.raises(ValueError, match=r"the text has characters that the units lack: '!', 'z'"):
        task.align(noise(4201), "z!")
    with pytest.raises(ValueError, match="text: its 14 units need a recording of at least 14 tokens, got 13"):
        task.align(noise(4201), "abcdabcdabcdab")


PITCHES = {"a": 500.0, "b": 1500.0, "c": 2500.0}
SPOKEN = ["ab c", "ca", "b ac a"]


def tones(text: str) -> tuple[Tensor, list[tuple[float, float]]]:
    """A tone of a fifth of a second for each letter, silence for a space; and the times of each word."""
    time = np.arange(RATE // 5) / RATE
    parts = [0.5 * np.sin(2 * np.pi * PITCHES[sign] * time) if sign != " " else 0 * time for sign in text]
    random = np.random.default_rng(0)
    wave = np.concatenate(parts)
    edges, begin = [], 0
    for word in text.split(" "):
        edges.append((begin / 5, (begin + len(word)) / 5))
        begin += len(word) + 1
    return torch.from_numpy(wave + 0.01 * random.standard_normal(len(wave))).float(), edges


@pytest.mark.parametrize("depth", [0, 1])
def test_it_learns_to_write_and_when(depth: int) -> None:
    known = processor(texts=SPOKEN)
    units = known.units
    torch.manual_seed(0)
    encoder = SoftEncoderSpec(32, depth, 4, num_landmarks=16, positions="sinusoidal" if depth else "none")
    task = SpeechRecognizer(encoder, processor=known, features=FEATURES)
    assert task.num_units == units.size
    waves = [tones(text)[0] for text in SPOKEN]
    ids = [torch.tensor(units.encode(text)) for text in SPOKEN]
    data = {
        "wave": torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
        "length": torch.tensor([len(wave) for wave in waves]),
        "units": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True),
        "num_units": torch.tensor([len(numbers) for numbers in ids]),
        "transcript": SPOKEN,
        "index": torch.arange(3),
    }
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    for _ in range(300):
        loss = task.step(data, "train")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    transcripts = task.predict(waves)
    assert [transcript.text for transcript in transcripts] == SPOKEN
    for wave, text, transcript in zip(waves, SPOKEN, transcripts):
        aligned = task.align(wave, text)
        assert [word.word for word in aligned] == text.split()
        # With attention, a unit may be emitted at any token; without, only at its tone.
        for found in (transcript.words, aligned) if depth == 0 else ():
            for word, (start, end) in zip(found, tones(text)[1]):
                assert start - 0.1 < word.start < word.end < end + 0.1
