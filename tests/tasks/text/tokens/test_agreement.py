"""Starting weights whose tokens are not those of the data."""

from pathlib import Path
from typing import Any

import pytest
import torch
from text_files import labelled, text_data, write_rows
from toy_rows import quiet_trainer

from softformer.adapters.huggingface.export import export_checkpoint
from softformer.training.encoders.sequence import SoftEncoderSpec
from tasks.text import MaskedLanguageModel, TextClassifier
from tasks.text.data import TextDataModule
from tasks.text.tokens.tokenizers import AutoTokenizerSpec, BpeSpec, CharactersSpec

pytestmark = pytest.mark.usefixtures("own_cache")
ENCODER = SoftEncoderSpec(6, 1, 3, num_landmarks=5)


@pytest.fixture
def data(tmp_path: Path) -> Any:
    file = write_rows(tmp_path / "train.jsonl", labelled(31))

    def make(**options: Any) -> TextDataModule:
        return text_data({"train": file}, **options)

    return make


def _fit(task: Any, data: TextDataModule, folder: Path | None = None) -> Any:
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(task, data)
    if folder is not None:
        trainer.save_checkpoint(folder / "masked.ckpt")
        data.write_run_files(folder)
    return task


@pytest.fixture
def masked(data: Any, tmp_path: Path) -> str:
    """A checkpoint of masked language modelling on characters; its tokenizer lies beside it."""
    module = data(label_column=None, tokenizer=CharactersSpec())
    _fit(MaskedLanguageModel(ENCODER, vocab_size=module.vocab_size), module, tmp_path)
    return str(tmp_path / "masked.ckpt")


def _classifier(weights: str, vocab_size: int, encoder: SoftEncoderSpec = ENCODER) -> TextClassifier:
    return TextClassifier(encoder, vocab_size=vocab_size, num_classes=3, weights=weights)


def test_the_same_tokenizer_is_taken_by_name(data: Any, masked: str) -> None:
    folder = Path(masked).parent / "tokenizer"
    module = data(tokenizer=AutoTokenizerSpec(str(folder)))
    task = _fit(_classifier(masked, module.vocab_size), module)
    assert any(name.startswith("backbone.embedding") for name in task.weight_report.loaded)


def test_another_number_of_tokens(data: Any, masked: str) -> None:
    module = data(tokenizer=BpeSpec(vocab_size=300))
    with pytest.raises(ValueError, match=r"as many tokens as the data, .* differ: \(\d+, 6\) for \(\d+, 6\)"):
        _classifier(masked, module.vocab_size)


def test_the_same_number_of_other_tokens(data: Any, masked: str) -> None:
    known = torch.load(masked, weights_only=True)["state_dict"]["network.backbone.embedding.weight"].shape[0]
    module = data(tokenizer=CharactersSpec(lowercase=True))
    task = _classifier(masked, known)
    with pytest.raises(
        ValueError, match=r"got another tokenizer: token \d+ is .* in the data and '.' in the weights; use the"
    ):
        _fit(task, module)


def test_another_width(masked: str) -> None:
    known = torch.load(masked, weights_only=True)["state_dict"]["network.backbone.embedding.weight"].shape[0]
    with pytest.raises(ValueError, match=r"the width or another option of the encoder differs|the encoder's options"):
        _classifier(masked, known, SoftEncoderSpec(12, 1, 3, num_landmarks=5))


def test_start_from_a_folder_of_transformers(data: Any, masked: str, tmp_path: Path) -> None:
    export_checkpoint(masked, tmp_path / "exported")
    module = data(tokenizer=AutoTokenizerSpec(str(tmp_path / "exported")))
    task = _classifier(str(tmp_path / "exported"), module.vocab_size)
    state = torch.load(masked, weights_only=True)["state_dict"]
    for name, value in task.network.backbone.state_dict().items():
        assert torch.equal(value, state[f"network.backbone.{name}"])
    again = MaskedLanguageModel(ENCODER, vocab_size=module.vocab_size, weights=str(tmp_path / "exported"))
    assert not again.weight_report.missing + again.weight_report.unexpected  # type: ignore[union-attr]
    _fit(task, module)
    other = data(tokenizer=CharactersSpec(lowercase=True))
    with pytest.raises(ValueError, match=r"exported must belong to .* got another tokenizer: token \d+ is"):
        _fit(_classifier(str(tmp_path / "exported"), module.vocab_size), other)


def test_class_weights_in_a_checkpoint_are_ignored(data: Any, tmp_path: Path) -> None:
    module = data()
    task = TextClassifier(ENCODER, vocab_size=module.vocab_size, num_classes=3, class_weights="balanced")
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(task, module)
    trainer.save_checkpoint(tmp_path / "classes.ckpt")
    report = _classifier(str(tmp_path / "classes.ckpt"), module.vocab_size).weight_report
    assert report is not None
    assert not report.missing + report.reshaped + report.unexpected
