"""Tokenizers from specifications, and from the plain values of a checkpoint."""

import json
import os
from pathlib import Path
from typing import Any

import datasets
import pytest
from jsonargparse import ArgumentParser
from tokenizers import Tokenizer, models, pre_tokenizers

from softformer.training.specs import rebuild
from tasks.text.data import TextDataModule
from tasks.text.tokens.learned import learned_settings
from tasks.text.tokens.tokenizers import (
    SPECIAL_TOKENS,
    AutoTokenizerSpec,
    BpeSpec,
    BytesSpec,
    CharactersSpec,
    CodePointsSpec,
    TokenizerSpec,
    WordsSpec,
    tokenizer_from,
    tokenizer_settings,
    vocabulary_size,
)

pytestmark = pytest.mark.usefixtures("own_cache")

_TEXTS = ["the cat sat on the mat", "a cat, a Cat!\n", "Ünïcode 中 \U0001f600", "mat mat mat [MASK] the"]
_LEARNING: list[TokenizerSpec] = [CharactersSpec(), WordsSpec(), BpeSpec(267)]
_ALL = [BytesSpec(), CodePointsSpec(0x20, 300), *_LEARNING]


def _ids(spec: TokenizerSpec, *text: str, texts: list[str] = _TEXTS) -> list[int]:
    return spec.build(texts)(*text)["input_ids"]


@pytest.mark.parametrize("spec", _ALL, ids=repr)
def test_special_tokens_and_their_places(spec: TokenizerSpec) -> None:
    tokenizer = spec.build(_TEXTS)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS.values())) == [0, 1, 2, 3, 4]
    ids = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id]
    assert [*ids, tokenizer.mask_token_id] == [0, 1, 2, 3, 4]
    assert "token_type_ids" not in tokenizer("the mat", "a cat")
    single, pair = tokenizer("the mat"), tokenizer("the mat", "a cat", return_token_type_ids=True)
    assert (single["input_ids"][0], single["input_ids"][-1]) == (2, 3)
    first, second = single["input_ids"], tokenizer("a cat")["input_ids"]
    assert pair["input_ids"] == [*first, *second[1:]]
    assert pair["token_type_ids"] == [0] * len(first) + [1] * (len(second) - 1)
    assert 4 in tokenizer("the [MASK] mat")["input_ids"]
    assert tokenizer.padding_side == "right"
    assert vocabulary_size(tokenizer) == len(tokenizer)


@pytest.mark.parametrize("spec", [BytesSpec(), BpeSpec(267)], ids=repr)
def test_byte_tokenizers_write_every_text(spec: TokenizerSpec) -> None:
    tokenizer = spec.build(_TEXTS)
    for text in ["never seen: žluťoučký 馬\t\r\n\0 x  y ", *_TEXTS[:3]]:
        ids = tokenizer(text)["input_ids"]
        assert 1 not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_bytes_are_in_their_order() -> None:
    text = "".join(chr(i) for i in range(128)) + "é馬\U0001f600"
    assert _ids(BytesSpec(), text) == [2, *(5 + byte for byte in text.encode()), 3]
    assert len(BytesSpec().build([])) == 261


def test_characters_are_those_of_the_texts_in_their_order() -> None:
    found = sorted(set("".join(_TEXTS)))
    tokenizer = CharactersSpec().build(_TEXTS)
    assert len(tokenizer) == 5 + len(found)
    text = "cat\n \U0001f600Q中"
    expected = [5 + found.index(sign) if sign in found else 1 for sign in text]
    assert 1 in expected
    assert tokenizer(text)["input_ids"] == [2, *expected, 3]
    assert tokenizer.decode(tokenizer("a cat, a\nCat!")["input_ids"], skip_special_tokens=True) == "a cat, a\nCat!"


def test_code_points_are_a_range() -> None:
    tokenizer = CodePointsSpec(0x2800, 256).build(["not read"])
    assert len(tokenizer) == 261
    text = "".join(map(chr, range(0x2800, 0x2900)))
    assert tokenizer(text)["input_ids"] == [2, *range(5, 261), 3]
    assert tokenizer("a\u27ff\u2900")["input_ids"] == [2, 1, 1, 1, 3]
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert len(CodePointsSpec(0xE000, 0x10FFFF - 0xE000 + 1).build([])) == 5 + 0x102000


def test_words_are_ordered_by_frequency() -> None:
    words = ["mat", "the", "a", "Cat!", "cat", "cat,", "on", "sat", "Ünïcode", "中", "\U0001f600"]
    assert _ids(WordsSpec(), " ".join(words)) == [2, *range(5, 5 + len(words)), 3]
    assert _ids(WordsSpec(), "the dog\t\n mat") == [2, 6, 1, 5, 3]
    assert len(WordsSpec(8).build(_TEXTS)) == 8
    assert _ids(WordsSpec(8), "mat the a cat") == [2, 5, 6, 7, 1, 3]
    assert len(WordsSpec(min_frequency=3).build(_TEXTS)) == 7


