"""AudioClassifier: losses, metrics, pooling, checks of data, predictions of files and arrays, long recordings."""

from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, average_precision_score, f1_score
from tones import NAMES, RATE, tone, write_tones
from torch import Tensor, nn
from toy_rows import quiet_trainer

from softformer.models.audio.augment import AudioAugment
from softformer.training.encoders import EncoderSpec, SoftEncoderSpec
from tasks.audio import AudioClassifier, AudioDataModule, AudioProcessor, FeatureSpec, SpeechRecognizer

ENCODER = SoftEncoderSpec(6, 1, 3, num_landmarks=5)
FEATURES = FeatureSpec(num_mels=11)


def classifier(**options: Any) -> AudioClassifier:
    torch.manual_seed(0)
    return AudioClassifier(ENCODER, **{"num_classes": 3, "sample_rate": RATE, "features": FEATURES, **options})


def batch(rows: int = 7, samples: int = 1_511) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    length = torch.randint(401, samples + 1, (rows,), generator=generator)
    wave = 0.1 * torch.randn(rows, samples, generator=generator)
    return {
        "wave": wave.masked_fill(torch.arange(samples) >= length.unsqueeze(1), 0),
        "length": length,
        "label": torch.randint(3, (rows,), generator=generator),
        "index": torch.arange(rows),
    }


def logits_of(task: AudioClassifier, data: dict[str, Tensor]) -> Tensor:
    return task(data["wave"], data["length"])


def test_the_loss_is_weighted_and_smoothed_only_in_training() -> None:
    data = batch()
    plain, weighted = classifier(), classifier(class_weights=[0.5, 2.0, 0.1], label_smoothing=0.3)
    logits = logits_of(plain, data)
    assert torch.equal(logits_of(weighted, data), logits)
    assert torch.equal(plain.step(data, "train"), F.cross_entropy(logits, data["label"]))
    weights = torch.tensor([0.5, 2.0, 0.1])
    expected = F.cross_entropy(logits, data["label"], weight=weights, label_smoothing=0.3)
    assert torch.equal(weighted.step(data, "train"), expected)
    assert torch.equal(weighted.step(data, "val"), F.cross_entropy(logits, data["label"]))


def test_multi_label_metrics() -> None:
    task = classifier(multi_label=True, class_weights=[3.0, 1.0, 2.0])
    truth, scores = [], []
    for _ in range(5):
        data = batch() | {"label": torch.randint(2, (7, 3)).float(), "wave": torch.randn(7, 1_511)}
        logits = logits_of(task, data)
        assert torch.equal(task.step(data, "test"), F.binary_cross_entropy_with_logits(logits, data["label"]))
        expected = F.binary_cross_entropy_with_logits(logits, data["label"], pos_weight=torch.tensor([3.0, 1.0, 2.0]))
        assert torch.equal(task.step(data, "train"), expected)
        truth.append(data["label"])
        scores.append(logits.detach().double())
    target, score = torch.cat(truth).int(), torch.cat(scores)
    found = {name: value.item() for name, value in task.test_metrics.compute().items()}
    assert set(found) == {"test/accuracy", "test/f1", "test/exact_match", "test/map"}
    assert found["test/f1"] == pytest.approx(f1_score(target, score > 0, average="macro", zero_division=0))
    assert found["test/map"] == pytest.approx(average_precision_score(target, score, average="macro"), abs=1e-5)
    assert "train/map" not in task.train_metrics.compute()
    assert (task.monitor, task.monitor_mode) == ("val/f1", "max")


def test_classes_that_no_row_has_do_not_count_in_map() -> None:
    task = classifier(num_classes=5, multi_label=True)
    target = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 0]])
    noise = torch.rand(3, 5)
    task.count("val", target + 0.5 * noise - 1, target)
    assert task.val_metrics.compute()["val/map"] == 1.0
    task.count("test", noise, torch.zeros(3, 5))
    assert task.test_metrics.compute()["test/map"].isnan()


def test_predictions_list_all_classes_of_a_multi_label_task() -> None:
    for multi_label, count in ((False, 5), (True, 7)):
        task = classifier(num_classes=7, multi_label=multi_label).eval()
        for row in task.predict_step(batch(), 0):
            assert len([name for name in row if name.startswith("class_")]) == count


