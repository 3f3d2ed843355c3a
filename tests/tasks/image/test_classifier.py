"""The image classifier: its loss, its metrics, mixing, freezing, predictions, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score
from tiny_images import TinyImages
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor
from training_runs import SOFT, VIT, classifier, quiet_trainer

from softformer.training.encoders import EncoderSpec, TimmSpec
from softformer.training.optimizer import OptimizerSpec
from tasks.classification.metrics import classification_metrics
from tasks.image import ImageClassifier
from tasks.image.mixing import mix_batch


class Headless(EncoderSpec):
    """A user's encoder with features of any shape."""

    def __init__(self, features: int = 5, promised: int = 5) -> None:
        self.features, self.promised = features, promised

    def build(self) -> nn.Module:
        network = nn.Sequential(nn.Conv2d(3, self.features, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network.num_features = self.promised  # type: ignore[assignment]
        return network


def silent(task: ImageClassifier) -> ImageClassifier:
    """The task, outside a trainer, where it cannot log."""
    task.log = lambda *args, **kwargs: None  # type: ignore[assignment, method-assign]
    return task


def batch(size: int = 5, classes: int = 7) -> dict[str, Tensor]:
    return {"image": torch.rand(size, 3, 32, 32), "label": torch.arange(size) % classes, "index": torch.arange(size)}


def test_loss_of_each_stage() -> None:
    task = silent(classifier(label_smoothing=0.2)).eval()
    data = batch()
    logits = task(data["image"])
    assert torch.equal(task.step(data, "val"), F.cross_entropy(logits, data["label"]))
    assert torch.equal(task.step(data, "train"), F.cross_entropy(logits, data["label"], label_smoothing=0.2))
    several = silent(classifier(multi_label=True, label_smoothing=0.2)).eval()
    data["label"] = torch.randint(2, (5, 7)).float()
    logits = several(data["image"])
    assert torch.equal(several.step(data, "test"), F.binary_cross_entropy_with_logits(logits, data["label"]))
    smooth = data["label"] * 0.8 + 0.1
    assert torch.equal(several.step(data, "train"), F.binary_cross_entropy_with_logits(logits, smooth))


def test_metrics_are_those_of_scikit_learn() -> None:
    truth, scores = torch.randint(7, (97,)), torch.randn(97, 7).softmax(-1)
    metrics = classification_metrics(7, multi_label=False, second="top5_accuracy")
    found = metrics(scores, truth)
    assert found["accuracy"].item() == pytest.approx(accuracy_score(truth, scores.argmax(-1)))
    assert found["top5_accuracy"].item() == pytest.approx(top_k_accuracy_score(truth, scores, k=5, labels=range(7)))
    assert (
        classification_metrics(3, multi_label=False, second="top5_accuracy")(scores[:, :3], truth % 3)["top5_accuracy"]
        == 1
    )
    several, logits = torch.randint(2, (97, 3)), torch.randn(97, 3)
    found = classification_metrics(3, multi_label=True, second="f1")(logits, several)
    prediction = (logits > 0).int()
    assert found["accuracy"].item() == pytest.approx((prediction == several).double().mean().item())
    assert found["f1"].item() == pytest.approx(f1_score(several, prediction, average="macro"))
    assert found["exact_match"].item() == pytest.approx(accuracy_score(several, prediction))


@pytest.mark.parametrize("least", [0.0, -1.0])
def test_multi_label_metrics_threshold_the_logits_at_0(least: float) -> None:
    """Also in a batch whose logits all lie in [0, 1], where torchmetrics cannot tell them from probabilities."""
    task = silent(classifier(multi_label=True)).eval()
    data = {**batch(), "label": torch.randint(2, (5, 7)).float()}
    logits = torch.empty(5, 7).uniform_(least, 1.0)
    task.forward = lambda images: logits  # type: ignore[method-assign]
    task.step(data, "val")
    prediction = logits > 0
    found = task.val_metrics.compute()
    assert found["val/accuracy"].item() == pytest.approx((prediction == data["label"].bool()).double().mean().item())
    counts = task.class_counts("val")
    assert counts is not None
    assert counts[:, :, 1].sum(1).tolist() == prediction.sum(0).tolist()


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_run_measures_every_stage(tmp_path: Path, multi_label: bool) -> None:
    data = TinyImages(multi_label=multi_label)
    task = classifier(multi_label=multi_label, optimizer=OptimizerSpec(lr=3e-3))
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    trainer.fit(task, datamodule=data)
    names = ("accuracy", "f1", "exact_match") if multi_label else ("accuracy", "top5_accuracy")
    expected = {f"{stage}/{name}" for stage in ("train", "val") for name in (*names, "loss")}
    assert expected <= set(trainer.callback_metrics)
    trainer.test(task, datamodule=data, verbose=False)
    evaluated = (*names, "loss", *(["map"] if multi_label else []))
    assert {f"test/{name}" for name in evaluated} == set(trainer.callback_metrics)
    counts = task.class_counts("test")
    assert counts is not None
    assert counts.sum() == (19 * 7 if multi_label else 19)
    if not multi_label:
        assert trainer.callback_metrics["test/accuracy"].item() == pytest.approx((counts.trace() / 19).item())


def test_mixing_is_that_of_torchvision_and_draws_one_method_a_batch() -> None:
    data = batch(6)
    for _ in range(8):
        images, labels = mix_batch(data["image"], data["label"], num_classes=7, mixup=0.8, cutmix=1.0)
        assert images.shape == data["image"].shape
        assert torch.allclose(labels.sum(1), torch.ones(6))
        rolled = data["image"].roll(1, 0)
        share = labels[torch.arange(6), data["label"]]
        whole = ((images == data["image"]) | (images == rolled)).all()
        blend = data["image"] * share.view(-1, 1, 1, 1) + rolled * (1 - share.view(-1, 1, 1, 1))
        assert whole or torch.allclose(images, blend, atol=1e-5)
    _, labels = mix_batch(data["image"], F.one_hot(data["label"], 7).float(), num_classes=7, mixup=0.8, cutmix=0.0)
    assert labels.shape == (6, 7)


class Seen(Callback):
    """Notes the batches that reach the task."""

    def __init__(self) -> None:
        self.labels: list[Tensor] = []
        self.stages: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.labels.append(batch["label"])

    def on_validation_batch_start(self, trainer: Trainer, module: Any, batch: dict[str, Tensor], *_: Any) -> None:
        self.stages.append(batch["label"].ndim)


def test_only_training_batches_are_mixed_each_in_its_own_way(tmp_path: Path) -> None:
    seen = Seen()
    trainer = quiet_trainer(tmp_path, seen)
    trainer.fit(classifier(mixup=0.8), datamodule=TinyImages())
    assert {labels.ndim for labels in seen.labels} == {2}
    assert set(seen.stages) == {1}
    shares = [round(labels.max().item(), 4) for labels in seen.labels]
    assert len(set(shares)) > 1
    assert "train/accuracy" not in trainer.callback_metrics
    assert "val/accuracy" in trainer.callback_metrics


@pytest.mark.parametrize("encoder", [SOFT, Headless()], ids=["soft", "own"])
def test_a_frozen_backbone_does_not_move(tmp_path: Path, encoder: EncoderSpec) -> None:
    task = classifier(encoder, freeze_backbone=True)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    quiet_trainer(tmp_path).fit(task, datamodule=TinyImages())
    moved = {name for name, value in task.network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    task.train()
    assert not task.network.training
    assert task.network.head.training


def test_heads() -> None:
    assert classifier(SOFT).network.head.out_features == 7
    pretrained_head = TimmSpec("test_vit", img_size=32)
    assert ImageClassifier(pretrained_head).num_classes == 1000
    own = classifier(Headless())
    assert own(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert own.class_labels() == [str(number) for number in range(7)]


def ready(**options: Any) -> ImageClassifier:
    """A task with a processor and a random head whose predictions differ."""
    task = classifier(**{"processor": TinyImages().processor, **options})
    with torch.no_grad():
        task.network.get_classifier().weight.mul_(30)  # type: ignore[operator]
    return task.eval()


def drawn(column: int, side: int = 32) -> Image.Image:
    image = Image.new("RGB", (side, side), (40, 40, 40))
    image.paste((255, 255, 255), (column, 0, column + 1, side))
    return image


def test_predict_takes_paths_images_and_tensors(tmp_path: Path) -> None:
    task = ready()
    images = [drawn(column) for column in range(7)]
    for column, image in enumerate(images):
        image.save(tmp_path / f"{column}.png")
    paths = [tmp_path / f"{column}.png" for column in range(7)]
    whole = torch.stack([pil_to_tensor(image) for image in images])
    expected, classes = task(whole / 255).softmax(-1).sort(descending=True)
    assert len(set(classes[:, 0].tolist())) > 1
    for given in (images, paths, [str(path) for path in paths], whole, whole / 255, list(whole)):
        predictions = task.predict(given, batch_size=3)
        assert [[prediction.label for prediction in best] for best in predictions] == [
            [f"column {number}" for number in row] for row in classes[:, :5].tolist()
        ]
        found = torch.tensor([[prediction.probability for prediction in best] for best in predictions])
        assert torch.allclose(found, expected[:, :5], atol=1e-5)
    for image in (images[2], paths[2], str(paths[2]), whole[2]):
        assert task.predict(image)[0][0].label == f"column {classes[2, 0]}"
    assert len(task.predict(images[0], top_k=99)[0]) == 7
    assert len(task.predict(drawn(3, side=64))) == 1
    assert task.predict([]) == []


def test_multi_label_probabilities_are_independent() -> None:
    task = ready(processor=TinyImages(multi_label=True).processor)
    predictions = task.predict(drawn(2), top_k=7)[0]
    probabilities = task(pil_to_tensor(drawn(2))[None] / 255)[0].sigmoid()
    assert sorted(prediction.probability for prediction in predictions) == pytest.approx(
        sorted(probabilities.tolist()), abs=1e-5
    )


def test_predict_leaves_the_mode_as_it_was() -> None:
    task = ready().train()
    assert task.predict(drawn(2)) == task.predict(drawn(2))  # without dropout
    assert task.training


def test_predict_names_a_file_that_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"text.png' cannot be decoded"):
        ready().predict(tmp_path / "text.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classifier(label_smoothing=1.0), r"label_smoothing must lie in \[0, 1\), got 1.0"),
        (lambda: classifier(mixup=-1.0), r"mixup and cutmix must be zero or positive, got -1.0 and 0.0"),
        (lambda: classifier(num_classes=1), "num_classes must be at least 2, got 1"),
        (lambda: ImageClassifier(Headless()), "num_classes must be given: Sequential has no head of its own"),
        (lambda: classifier(Headless(5, 3))(torch.rand(2, 3, 32, 32)), r"features of shape \(2, 3\), got \(2, 5\)"),
        (
            lambda: classifier().predict(drawn(2)),
            "ImageClassifier must have a processor to prepare raw inputs, got None",
        ),
        (
            lambda: classifier(optimizer=OptimizerSpec(layer_decay=0.5), encoder=Headless()).configure_optimizers(),
            "group_m",
        ),
    ],
)
def test_invalid_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_an_encoder_without_features() -> None:
    class Bare(EncoderSpec):
        def build(self) -> nn.Module:
            return nn.Linear(3, 3)

    with pytest.raises(ValueError, match="Linear cannot be an image encoder: it needs timm's reset_classifier"):
        ImageClassifier(Bare(), num_classes=7)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"channels": 1}, r"images must have the 3 channels of the network, got 1; set --model.encoder.in_chans 1"),
        ({"broken_label": 7}, r"labels must lie between 0 and 6, got \[7\]"),
        ({"broken_label": -1}, r"labels must lie between 0 and 6, got \[-1\]"),
        ({"multi_label": True}, r"labels must have shape \(batch,\), got \(11, 7\); is multi_label missing\?"),
    ],
)
def test_batches_that_do_not_fit(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quiet_trainer(tmp_path).fit(classifier(VIT), datamodule=TinyImages(**data))


def test_a_network_of_one_size_names_it() -> None:
    task = classifier(TimmSpec("vit_tiny_patch16_224", img_size=32))
    data = batch()
    assert task.on_before_batch_transfer(data, 0) is data
    message = r"images must have the 32 x 32 pixels of the network, got 24 x 40; set --model.encoder.img_size 24"
    with pytest.raises(ValueError, match=message):
        task.on_before_batch_transfer({**data, "image": torch.rand(5, 3, 24, 40)}, 0)


def test_the_shape_of_multi_label_targets_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"with several labels they must have shape \(batch, 7\), got \(11,\)"):
        quiet_trainer(tmp_path).fit(classifier(multi_label=True), datamodule=TinyImages())