def test_bpe_merges_what_is_frequent() -> None:
    small, large = BpeSpec(261).build(_TEXTS), BpeSpec(267).build(_TEXTS)
    assert (len(small), len(large)) == (261, 267)
    text = "the mat"
    assert small(text)["input_ids"] == [2, *(small.convert_tokens_to_ids(list("theĠmat"))), 3]
    assert large.tokenize(text) == ["the", "Ġmat"]
    assert len(BpeSpec(8192, min_frequency=99).build(_TEXTS)) == 261
    assert _ids(BpeSpec(267), text, texts=_TEXTS) == large(text)["input_ids"]  # training repeats


@pytest.mark.parametrize(
    "spec", [BytesSpec(True), CharactersSpec(True), WordsSpec(lowercase=True), BpeSpec(267, lowercase=True)], ids=repr
)
def test_lower_case(spec: TokenizerSpec) -> None:
    tokenizer = spec.build(_TEXTS)
    assert tokenizer("A CAT [MASK]")["input_ids"] == tokenizer("a cat [MASK]")["input_ids"]
    assert 1 not in tokenizer("A CAT [MASK]")["input_ids"]
    plain = rebuild(TokenizerSpec, {**spec.to_dict(), "init_args": {**spec.init_args, "lowercase": False}})  # type: ignore[type-abstract]
    assert plain.build(_TEXTS)("A CAT")["input_ids"] != tokenizer("A CAT")["input_ids"]


@pytest.mark.parametrize("spec", _ALL, ids=repr)
def test_plain_values_make_the_tokenizer_again(spec: TokenizerSpec, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = spec.build(_TEXTS)
    settings = json.loads(json.dumps(tokenizer_settings(tokenizer)))
    tokenizer(["the mat", "a"], truncation=True, max_length=3, padding=True)
    assert tokenizer_settings(tokenizer) == settings  # not what a call leaves behind
    tokenizer.save_pretrained(tmp_path)
    text = ("the cat sät", "on [MASK] a mat")
    for again in (tokenizer_from(settings), AutoTokenizer.from_pretrained(tmp_path)):
        assert again(*text).data == tokenizer(*text).data
        assert again.decode(again(*text)["input_ids"]) == tokenizer.decode(tokenizer(*text)["input_ids"])
        assert again.special_tokens_map == tokenizer.special_tokens_map
        assert tokenizer_settings(again) == settings
    assert tokenizer_from(settings) is tokenizer_from(dict(reversed(settings.items())))


def _bert_folder(folder: Path) -> str:
    """A tokenizer of words as other software writes it, with its own numbers, truncation and padding."""
    from transformers import PreTrainedTokenizerFast

    vocab = {"<s>": 0, "</s>": 1, "<blank>": 2, "<unknown>": 3, "<gap>": 4, "cat": 5, "mat": 7}
    backend = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.enable_truncation(3)
    backend.enable_padding(length=13, pad_id=2, pad_token="<blank>")
    names = {"pad_token": "<blank>", "unk_token": "<unknown>", "mask_token": "<gap>", "bos_token": "<s>"}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=["input_ids"], **names)
    made.save_pretrained(folder)
    return str(folder)


