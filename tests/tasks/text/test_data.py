"""Texts from files of every kind to batches of tokens."""

import json
import pickle
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from jsonargparse import ArgumentParser
from text_files import NAMES, labelled, text_data, texts, write_rows
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks.data.batches import Draw
from tasks.data.examples import ReadError
from tasks.text.data import TextDataModule
from tasks.text.processor import TextProcessor
from tasks.text.tokens.tokenizers import (
    SPECIAL_TOKENS,
    AutoTokenizerSpec,
    BpeSpec,
    BytesSpec,
    CharactersSpec,
    WordsSpec,
)

pytestmark = pytest.mark.usefixtures("own_cache")

_NO_VALIDATION = {"val_fraction": 0.0}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {
        "train": write_rows(tmp_path / "train.jsonl", labelled(31)),
        "test": write_rows(tmp_path / "test.jsonl", labelled(13, seed=7)),
    }


def _rows(loader: Any) -> dict[int, dict[str, Any]]:
    """What batches hold, without padding, by row number."""
    found: dict[int, dict[str, Any]] = {}
    for batch in loader:
        assert batch["mask"].dtype == torch.bool
        assert batch["mask"].sum(1).max() == batch["mask"].shape[1]  # padded to the longest, not further
        for i, row in enumerate(batch["index"].tolist()):
            mask = batch["mask"][i]
            assert not mask[int(mask.sum()) :].any()
            assert (batch["ids"][i][~mask] == 0).all()
            one = {name: batch[name][i][mask].tolist() for name in ("ids", "types", "target") if name in batch}
            assert row not in found
            found[row] = {**one, **{name: batch[name][i] for name in ("label", "text") if name in batch}}
    return found


def test_batches_contain_tokens_labels_and_row_numbers(files: dict[str, str]) -> None:
    data = text_data(files)
    batches = list(data.test_dataloader())
    assert [len(batch["ids"]) for batch in batches] == [5, 5, 3]
    assert set(batches[0]) == {"ids", "mask", "label", "index"}
    assert {batches[0][name].dtype for name in ("ids", "label", "index")} == {torch.int64}
    rows = _rows(batches)
    assert sorted(rows) == list(range(13))
    for number, row in enumerate(labelled(13, seed=7)):
        assert rows[number]["ids"] == [2, *(5 + byte for byte in row["text"].encode()), 3]
        assert rows[number]["label"] == number % 3
    trained = _rows(data.train_dataloader())
    assert len(trained) in range(23, 29)
    for number, row in enumerate(labelled(31)):
        if number in trained:
            assert trained[number]["ids"] == [2, *(5 + byte for byte in row["text"].encode()), 3]
            assert trained[number]["label"] == number % 3


def test_properties_of_the_data_need_no_setup(files: dict[str, str]) -> None:
    data = text_data(files, tokenizer=CharactersSpec(), max_length=17, val_fraction=0.2)
    found = sorted(set("".join(row["text"] for row in labelled(31))))
    assert data.vocab_size == 5 + len(found)
    assert (data.num_classes, data.class_names, data.multi_label, data.task) == (3, NAMES, False, "classification")
    assert sum(data.class_counts or []) == 25
    processor = data.processor
    again = TextProcessor.from_dict(json.loads(json.dumps(processor.to_dict())))
    assert again == processor
    assert processor.to_dict()["class_path"] == "tasks.text.TextProcessor"
    assert (again.max_length, again.class_names, again.multi_label, again.pairs) == (17, NAMES, False, False)
    assert again.tokenizer("the cat").data == data.tokenizer("the cat").data
    assert text_data(files).processor.max_length == 512


@pytest.mark.parametrize("spec", [BytesSpec(), CharactersSpec(), WordsSpec(), BpeSpec(270, lowercase=True)], ids=repr)
@pytest.mark.parametrize("length", [7, 512])
@pytest.mark.parametrize("pair", [None, "other"])
def test_tokens_are_those_of_transformers(files: dict[str, str], spec: Any, length: int, pair: str | None) -> None:
    data = text_data(files, tokenizer=spec, max_length=length, text_pair_column=pair)
    rows = _rows(data.test_dataloader())
    for number, row in enumerate(labelled(13, seed=7)):
        several = [row["text"], *([row["other"]] if pair else [])]
        expected = data.tokenizer(*several, truncation=True, max_length=length)["input_ids"]
        assert rows[number]["ids"] == expected
        assert len(expected) <= length
        assert expected[-1] == 3  # a cut text ends with [SEP], too


