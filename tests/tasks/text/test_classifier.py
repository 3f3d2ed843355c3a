"""TextClassifier: losses, weights of classes, pooling, predictions, and starting from masked language modelling."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score
from text_files import NAMES, labelled, text_data, write_rows
from torch import Tensor, nn

from softformer.training.encoders import EncoderSpec, SoftEncoderSpec
from tasks.classification.metrics import classification_metrics
from tasks.classification.weights import balanced_weights
from tasks.text import MaskedLanguageModel, TextClassifier, TextDataModule
from tasks.text.processor import TextProcessor

ENCODER = SoftEncoderSpec(6, 1, 3, num_landmarks=5)


def classifier(**options: Any) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier(ENCODER, **{"vocab_size": 261, "num_classes": 3, **options})


def batch(rows: int = 7, length: int = 11) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=generator)
    ids = torch.randint(5, 261, (rows, length), generator=generator).masked_fill(~mask, 0)
    return {"ids": ids, "mask": mask, "label": torch.randint(3, (rows,), generator=generator)}


def test_the_loss_is_weighted_in_training_alone() -> None:
    data = batch()
    plain, weighted = classifier(), classifier(class_weights=[0.5, 2.0, 0.1])
    logits = plain(data["ids"], data["mask"])
    assert torch.equal(weighted(data["ids"], data["mask"]), logits)
    assert torch.equal(plain.step(data, "train"), F.cross_entropy(logits, data["label"]))
    expected = F.cross_entropy(logits, data["label"], weight=torch.tensor([0.5, 2.0, 0.1]))
    assert torch.equal(weighted.step(data, "train"), expected)
    assert torch.equal(weighted.step(data, "val"), F.cross_entropy(logits, data["label"]))


def test_targets_are_smoothed_in_training_alone() -> None:
    data = batch()
    task = classifier(label_smoothing=0.3, class_weights=[0.5, 2.0, 0.1])
    logits = task(data["ids"], data["mask"])
    weights = torch.tensor([0.5, 2.0, 0.1])
    expected = F.cross_entropy(logits, data["label"], weight=weights, label_smoothing=0.3)
    assert torch.equal(task.step(data, "train"), expected)
    assert torch.equal(task.step(data, "val"), F.cross_entropy(logits, data["label"]))
    several = classifier(label_smoothing=0.3, multi_label=True)
    data["label"] = torch.tensor([[1.0, 0.0, 0.0]] * 7)
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.85, 0.15, 0.15]] * 7))
    torch.testing.assert_close(several.step(data, "train"), expected)


def test_multi_label_loss() -> None:
    data = batch() | {"label": torch.randint(2, (7, 3)).float()}
    task = classifier(multi_label=True, class_weights=[3.0, 1.0, 2.0])
    logits = task(data["ids"], data["mask"])
    assert torch.equal(task.step(data, "test"), F.binary_cross_entropy_with_logits(logits, data["label"]))
    weights = torch.tensor([3.0, 1.0, 2.0])
    expected = F.binary_cross_entropy_with_logits(logits, data["label"], pos_weight=weights)
    assert torch.equal(task.step(data, "train"), expected)
    assert (task.monitor, task.monitor_mode) == ("val/f1", "max")


def test_balanced_weights_make_classes_count_alike() -> None:
    counts = [7, 2, 11]
    weights = balanced_weights(counts, 20, multi_label=False)
    torch.testing.assert_close(weights * torch.tensor(counts), torch.full((3,), 20 / 3))
    torch.testing.assert_close(balanced_weights(counts, 20, multi_label=True), torch.tensor([13 / 7, 9.0, 9 / 11]))


def test_metrics_are_those_of_scikit_learn() -> None:
    truth, scores = torch.randint(7, (97,)), torch.randn(97, 7)
    found = classification_metrics(7, multi_label=False, second="f1")(scores, truth)
    assert set(found) == {"accuracy", "f1"}
    assert found["accuracy"].item() == pytest.approx(accuracy_score(truth, scores.argmax(-1)))
    assert found["f1"].item() == pytest.approx(f1_score(truth, scores.argmax(-1), average="macro"))


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention"])
def test_padding_and_batch_mates_change_nothing(pooling: Any) -> None:
    task, data = classifier(pooling=pooling).double(), batch()
    together = task(data["ids"], data["mask"])
    for row in range(7):
        length = int(data["mask"][row].sum())
        torch.testing.assert_close(task(data["ids"][row : row + 1, :length])[0], together[row])


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
    task = TextClassifier(OwnSpec(13), vocab_size=261, num_classes=3)
    assert task.step(batch(), "train").isfinite()
    task.step(batch(), "train").backward()
    assert all(parameter.grad is not None for parameter in task.network.parameters())


def test_only_the_head_trains() -> None:
    task = classifier(freeze_backbone=True, pooling="attention")
    trains = {name for name, parameter in task.network.named_parameters() if parameter.requires_grad}
    assert trains == {"head.weight", "head.bias", "pooling.attention.score.weight"}
    assert not task.train().network.backbone.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": None}, "num_classes must be given and at least 2, got None"),
        ({"num_classes": 1}, "num_classes must be given and at least 2, got 1; the label column has"),
        ({"vocab_size": None}, "vocab_size must be given: the encoder has no token embeddings of its own"),
        ({"class_weights": [1.0]}, "class_weights must be 3 positive numbers"),
        ({"class_weights": [1.0, 0.0, 1.0]}, "class_weights must be 3 positive numbers, one a class, or 'balanced'"),
        ({"class_weights": "balance"}, "class_weights must be 3 positive numbers, .* got 'balance'"),
        ({"class_weights": torch.ones(3)}, "class_weights must be 3 positive numbers"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\), got 1.0"),
        ({"pooling": "max"}, "pooling must be one of 'mean', 'cls', 'attention', got 'max'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(**options)


def test_tokens_and_labels_are_checked() -> None:
    task, data = classifier(), batch()
    assert task.on_before_batch_transfer(data, 0) is data
    with pytest.raises(
        ValueError, match="tokens must lie in 0 to 260, the vocabulary of the network, got 261; use the"
    ):
        task.on_before_batch_transfer(data | {"ids": data["ids"].index_fill(1, torch.tensor([3]), 261)}, 0)
    with pytest.raises(ValueError, match="labels must lie between 0 and 2"):
        task.on_before_batch_transfer(data | {"label": data["label"] + 2}, 0)


def test_predictions_are_in_the_order_of_the_texts(tmp_path: Path) -> None:
    data = text_data({"train": write_rows(tmp_path / "train.jsonl", labelled(31))})
    with pytest.raises(ValueError, match="TextClassifier must have a processor to prepare raw inputs, got None"):
        classifier().predict("a cat")
    task = classifier(processor=data.processor)
    texts = ["a cat sat on the mat and slept", "mice", "the cat slept on it"]
    together = task.predict(texts, top_k=2, batch_size=2)
    assert [len(predictions) for predictions in together] == [2, 2, 2]
    for text, predictions in zip(texts, together):
        (alone,) = task.predict(text, top_k=2)
        assert [prediction.label for prediction in alone] == [prediction.label for prediction in predictions]
        assert [prediction.probability for prediction in alone] == pytest.approx(
            [prediction.probability for prediction in predictions]
        )
        assert {prediction.label for prediction in predictions} <= set(NAMES)
    with pytest.raises(ValueError, match="texts, place 1: the text is empty"):
        task.predict(["a", "  "])
    with pytest.raises(ValueError, match="texts must be strings, got 3 at place 0"):
        task.predict([3])  # type: ignore[list-item]


def test_pairs_must_fit_the_processor() -> None:
    data = TextDataModule("csv", text_pair_column="other", class_names=NAMES)
    processor = TextProcessor(data._own_tokenizer, 19, class_names=NAMES)
    task = classifier(processor=processor.replace(pairs=True))
    assert len(task.predict(("a", "b"))) == len(task.predict([("a", "b")])) == 1
    with pytest.raises(ValueError, match="texts must be pairs of strings, got 'a' at place 0"):
        task.predict(["a", "b"])
    with pytest.raises(ValueError, match="texts, place 0: the text is empty"):
        task.predict([("a", " ")])
    task = classifier(processor=processor.replace(pairs=False))
    assert len(task.predict(("a", "b"))) == 2
    with pytest.raises(ValueError, match=r"texts must be strings, got \('a', 'b'\) at place 0"):
        task.predict([("a", "b")])
    task.train()
    with pytest.raises(ValueError, match="is empty"):
        task.predict([""])
    assert task.training


def test_start_from_masked_language_modelling(tmp_path: Path) -> None:
    torch.manual_seed(1)
    pretrained = MaskedLanguageModel(ENCODER, vocab_size=261)
    torch.save({"state_dict": pretrained.state_dict()}, tmp_path / "masked.ckpt")
    task = classifier(weights=str(tmp_path / "masked.ckpt"))
    for name, value in pretrained.network.backbone.state_dict().items():
        assert torch.equal(task.network.backbone.state_dict()[name], value)
    assert task.weight_report is not None
    assert {name.split(".")[0] for name in task.weight_report.loaded} == {"backbone"}
    assert {name.split(".")[0] for name in task.weight_report.missing} == {"head"}