def test_single_label_metrics() -> None:
    task, data = classifier(), batch(29)
    task.step(data, "val")
    prediction = logits_of(task, data).argmax(1)
    found = {name: value.item() for name, value in task.val_metrics.compute().items()}
    assert set(found) == {"val/accuracy", "val/f1"}
    assert found["val/accuracy"] == pytest.approx(accuracy_score(data["label"], prediction))
    assert found["val/f1"] == pytest.approx(f1_score(data["label"], prediction, average="macro"))
    counts = task.class_counts("val")
    assert counts is not None
    assert counts.sum() == 29


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention"])
def test_padding_and_batch_mates_change_nothing(pooling: Any) -> None:
    task, data = classifier(pooling=pooling), batch()
    together = logits_of(task, data)
    for row, length in enumerate(data["length"].tolist()):
        alone = task(data["wave"][row : row + 1, :length], data["length"][row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-5)


class OwnSpec(EncoderSpec):
    """A user's own encoder: a linear layer token by token."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def build(self) -> nn.Module:
        class Own(nn.Module):
            def __init__(self, dim: int) -> None:
                super().__init__()
                self.dim = dim
                self.layer = nn.Linear(dim, dim)

            def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
                return self.layer(x)

        return Own(self.dim)


def test_own_encoders() -> None:
    task = AudioClassifier(OwnSpec(13), num_classes=3, sample_rate=RATE, features=FEATURES)
    task.step(batch(), "train").backward()
    assert all(parameter.grad is not None for parameter in task.network.parameters())


def test_options_reach_the_network() -> None:
    task = classifier(
        features=FeatureSpec(window=32.0, hop=8.0, num_mels=17, min_hz=50.0, max_hz=3_500.0, normalize="recording"),
        subsampling=8,
        augment=AudioAugment(gain=3.0),
        pooling="attention",
    )
    backbone = task.network.backbone
    features = backbone.features
    assert (features.window, features.hop, features.num_mels, features.normalize) == (256, 64, 17, "recording")
    # The bands lie between both frequencies, in steps of 31.25 Hz.
    hertz = features.filters.any(1).nonzero().flatten() * 31.25
    assert 50 < hertz.min() < 100
    assert 3_300 < hertz.max() <= 3_500
    assert backbone.subsampling.factor == 8
    assert backbone.augment == AudioAugment(gain=3.0)
    assert task.network.pooling.kind == "attention"
    assert FeatureSpec() == FeatureSpec(window=25.0)
    assert FeatureSpec() != FeatureSpec(window=20.0)


def test_only_the_head_trains() -> None:
    task = classifier(freeze_backbone=True, pooling="attention", augment=AudioAugment(speeds=(0.9, 1.1)))
    trains = {name for name, parameter in task.network.named_parameters() if parameter.requires_grad}
    assert trains == {"head.weight", "head.bias", "pooling.attention.score.weight"}
    assert not task.train().network.backbone.training
    data = batch()
    assert torch.equal(logits_of(task, data), logits_of(task, data))


def test_a_recognizer_is_a_start(tmp_path: Path) -> None:
    torch.manual_seed(1)
    recognizer = SpeechRecognizer(ENCODER, num_units=13, sample_rate=RATE, features=FEATURES)
    torch.save({"state_dict": recognizer.state_dict()}, tmp_path / "speech.ckpt")
    task = classifier(weights=str(tmp_path / "speech.ckpt"))
    for name, value in recognizer.network.backbone.state_dict().items():
        assert torch.equal(task.network.backbone.state_dict()[name], value)
    assert task.weight_report is not None
    assert {name.split(".")[0] for name in task.weight_report.loaded} == {"backbone"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": None}, "num_classes must be given and at least 2, got None"),
        ({"num_classes": 1}, "num_classes must be given and at least 2, got 1"),
        (
            {"sample_rate": None},
            "sample_rate must be given in Hz, got None; an audio data module sets it on the command line",
        ),
        ({"sample_rate": 0}, "sample_rate must be a positive number of Hz, got 0"),
        ({"subsampling": 3}, "subsampling must be 1, 2, 4 or 8, got 3"),
        ({"class_weights": [1.0]}, "class_weights must be 3 positive numbers, one a class, or 'balanced'"),
        ({"class_weights": [1.0, 0.0, 1.0]}, "class_weights must be 3 positive numbers"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\), got 1.0"),
        ({"pooling": "max"}, "pooling must be one of 'mean', 'cls', 'attention', got 'max'"),
        (
            {"processor": AudioProcessor(RATE, class_names=list("ab"))},
            r"num_classes must be 2, as the data has the classes \('a', 'b'\), got 3; leave num_classes out",
        ),
        (
            {"processor": AudioProcessor(16_000)},
            "sample_rate must be the same for network and data, got 8000 Hz and 16000 Hz; build the data with",
        ),
        (
            {"processor": AudioProcessor(RATE, {"kind": "characters", "characters": " a"})},
            "the data must have class labels, got transcripts; train a classifier on an AudioDataModule, or train a Sp",
        ),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(**options)


def test_batches_are_checked() -> None:
    task, data = classifier(), batch()
    assert task.on_before_batch_transfer(data, 0) is data
    with pytest.raises(ValueError, match="labels must lie between 0 and 2"):
        task.on_before_batch_transfer(data | {"label": data["label"] + 2}, 0)
    with pytest.raises(ValueError, match="a batch must have labels, got transcripts; use an AudioDataModule"):
        task.on_before_batch_transfer(data | {"units": torch.ones(7, 3)}, 0)
    short: dict[str, Any] = data | {"length": data["length"].index_fill(0, torch.tensor([2, 5]), 199)}
    message = r"row 2 must last at least one window .*, 25.0 ms, got 24.9 ms; leave out .* \(2 of the 7 of its batch\)"
    with pytest.raises(ValueError, match=message):
        task.on_before_batch_transfer(short, 0)
    with pytest.raises(ValueError, match=r"the recording 'c\.wav' must last .* got 24.9 ms"):
        task.on_before_batch_transfer(short | {"file": [f"{name}.wav" for name in "abcdefg"]}, 0)


def test_files_and_arrays_give_the_same_predictions(tmp_path: Path) -> None:
    task = classifier(processor=AudioProcessor(RATE, class_names=NAMES))
    task.train()
    waves = [tone(NAMES[number % 3], 0.1 + 0.17 * number, number) for number in range(5)]
    files = [tmp_path / f"{number}.flac" for number in range(5)]
    for file, wave in zip(files, waves):
        soundfile.write(file, wave, RATE, subtype="PCM_24")
    together = task.predict(files, top_k=2)
    assert task.training
    assert [len(predictions) for predictions in together] == [2] * 5
    for recording, predictions in zip(
        [str(files[0]), waves[1], torch.from_numpy(waves[2]).float(), files[3], waves[4]], together
    ):
        (alone,) = task.predict(recording, top_k=2, max_seconds=0.2)
        assert [prediction.label for prediction in alone] == [prediction.label for prediction in predictions]
        assert [prediction.probability for prediction in alone] == pytest.approx(
            [prediction.probability for prediction in predictions], rel=1e-3
        )
        assert {prediction.label for prediction in predictions} <= set(NAMES)


def test_one_pass_is_one_pass() -> None:
    """Of more than a minute; the limit of a batch does not divide a recording."""
    task = classifier(windows=None).eval()
    task.network.backbone.longest.fill_(17)
    seen: list[tuple[int, ...]] = []
    task.network.backbone.encoder.register_forward_hook(lambda module, inputs, out: seen.append(tuple(out.shape)))
    (predictions,) = task.predict(0.1 * torch.randn(61 * RATE), max_seconds=1.0)
    assert len(predictions) == 3
    assert seen == [(1, int(task.network.backbone.num_tokens(torch.tensor(61 * RATE))), 6)]


@pytest.mark.usefixtures("own_cache")
def test_the_sample_rates_of_data_and_network_agree(tmp_path: Path) -> None:
    data = AudioDataModule("audiofolder", data_dir=write_tones(tmp_path, 23, 0), sample_rate=16_000, batch_size=5)
    message = "sample_rate must be the same .*, got 8000 Hz and 16000 Hz; build .*--data.sample_rate 8000, or leave out"
    for options in ({}, {"processor": AudioProcessor(RATE, class_names=NAMES)}):
        for function in ("fit", "validate"):
            task = classifier(**options)
            with pytest.raises(ValueError, match=message):
                getattr(quiet_trainer(max_epochs=1), function)(task, datamodule=data)
            assert task.processor == options.get("processor")


@pytest.mark.usefixtures("own_cache")
def test_classes_are_balanced_by_their_counts(tmp_path: Path) -> None:
    folder = write_tones(tmp_path, 23, 0)
    data = AudioDataModule("audiofolder", data_dir=folder, sample_rate=RATE, val_fraction=0.0, batch_size=5)
    task = classifier(class_weights="balanced")
    quiet_trainer(max_epochs=1, limit_train_batches=1).fit(task, datamodule=data)
    counts = torch.tensor([8.0, 8.0, 7.0])
    torch.testing.assert_close(task.class_weights * counts, torch.full((3,), 23 / 3))