@pytest.mark.parametrize("pair", [None, "other"])
def test_cut_texts_are_counted_once(files: dict[str, str], pair: str | None, caplog: pytest.LogCaptureFixture) -> None:
    data = text_data(files, max_length=60, text_pair_column=pair)
    with caplog.at_level("INFO", logger="lightning"):
        for _ in range(2):
            list(data.test_dataloader())
    whole = text_data(files, max_length=10_000, text_pair_column=pair)
    expected = sum(len(row["ids"]) > 60 for row in _rows(whole.test_dataloader()).values())
    assert 0 < expected < 13
    message = f"split 'test': {expected} of 13 texts are longer than 60 tokens (max_length); their ends are cut off"
    assert caplog.text.count(message) == 1
    with caplog.at_level("INFO", logger="lightning"):
        caplog.clear()
        list(whole.test_dataloader())
        list(text_data(files, max_length=60, label_column=None, long_texts="split").test_dataloader())
    assert "longer than" not in caplog.text


def test_a_wrong_label_in_a_stream_has_its_place(tmp_path: Path) -> None:
    rows = labelled(7)
    rows[3]["label"] = "yak"
    file = write_rows(tmp_path / "train.jsonl", rows)
    options = {"streaming": True, "class_names": NAMES, "test_split": "train"}
    with pytest.raises(ReadError, match=r"row 3 of the stream: 'yak' is not one of the 3 classes"):
        list(text_data({"train": file}, **options).test_dataloader())
    batches = list(text_data({"train": file}, on_bad_text="skip", **options).test_dataloader())
    assert sum(len(batch["index"]) for batch in batches) == 6


