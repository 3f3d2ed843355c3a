"""The processor of texts: as plain values, compared with another one, and given to a data module."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from text_files import NAMES, WORDS, labelled, text_data, texts, write_rows
from toy_rows import quiet_trainer

from softformer.training.checkpoints.loading import load
from softformer.training.encoders.sequence import SoftEncoderSpec
from tasks.processor import Processor
from tasks.text import BpeSpec, BytesSpec, CharactersSpec, MaskedLanguageModel, TextClassifier, TextProcessor, WordsSpec
from tasks.text.tokens.tokenizers import tokenizer_settings

pytestmark = pytest.mark.usefixtures("own_cache")

ENCODER = SoftEncoderSpec(6, 1, 3, num_landmarks=5)
TOKENIZERS = {
    type(spec).__name__: tokenizer_settings(spec.build([" ".join(WORDS), "\u4e2d \U0001f600 \\ \" '"] * 3))
    for spec in (BytesSpec(), CharactersSpec(), WordsSpec(), BpeSpec(270, lowercase=True))
}
BYTES, BPE = TOKENIZERS["BytesSpec"], TOKENIZERS["BpeSpec"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"max_length": 17, "pairs": True, "class_names": ["no", "Ünder", "1"], "multi_label": True},
    {"pairs": False, "class_names": ["null", "true"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_plain_values_make_the_processor_again(
    tokenizer: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    processor = TextProcessor(tokenizer, **options)
    torch.save(processor.to_dict(), tmp_path / "processor.pt")
    for plain in (
        processor.to_dict(),
        json.loads(json.dumps(processor.to_dict())),
        torch.load(tmp_path / "processor.pt", weights_only=True),
    ):
        for base in (TextProcessor, Processor):
            again: Any = base.from_dict(plain)
            assert type(again) is TextProcessor
            assert again == processor
            assert again.to_dict() == processor.to_dict()
    names = ("settings", "max_length", "pairs", "class_names", "multi_label", "vocab_size", "pad")
    assert [getattr(again, name) for name in names] == [getattr(processor, name) for name in names]
    text = "a cat" if processor.pairs is False else ("a cat", "b")
    (batch,), (expected,) = again.batches([text], 3), processor.batches([text], 3)
    assert torch.equal(batch["ids"], expected["ids"])


def _fitted(task: Any, data: Any, path: Path) -> Any:
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(task, data)
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("built_with", [True, False])
@pytest.mark.parametrize("kind", [TextClassifier, MaskedLanguageModel])
def test_a_checkpoint_stores_it(kind: Any, built_with: bool, tmp_path: Path) -> None:
    """A task that was built without a processor takes that of its data when it trains."""
    masked = {"label_column": None} if kind is MaskedLanguageModel else {}
    file = write_rows(tmp_path / "train.jsonl", labelled(31))
    data = text_data({"train": file}, tokenizer=CharactersSpec(), max_length=23, **masked)
    sizes = {"vocab_size": data.vocab_size, **({} if masked else {"num_classes": 3})}
    task = kind(ENCODER, **({"processor": data.processor} if built_with else sizes))
    content = _fitted(task, data, tmp_path / "a.ckpt")
    assert content["hyper_parameters"]["processor"] == data.processor.to_dict()
    for again in (load(tmp_path / "a.ckpt"), kind.load_from_checkpoint(tmp_path / "a.ckpt")):
        assert again.processor == data.processor
        assert again.processor.max_length == 23
        assert again.processor.class_names == (None if masked else NAMES)
        assert again.predict("the cat") == task.predict("the cat")


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (TextProcessor(BPE), None),
        (TextProcessor(json.loads(json.dumps(BPE)), max_length=7, pairs=True, class_names=NAMES), None),
        (TextProcessor(BYTES), "token 5 is "),
        (TextProcessor(tokenizer_settings(BpeSpec(271, lowercase=True).build([" ".join(WORDS)] * 3))), "token 270 is "),
        (TextProcessor(TOKENIZERS["WordsSpec"]), "token 5 is "),
    ],
    ids=["equal", "other options", "bytes", "one more token", "words"],
)
def test_the_first_token_that_differs(other: TextProcessor, difference: str | None) -> None:
    ours = TextProcessor(BPE)
    found = ours.difference(other)
    assert (found is None) == (other.difference(ours) is None) == (difference is None)
    if difference is not None:
        number = int(difference.split()[1])
        tokens = [
            processor.tokenizer.convert_ids_to_tokens(number) if number < processor.vocab_size else None
            for processor in (other, ours)
        ]
        assert found == f"token {number} is {tokens[0]!r} in the data and {tokens[1]!r} in the task"


@pytest.mark.parametrize("name", ["test", "validate"])
def test_a_task_and_data_that_differ_do_not_meet(name: str, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.jsonl", labelled(31))
    files = {"train": file, "validation": file, "test": file}
    task = TextClassifier(ENCODER, processor=TextProcessor(BPE, class_names=NAMES))
    run = getattr(quiet_trainer(), name)
    message = r"TextDataModule must prepare .* token 5 is .* in the data and .* build the data with processor=task.proc"
    with pytest.raises(ValueError, match=message):
        run(task, text_data(files), verbose=False)
    run(task, text_data(files, processor=task.processor), verbose=False)
    with pytest.raises(
        ValueError, match=r"class_names is \('bee', 'ant', 'cat'\) in the data and \('ant', 'bee', 'cat'\)"
    ):
        run(task, text_data(files, processor=task.processor.replace(class_names=["bee", "ant", "cat"])), verbose=False)


def _ids(data: Any) -> dict[int, list[int]]:
    return {
        row: ids[mask].tolist()
        for batch in data.test_dataloader()
        for row, ids, mask in zip(batch["index"].tolist(), batch["ids"], batch["mask"])
    }


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("max_length", [None, 7, 23])
@pytest.mark.parametrize("spec", [None, CharactersSpec(), WordsSpec(), BytesSpec(lowercase=True)], ids=repr)
def test_a_given_processor_wins_over_the_tokenizer_and_not_over_max_length(
    spec: Any, max_length: int | None, streaming: bool, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "test.jsonl", labelled(13))
    given = TextProcessor(BPE, max_length=11, class_names=NAMES)
    options: dict[str, Any] = {} if spec is None else {"tokenizer": spec}
    data = text_data({"test": file}, processor=given, max_length=max_length, streaming=streaming, **options)
    length = max_length or 11
    assert data.processor == given.replace(max_length=length)
    found = _ids(data)
    for number, row in enumerate(labelled(13)):
        assert found[number] == given.tokenizer(row["text"], truncation=True, max_length=length)["input_ids"]
    assert max(map(len, found.values())) == length
    assert given.max_length == 11  # not changed


def test_by_default_512_tokens(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "test.jsonl", [{"text": "the cat " * 99, "label": name} for name in NAMES])
    assert {len(ids) for ids in _ids(text_data({"train": file, "test": file})).values()} == {512}
    assert len(next(TextProcessor(BYTES).batches(texts(1, 2)[0] * 300, 1))["ids"][0]) == 512