def test_any_tokenizer_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _bert_folder(tmp_path / "words")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(tmp_path / "words"), "~/words"):
        tokenizer = AutoTokenizerSpec(name).build([])
        assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (2, 3, 4)
        assert tokenizer.cls_token is None
        assert tokenizer.model_input_names == ["input_ids"]
        assert tokenizer("cat mat dog cat mat")["input_ids"] == [5, 7, 3, 5, 7]
        assert vocabulary_size(tokenizer) == 8  # numbers have a gap
        assert AutoTokenizerSpec(name).learns is False


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/nothing", r"tokenizer.name='nobody/nothing': there is no such local folder, and no such model"),
        (
            "/no/such",
            r"tokenizer.name='/no/such': there is no such local folder, .* the folder of .*, or choose BytesSpec",
        ),
        ("HERE", r"tokenizer.name='.*': the folder does not contain a tokenizer that transformers knows"),
    ],
)
def test_a_tokenizer_that_does_not_exist(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        AutoTokenizerSpec(str(tmp_path) if name == "HERE" else name).build([])


def test_a_tokenizer_that_a_checkpoint_cannot_store(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda name: Slow())
    with pytest.raises(
        ValueError, match=r"tokenizer.name must be a tokenizer that .* runs by itself, .*, got Slow of 'slow'"
    ):
        AutoTokenizerSpec("slow").build([])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (BpeSpec, {"vocab_size": 260}, r"tokenizer.vocab_size must be at least 261 \(.* 256 bytes\), got 260"),
        (BpeSpec, {"min_frequency": 0}, r"tokenizer.min_frequency must be at least 1 .*, got 0"),
        (WordsSpec, {"vocab_size": 5}, r"tokenizer.vocab_size must be at least 6 .*, got 5"),
        (WordsSpec, {"min_frequency": -1}, r"tokenizer.min_frequency must be at least 1 .*, got -1"),
        (CodePointsSpec, {"first": 0, "count": 0}, r"tokenizer.first and tokenizer.count must give .*, got 0 and 0"),
        (CodePointsSpec, {"first": -1}, r"must give code points from 0 to 0xD7FF or from 0xE000 to .*, got -1 and 256"),
        (CodePointsSpec, {"first": 0xD700, "count": 257}, r"tokenizer.first and .*, got 55040 and 257"),
        (CodePointsSpec, {"first": 0xDFFF, "count": 2}, r"tokenizer.first and .*, got 57343 and 2"),
        (CodePointsSpec, {"first": 0x10FFFF, "count": 2}, r"tokenizer.first and .*, got 1114111 and 2"),
    ],
)
def test_options_out_of_range(kind: Any, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


def _rows(texts: list[str] = _TEXTS, **more: list[str]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": texts, **more})


@pytest.mark.parametrize("spec", _LEARNING, ids=repr)
@pytest.mark.parametrize("streamed", [False, True])
def test_learned_tokenizers_are_cached(spec: TokenizerSpec, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _rows().to_iterable_dataset() if streamed else _rows()
    first = learned_settings(spec, rows, ["text"])
    assert first == tokenizer_settings(spec.build(_TEXTS))
    other = _rows([*_TEXTS, "other"]).to_iterable_dataset() if streamed else _rows([*_TEXTS, "other"])
    monkeypatch.setattr(type(spec), "build", None)  # cannot be called
    assert learned_settings(spec, rows, ["text"]) == first
    with pytest.raises(TypeError):
        learned_settings(spec, other, ["text"])
    files = list((Path(datasets.config.HF_DATASETS_CACHE) / "softformer").glob("tokenizer-*"))
    assert sorted(file.suffix for file in files) == [".json", ".lock", ".lock"]


def test_tokenizers_learn_from_both_columns_without_missing_texts() -> None:
    rows = _rows(["ab", None, ""], other=["c", "d", "e"])  # type: ignore[list-item]
    tokenizer = tokenizer_from(learned_settings(CharactersSpec(), rows, ["text", "other"]))
    assert len(tokenizer) == 5 + len("abcde")


def test_tokenizers_learn_from_the_first_rows_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.text.tokens.learned.MOST_STREAMED", 3)
    rows = _rows(list("abcdef")).to_iterable_dataset()
    assert len(tokenizer_from(learned_settings(CharactersSpec(), rows, ["text"]))) == 5 + 3


@pytest.mark.parametrize(
    ("arguments", "spec"),
    [
        ([], BytesSpec()),
        (["--data.tokenizer.lowercase=true"], BytesSpec(True)),
        (["--data.tokenizer=CharactersSpec"], CharactersSpec()),
        (["--data.tokenizer=CodePointsSpec", "--data.tokenizer.first=0x2800"], CodePointsSpec(0x2800)),
        (["--data.tokenizer=WordsSpec", "--data.tokenizer.min_frequency=3"], WordsSpec(min_frequency=3)),
        (["--data.tokenizer=BpeSpec", "--data.tokenizer.vocab_size=300"], BpeSpec(300)),
        (["--data.tokenizer=AutoTokenizerSpec", "--data.tokenizer.name=a/b"], AutoTokenizerSpec("a/b")),
        (['--data.tokenizer={"class_path": "BpeSpec", "init_args": {"lowercase": true}}'], BpeSpec(lowercase=True)),
    ],
    ids=str,
)
def test_specifications_from_the_command_line(arguments: list[str], spec: TokenizerSpec) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(TextDataModule, "data")
    config = parser.parse_args(["--data=TextDataModule", "--data.path=csv", *arguments])
    data = parser.instantiate(config).data
    assert data.tokenizer_spec == spec
    assert data.hparams["tokenizer"] == spec.to_dict()
    assert rebuild(TokenizerSpec, data.hparams["tokenizer"]) == spec  # type: ignore[type-abstract]


def test_threads_are_off_outside_of_training() -> None:
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    BpeSpec(267).build(_TEXTS)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