def test_joined_texts_draw_masks_of_their_own(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.jsonl", [{"text": "abcdefghijklmnopqrstuvwxyz"}] * 8)
    options = {"label_column": None, "long_texts": "join", "max_length": 29, "test_split": "train", **_NO_VALIDATION}
    (batch,) = text_data({"train": file}, batch_size=8, **options).test_dataloader()
    assert len(set(batch["index"].tolist())) == len(batch["index"])
    write_rows(tmp_path / "train.jsonl", [{"text": " "}] * 8)
    with pytest.raises(ReadError, match="split 'train': all texts are empty"):
        text_data({"train": file}, **options).test_dataloader()


def test_a_tokenizer_that_does_not_separate_pairs(files: dict[str, str], tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]").save_pretrained(tmp_path / "plain")
    spec = AutoTokenizerSpec(str(tmp_path / "plain"))
    list(text_data(files, tokenizer=spec).test_dataloader())
    with pytest.raises(ValueError, match="text_pair_column needs a tokenizer that separates the texts of a pair"):
        text_data(files, tokenizer=spec, text_pair_column="other").test_dataloader()


def test_a_stream_logs_once_that_texts_are_cut(files: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    data = text_data(files, max_length=29, streaming=True, class_names=NAMES)
    with caplog.at_level("INFO", logger="lightning"):
        list(data.test_dataloader())
    assert caplog.text.count("A text of the stream is longer than 29 tokens (max_length)") == 1


def _bert_like(folder: Path) -> AutoTokenizerSpec:
    from transformers import PreTrainedTokenizerFast

    backend = BytesSpec().build([]).backend_tokenizer
    names = ["input_ids", "token_type_ids", "attention_mask"]
    made = PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, **SPECIAL_TOKENS)
    made.save_pretrained(folder)
    return AutoTokenizerSpec(str(folder))


def test_token_types_of_pairs(files: dict[str, str], tmp_path: Path) -> None:
    spec = _bert_like(tmp_path / "tokenizer")
    rows = _rows(text_data(files, tokenizer=spec, text_pair_column="other").test_dataloader())
    for number, row in enumerate(labelled(13, seed=7)):
        first, second = len(row["text"].encode()), len(row["other"].encode())
        assert rows[number]["types"] == [0] * (first + 2) + [1] * (second + 1)
    assert "types" not in next(iter(text_data(files, tokenizer=spec).test_dataloader()))
    assert "types" not in next(iter(text_data(files, text_pair_column="other").test_dataloader()))


def test_lists_of_labels(tmp_path: Path) -> None:
    labels = [[NAMES[i % 3], NAMES[(i + 1) % 3]] if i % 4 else [] for i in range(17)]
    labels[8] = ["bee", "bee"]  # as good as once
    content = [{"text": text, "label": label} for text, label in zip(texts(17), labels)]
    data = text_data(write_rows(tmp_path / "train.jsonl", content), val_fraction=0.3)
    assert (data.num_classes, data.multi_label, data.class_names) == (3, True, NAMES)
    rows = {**_rows(data.train_dataloader()), **_rows(data.val_dataloader())}
    for number, row in rows.items():
        assert row["label"].dtype == torch.float32
        assert [NAMES[place] for place in row["label"].nonzero()] == sorted(set(labels[number]))
    everything = text_data(data.source.data_files, **_NO_VALIDATION)
    assert everything.class_counts == [sum(name in label for label in labels) for name in NAMES]


def test_classes_are_counted(files: dict[str, str]) -> None:
    assert text_data(files, **_NO_VALIDATION).class_counts == [11, 10, 10]
    assert text_data(files, class_names=["cat", "yak", "bee", "ant"], **_NO_VALIDATION).class_counts == [10, 0, 10, 11]
    assert text_data(files, label_column=None).class_counts is None
    assert text_data(files, streaming=True, class_names=NAMES).class_counts is None


def test_batches_are_capped_and_grouped(files: dict[str, str]) -> None:
    data = text_data(files, max_tokens=300, batch_size=11, **_NO_VALIDATION)
    for loader in (data.train_dataloader(), data.test_dataloader()):
        batches = list(loader)
        assert max(batch["ids"].numel() for batch in batches) <= 300
        assert max(len(batch["ids"]) for batch in batches) > 4
    with pytest.raises(ValueError, match=r"max_tokens must be at least 1\d\d, the length of the longest row"):
        text_data(files, max_tokens=90, **_NO_VALIDATION).train_dataloader()

    def padding(**options: Any) -> float:
        masks = [batch["mask"] for batch in text_data(files, **options, **_NO_VALIDATION).train_dataloader()]
        return 1 - sum(mask.sum().item() for mask in masks) / sum(mask.numel() for mask in masks)

    assert padding() < 0.6 * padding(group_by_length=False)


def test_evaluation_without_grouping_is_in_order(files: dict[str, str]) -> None:
    rows = [batch["index"].tolist() for batch in text_data(files, group_by_length=False).test_dataloader()]
    assert rows == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]]


def test_long_texts_are_divided(files: dict[str, str]) -> None:
    data = text_data(files, label_column=None, long_texts="split", max_length=13, **_NO_VALIDATION)
    examples = data.examples_for("train")
    assert examples.lengths.max() == 13  # type: ignore[union-attr]
    rows = [examples.read(row) for row in examples.split.rows]  # type: ignore[union-attr]
    assert all((row.ids[0], row.ids[-1]) == (2, 3) for row in rows)
    content = bytes(int(token) - 5 for row in rows for token in row.ids[1:-1])
    assert content.decode() == "".join(row["text"] for row in labelled(31))
    numbers = [row for batch in data.train_dataloader() for row in batch["index"].tolist()]
    assert len(numbers) == len(set(numbers)) > 150


def test_neighboring_rows_are_joined(tmp_path: Path) -> None:
    lines = ["To be, or", "", "not to be:", "that is the question."] * 50
    (tmp_path / "play.txt").write_text("\n".join(lines))
    options = {"label_column": None, "max_length": 29, **_NO_VALIDATION}
    data = TextDataModule("text", data_files=str(tmp_path / "play.txt"), long_texts="join", **options)
    rows = [data.examples_for("train").read(row) for row in data.examples_for("train").split.rows]  # type: ignore[union-attr]
    content = bytes(int(token) - 5 for row in rows for token in row.ids[1:-1])
    # Two batches of rows; there is no newline between them.
    assert content.decode() == "\n".join(lines[:128]) + "\n".join(lines[128:])
    assert [len(row.ids) for row in rows].count(29) == len(rows) - 2


