"""Checkpoints of text tasks as folders of transformers: same outputs, same tokens, names of classes, and errors."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from softformer.adapters.huggingface.export import export_checkpoint, main
from softformer.adapters.huggingface.models import SoftformerForMaskedLM, SoftformerForSequenceClassification
from softformer.models.sequence import SoftOptions
from softformer.ops.inverse import Cholesky, Newton
from softformer.training.checkpoints.content import rebuildable_hyperparameters
from softformer.training.encoders import SoftEncoderSpec, TimmSpec
from softformer.training.module import SoftformerModule
from tasks.text.classifier import TextClassifier
from tasks.text.masked import MaskedLanguageModel
from tasks.text.tokens.tokenizers import BytesSpec, tokenizer_settings
from tests.support.outputs import assert_same_outputs

VOCAB, CLASSES, MAX_LENGTH = 261, 7, 17
NAMES = [f"class {number}" for number in range(CLASSES)]
TEXTS = ["a short text", "another text that is cut", "naïve"]
NEWTON = Newton(11, ridge=0.03, start="halving", gradient="unrolled")
ENCODERS: dict[str, dict[str, Any]] = {
    "default": {"dropout": 0.1},
    "other": {
        "num_landmarks": 5,
        "mlp_ratio": 1.5,
        "positions": "learned",
        "max_length": 19,
        "drop_path": 0.2,
        "gradient_checkpointing": True,
        "soft": SoftOptions("conv", NEWTON, symmetric_norm=False, value_kernel=3, backend="eager"),
    },
    "ridge": {"positions": "none", "soft": SoftOptions(inverse=Cholesky(0.5))},
    "softmax": {"attention": "softmax", "positions": "rotary"},
}


def _spec(encoder: str = "default") -> SoftEncoderSpec:
    return SoftEncoderSpec(24, 3, 2, **ENCODERS[encoder])


def _checkpoint(task: SoftformerModule, path: Path, **changes: Any) -> Path:
    """What Lightning writes of a task that has met its data, as far as an export looks at it."""
    settings = {
        "tokenizer": tokenizer_settings(BytesSpec(lowercase=True).build([])),
        "max_length": MAX_LENGTH,
        "class_names": NAMES,
    }
    content = {
        "state_dict": task.state_dict(),
        "hyper_parameters": rebuildable_hyperparameters(type(task), task.hparams),
        "input_settings": settings,
    }
    torch.save({**content, **changes}, path)
    return path


def _classifier(encoder: str = "default", **options: Any) -> TextClassifier:
    return TextClassifier(_spec(encoder), vocab_size=VOCAB, num_classes=CLASSES, **options).eval()


def _masked(encoder: str = "default") -> MaskedLanguageModel:
    return MaskedLanguageModel(_spec(encoder), vocab_size=VOCAB).eval()


def _inputs(folder: Path) -> tuple[Tensor, Tensor]:
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, truncation=True, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "attention"])
def test_classifier(tmp_path: Path, encoder: str, pooling: Any) -> None:
    task = _classifier(encoder, pooling=pooling, class_weights=[float(number) for number in range(1, CLASSES + 1)])
    model, _ = export_checkpoint(_checkpoint(task, tmp_path / "a.ckpt"), tmp_path / "folder")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder")
    assert type(again) is type(model) is SoftformerForSequenceClassification
    ids, mask = _inputs(tmp_path / "folder")
    expected = task(ids, mask.bool())
    torch.testing.assert_close(again(ids, mask).logits, expected)
    assert_same_outputs(model(ids, mask).logits, again(ids, mask).logits)
    options = _spec(encoder).init_args
    del options["gradient_checkpointing"]
    assert again.config.encoder_options() == options
    assert again.config.problem_type == "single_label_classification"
    assert again.config.id2label == dict(enumerate(NAMES))
    assert again.config.label2id["class 6"] == 6


@pytest.mark.parametrize("encoder", ENCODERS)
def test_masked_language_model(tmp_path: Path, encoder: str) -> None:
    task = _masked(encoder)
    torch.nn.init.normal_(task.network.head.bias)
    export_checkpoint(_checkpoint(task, tmp_path / "a.ckpt"), tmp_path / "folder")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "folder")
    assert type(again) is SoftformerForMaskedLM
    assert again.decoder.weight is again.get_input_embeddings().weight
    ids, mask = _inputs(tmp_path / "folder")
    torch.testing.assert_close(again(ids, mask).logits, task(ids, mask.bool()))


def test_several_labels(tmp_path: Path) -> None:
    task = _classifier(multi_label=True)
    model, _ = export_checkpoint(_checkpoint(task, tmp_path / "a.ckpt"), tmp_path / "folder")
    assert model.config.problem_type == "multi_label_classification"
    classify = pipeline("text-classification", model=str(tmp_path / "folder"), device="cpu")
    ids, mask = _inputs(tmp_path / "folder")
    expected = task(ids, mask.bool()).sigmoid()[0]
    scores = {row["label"]: row["score"] for row in classify(TEXTS[0], top_k=None)}
    assert scores == {name: pytest.approx(expected[number].item(), abs=1e-5) for number, name in enumerate(NAMES)}


def test_tokenizer(tmp_path: Path) -> None:
    """The same tokens, cut at the same length; padded on the right."""
    _, tokenizer = export_checkpoint(_checkpoint(_classifier(), tmp_path / "a.ckpt"), tmp_path / "folder")
    assert tokenizer is not None
    again = AutoTokenizer.from_pretrained(tmp_path / "folder")
    ours = BytesSpec(lowercase=True).build([])
    for text in ["Some TEXT", "naïve", "", "[MASK] is a token"]:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"] == ours(text)["input_ids"]
        assert again.decode(again(text)["input_ids"]) == ours.decode(ours(text)["input_ids"])
    assert again("one", "two")["input_ids"] == ours("one", "two")["input_ids"]
    assert len(again("a text that has to be cut", truncation=True)["input_ids"]) == MAX_LENGTH
    batch = again(["a", "ab"], padding=True)
    assert batch["attention_mask"] == [[1, 1, 1, 0], [1, 1, 1, 1]]
    for role in ("pad_token_id", "unk_token_id", "cls_token_id", "sep_token_id", "mask_token_id"):
        assert getattr(again, role) == getattr(ours, role)


def test_pipeline_from_the_folder(tmp_path: Path) -> None:
    task = _masked()
    export_checkpoint(_checkpoint(task, tmp_path / "a.ckpt"), tmp_path / "folder")
    fill = pipeline("fill-mask", model=str(tmp_path / "folder"), device="cpu")
    ids = torch.tensor([BytesSpec().build([])("a ga[MASK]")["input_ids"]])
    best = task(ids)[0, 5].argmax().item()
    assert fill("A ga[MASK]")[0]["token"] == best


def test_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that never met its data has no tokenizer and no names of classes, and says so."""
    path = _checkpoint(_classifier(), tmp_path / "a.ckpt", input_settings=None)
    assert main([str(path), str(tmp_path / "folder")]) == 0
    said = capsys.readouterr().out
    assert "SoftformerForSequenceClassification, " in said
    assert "without a tokenizer: the checkpoint holds none" in said
    assert not (tmp_path / "folder" / "tokenizer.json").exists()
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder")
    assert again.config.id2label == {number: str(number) for number in range(CLASSES)}