def test_missing_texts_are_not_joined(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.jsonl", [{"text": "one"}, {"text": None}, {"text": "two"}])
    options = {"label_column": None, "long_texts": "join", **_NO_VALIDATION}
    with pytest.raises(ReadError, match="row 1: the text is missing"):
        text_data({"train": file}, **options).examples_for("train")
    examples = text_data({"train": file}, on_bad_text="skip", **options).examples_for("train")
    assert examples.lengths.tolist() == [len("one\ntwo") + 2]  # type: ignore[union-attr]


@pytest.mark.parametrize("spec", [BytesSpec(), BpeSpec(270)], ids=repr)
def test_a_streamed_split_gives_the_same_tokens(files: dict[str, str], spec: Any) -> None:
    options = {"class_names": NAMES, "group_by_length": False, "tokenizer": spec, **_NO_VALIDATION}
    whole, streamed = text_data(files, **options), text_data(files, streaming=True, **options)
    for one, other in zip(whole.test_dataloader(), streamed.test_dataloader(), strict=True):
        assert set(one) == set(other)
        assert all(torch.equal(one[name], other[name]) for name in one)
    rows = [row for batch in streamed.train_dataloader() for row in batch["ids"].tolist()]
    assert len(rows) == 30


def test_a_streamed_split_of_divided_and_masked_texts(files: dict[str, str]) -> None:
    options = {"label_column": None, "long_texts": "split", "max_length": 13, "streaming": True, **_NO_VALIDATION}
    batches = list(text_data(files, **options).test_dataloader())
    assert set(batches[0]) == {"ids", "mask", "target", "index"}
    original = [
        torch.where(batch["target"] == -100, batch["ids"], batch["target"])[batch["mask"]].tolist() for batch in batches
    ]
    content = bytes(token - 5 for ids in original for token in ids if token >= 5)
    assert content.decode() == "".join(row["text"] for row in labelled(13, seed=7))


def test_tokens_are_made_once(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = _rows(text_data(files, tokenizer=BpeSpec(270)).train_dataloader())
    again = text_data(files, tokenizer=BpeSpec(270))
    again.tokenizer("used", truncation=True, max_length=3)
    changed = [{"max_length": 11}, {"tokenizer": BpeSpec(271)}, {"tokenizer": BytesSpec(True)}, {"seed": 1}]
    monkeypatch.setattr("tasks.text.tokenized.Tokenize.__call__", None)  # cannot be called
    assert {row: one["ids"] for row, one in _rows(again.train_dataloader()).items()}.items() <= {
        **{row: one["ids"] for row, one in first.items()}
    }.items()
    for options in changed:
        with pytest.raises(TypeError):
            text_data(files, **{"tokenizer": BpeSpec(270), **options}).train_dataloader()


def test_processes_change_nothing(files: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    one = text_data(files, tokenizer=CharactersSpec(), **_NO_VALIDATION)
    many = text_data(files, tokenizer=CharactersSpec(), num_proc=3, num_workers=2, max_length=511, **_NO_VALIDATION)
    first, second = list(one.train_dataloader()), list(many.train_dataloader())
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    lines = [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if line.strip()]
    bars = ("INFO", "Generating t", "Tokenizing split 'train'")
    assert [line for line in lines if not line.startswith(bars)] == []
    assert any("num_proc=3" in line for line in lines)
    assert text_data(files, num_proc=99, **_NO_VALIDATION).train_dataloader() is not None


def test_examples_can_be_pickled(files: dict[str, str]) -> None:
    for data in (text_data(files), text_data(files, label_column=None)):
        examples = data.examples_for("train")
        copied = pickle.loads(pickle.dumps(examples))
        draw = Draw(3, [4, 0, 7])
        one, other = examples[draw], copied[draw]  # type: ignore[index]
        assert all(torch.equal(one[name], other[name]) for name in one)


def _bad(file: Path, *values: Any) -> str:
    rows = labelled(31)
    for place, value in zip((4, 9, 19), values):
        rows[place]["text"] = value
    return write_rows(file, rows)


@pytest.mark.parametrize(
    ("value", "fault"), [(None, "the text is missing"), ("", "the text is empty"), (" \t\n", "the text is empty")]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_bad_text_stops_the_run_and_is_named(tmp_path: Path, value: Any, fault: str, streaming: bool) -> None:
    file = _bad(tmp_path / "train.jsonl", value)
    data = text_data(file, streaming=streaming, class_names=NAMES, test_split="train")
    place = "row 4 of the stream" if streaming else "row 4"
    with pytest.raises(ReadError, match=f"split 'train', {place}: {fault}. Repair .* by --data.on_bad_text skip"):
        list(data.test_dataloader())


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_texts_are_skipped_and_counted(tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture) -> None:
    file = _bad(tmp_path / "train.jsonl", None, "", " ")
    options = {"on_bad_text": "skip", "class_names": NAMES, "test_split": "train", **_NO_VALIDATION}
    data = text_data(file, streaming=streaming, **options)
    rows = _rows(data.test_dataloader())
    assert sorted(rows) == [number for number in range(31) if number not in (4, 9, 19)]
    assert all(row["label"] == number % 3 for number, row in rows.items())
    assert data.skipped == {"test": 3}
    place = "row 4 of the stream" if streaming else "row 4"
    assert f"skipped: split 'train', {place}: the text is missing" in caplog.text
    trained = [row for batch in data.train_dataloader() for row in batch["index"].tolist()]
    assert len(trained) in (25, 28)
    assert streaming or not {4, 9, 19} & set(trained)


def test_a_second_text_may_be_bad_too(tmp_path: Path) -> None:
    rows = labelled(7)
    rows[3]["other"] = None
    data = text_data(write_rows(tmp_path / "train.jsonl", rows), text_pair_column="other", **_NO_VALIDATION)
    with pytest.raises(ReadError, match="split 'train', row 3: the text is missing"):
        data.setup("fit")


def test_a_text_without_tokens(tmp_path: Path) -> None:
    words = WordsSpec().build(["cat"])
    backend = json.loads(words.backend_tokenizer.to_str())
    backend["normalizer"] = {"type": "Replace", "pattern": {"String": "#"}, "content": ""}
    words._tokenizer = type(words.backend_tokenizer).from_str(json.dumps(backend))
    words.save_pretrained(tmp_path / "tokenizer")
    rows = [{"text": text, "label": 0} for text in ("cat", "cat #", "##", "cat")]
    options = {"tokenizer": AutoTokenizerSpec(str(tmp_path / "tokenizer")), **_NO_VALIDATION}
    with pytest.raises(ReadError, match="split 'train', row 2: the text has no tokens"):
        text_data(write_rows(tmp_path / "train.jsonl", rows), **options).setup("fit")


def test_a_split_of_bad_texts_alone(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.jsonl", [{"text": "", "label": 0}] * 3)
    with pytest.raises(ReadError, match="split 'train': none of its 3 rows can be read"):
        text_data(file, on_bad_text="skip", **_NO_VALIDATION).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "txt"}, "text_column='txt': split 'train' has no such column; it has: text, other, label"),
        ({"text_pair_column": "b"}, "text_pair_column='b': split 'train' has no such column; it has"),
        ({"label_column": "class"}, "label_column='class': split 'train' has no such column; it has"),
        ({"text_column": "number"}, "text_column must be a column of texts, got 'number' of type .*int64"),
        ({"label_column": "share"}, r"label_column must be a column of class labels .*, got \'share\'"),
        ({"max_length": 0}, "max_length must be a whole number of at least 1, got 0"),
        ({"max_length": 2}, "max_length must be at least 3, which leaves room for a token .*, got 2"),
        ({"max_length": 4, "text_pair_column": "other"}, "max_length must be at least 5, .*, got 4"),
        ({"max_tokens": -1}, "max_tokens must be a whole number of at least 1, got -1"),
        ({"num_proc": 0}, "num_proc must be a whole number of at least 1, got 0"),
        ({"mask_probability": 1.0}, r"mask_probability must be a share of the tokens in \(0, 1\), got 1.0"),
        ({"token_dropout": 1.0}, r"token_dropout must be a probability in \[0, 1\), got 1.0"),
        ({"long_texts": "keep"}, "long_texts must be 'cut', 'split', or 'join', got 'keep'"),
        (
            {"long_texts": "split"},
            "long_texts must be 'cut' .* labels .* got 'split'; set it to 'cut', or label_column to null",
        ),
        (
            {"long_texts": "split", "label_column": None, "text_pair_column": "other"},
            "long_texts must be 'cut' .* second",
        ),
        (
            {"max_tokens": 99, "streaming": True},
            "max_tokens must be null with streaming, as the lengths .* got 99; choose batch_size",
        ),
        ({"on_bad_text": "ignore"}, "on_bad_text must be 'error' or 'skip', got 'ignore'"),
        ({"class_names": ["ant", "bee"]}, "label 'cat' in column 'label' is not one of the 2 classes"),
        (
            {"train_split": "trian"},
            "train_split='trian': the data has no such split; it has: train",
        ),
        (
            {"train_split": "trian", "class_names": NAMES},
            "train_split='trian': the data has no such split; it has: train",
        ),
    ],
)
def test_invalid_arguments(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    rows = [{**row, "number": 5, "share": 0.5} for row in labelled(31)]
    with pytest.raises(ValueError, match=message):
        text_data({"train": write_rows(tmp_path / "train.jsonl", rows)}, **options).setup("fit")


def test_masked_language_modelling_needs_a_mask_token(files: dict[str, str], tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    backend = BytesSpec().build([]).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path / "tokenizer")
    spec = AutoTokenizerSpec(str(tmp_path / "tokenizer"))
    assert text_data(files, tokenizer=spec).examples_for("test")[0]["ids"][0, 0] == 2
    with pytest.raises(ValueError, match="tokenizer must have a mask token for masked language modelling"):
        text_data(files, tokenizer=spec, label_column=None).setup("fit")


def test_an_empty_split(tmp_path: Path) -> None:
    empty = datasets.Dataset.from_dict({"text": [], "label": []}).cast_column("text", datasets.Value("string"))
    empty.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="rows"):
        TextDataModule("parquet", data_files=str(tmp_path / "train.parquet"), **_NO_VALIDATION).setup("fit")


def test_columns_of_other_names(tmp_path: Path) -> None:
    rows = [{"ids": text, "types": text, "length": number % 2} for number, text in enumerate(texts(7))]
    options = {"text_column": "ids", "text_pair_column": "types", "label_column": "length", **_NO_VALIDATION}
    data = text_data(write_rows(tmp_path / "train.jsonl", rows), test_split="train", **options)
    assert [row["label"].item() for _, row in sorted(_rows(data.test_dataloader()).items())] == [0, 1, 0, 1, 0, 1, 0]


def test_the_tokenizer_can_be_written(files: dict[str, str], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    data = text_data(files, tokenizer=BpeSpec(270))
    data.write_run_files(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert again("the Cat [MASK]").data == data.tokenizer("the Cat [MASK]").data


def test_built_in_data() -> None:
    assert set(TextDataModule.built_in) == {"listops", "listops/512", "lra/image"}
    files = {function.__module__ for function in TextDataModule.built_in.values()}
    assert files == {"tasks.text.built_in.listops", "tasks.text.built_in.lra_image"}


@pytest.mark.parametrize(
    ("option", "attribute", "value"),
    [
        ("text_column=review", "text_columns", {"text_column": "review"}),
        ("text_pair_column=b", "text_columns", {"text_column": "text", "text_pair_column": "b"}),
        ("label_column=null", "task", "masked"),
        ("label_column=class", "label_column", "class"),
        ("max_length=77", "max_length", 77),
        ("max_tokens=4096", "max_tokens", 4096),
        ("group_by_length=false", "group_by_length", False),
        ("mask_probability=0.3", "mask_probability", 0.3),
        ("token_dropout=0.3", "token_dropout", 0.3),
        ("texts=a.txt", "texts", "a.txt"),
        ("texts=[a.txt,b.csv]", "texts", ["a.txt", "b.csv"]),
        ("on_bad_text=skip", "on_bad", "skip"),
        ("num_proc=3", "num_proc", 3),
        ("streaming=true", "source.streaming", True),
        ("loading.shuffle_buffer=7", "loading.shuffle_buffer", 7),
    ],
)
def test_options_reach_the_module_from_the_command_line(option: str, attribute: str, value: Any) -> None:
    found: Any = _parsed(f"--data.{option}")
    for name in attribute.split("."):
        found = getattr(found, name)
    assert found == value


def test_long_texts_from_the_command_line() -> None:
    assert _parsed("--data.long_texts=split", "--data.label_column=null").long_texts == "split"


def _parsed(*arguments: str) -> TextDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(TextDataModule, "data")
    return parser.instantiate(parser.parse_args(["--data=TextDataModule", "--data.path=csv", *arguments])).data