def test_the_command(tmp_path: Path) -> None:
    path = _checkpoint(_masked(), tmp_path / "a.ckpt")
    command = [sys.executable, "-m", "softformer.adapters.huggingface.export", str(path), str(tmp_path / "folder")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert "SoftformerForMaskedLM" in done.stdout
    assert "with its tokenizer" in done.stdout
    names = {path.name for path in (tmp_path / "folder").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names


def _refused(capsys: pytest.CaptureFixture[str], checkpoint: Path, folder: Path) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(checkpoint), str(folder)])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_refused_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder"
    assert "there is no checkpoint at" in _refused(capsys, tmp_path / "none.ckpt", folder)
    weights = tmp_path / "weights.pt"
    torch.save({"head.weight": torch.ones(3)}, weights)
    message = "checkpoint must be one of TextClassifier or MaskedLanguageModel, got none of our tasks"
    assert message in _refused(capsys, weights, folder)
    path = _checkpoint(_classifier(), tmp_path / "a.ckpt")
    main([str(path), str(folder)])
    stored = (folder / "config.json").read_text()
    assert "folder must be a new or an empty one, got" in _refused(capsys, path, folder)
    assert (folder / "config.json").read_text() == stored
    assert "folder must be a new or an empty one, got" in _refused(capsys, path, weights)
    shutil.rmtree(folder)
    folder.mkdir()
    assert main([str(path), str(folder)]) == 0


def _changed(task: SoftformerModule, **changes: Any) -> dict[str, Any]:
    return {**rebuildable_hyperparameters(type(task), task.hparams), **changes}


def test_refused_tasks_and_weights(tmp_path: Path) -> None:
    task, path = _classifier(), tmp_path / "a.ckpt"

    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(ValueError, match=message):
            export_checkpoint(_checkpoint(task, path, **changes), tmp_path / "folder")
        assert not (tmp_path / "folder").exists()

    refused(
        "must be one of TextClassifier or MaskedLanguageModel, got ImageClassifier",
        hyper_parameters=_changed(task, _class_path="tasks.image.ImageClassifier"),
    )
    refused(
        r"must have the encoder SoftEncoderSpec, got softformer\.training\.TimmSpec",
        hyper_parameters=_changed(task, encoder=TimmSpec("test_vit").to_dict()),
    )
    refused("must have the weights of token embeddings", state_dict={})
    wider = SoftEncoderSpec(26, 3, 2).to_dict()
    refused("its weights do not fit its hyperparameters", hyper_parameters=_changed(task, encoder=wider))
    refused("checkpoint must have 7 names of classes, got 2", input_settings={"class_names": ["a", "b"]})
