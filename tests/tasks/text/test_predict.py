"""Python, the trainer, and the command line predict the same, by the same reader, processor, and collator."""

import csv
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import softformer
from text_files import NAMES, texts
from toy_rows import quiet_trainer

from softformer.training.checkpoints.loading import load
from softformer.training.encoders.sequence import SoftEncoderSpec
from tasks.text import BpeSpec, BytesSpec, MaskedLanguageModel, TextClassifier, TextDataModule
from tasks.text.collating import TextCollator, TokenReader
from tasks.text.processor import Text, TextProcessor
from tasks.text.tokenized import Tokenize
from tasks.text.tokens.tokenizers import tokenizer_settings

pytestmark = pytest.mark.usefixtures("own_cache")

MAX_LENGTH = 19
_TYPES = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
PROCESSOR = TextProcessor(
    {**tokenizer_settings(BpeSpec(300, lowercase=True).build(texts(31))), **_TYPES}, MAX_LENGTH, class_names=NAMES
)
# Of one token up to three times max_length, with characters that training did not have.
SINGLE: list[Text] = ["mice", *texts(11, 17), "The CAT, \u4e2d \U0001f600 sat " * 7, "a", "Ünder\tthe  mat"]
PAIRS: list[Text] = [
    ("mice", "a mat"),
    *zip(texts(7, 17), texts(7, 5, seed=1)),
    ("a cat " * 19, "it"),
    ("it", "slept " * 19),
    ("the " * 17, "mice " * 23),
]
MASKED: list[Text] = [
    "the c[MASK]t sat on [MASK]",
    "mice",
    *(f"{text[:9]}[MASK] {text[9:]}" for text in texts(7, 11)),
    "a mat, " * 19 + "[MASK]",
]
COLUMNS = {"text_column": "first", "text_pair_column": "second"}
KINDS = {"single": SINGLE, "pairs": PAIRS, "masked": MASKED}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def task(kind: str) -> Any:
    torch.manual_seed(0)
    encoder = SoftEncoderSpec(12, 1, 3, num_landmarks=5)
    if kind == "masked":
        return MaskedLanguageModel(encoder, processor=PROCESSOR.replace(class_names=None, pairs=False)).eval()
    return TextClassifier(encoder, processor=PROCESSOR.replace(pairs=kind == "pairs")).eval()


@pytest.fixture
def file(kind: str, tmp_path: Path) -> str:
    """The texts as a table with a column or two."""
    rows = [dict(zip(("first", "second"), (text,) if isinstance(text, str) else text)) for text in KINDS[kind]]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "texts.jsonl")


def options(kind: str) -> dict[str, Any]:
    columns = COLUMNS if kind == "pairs" else {"text_column": "first"}
    return columns | ({"label_column": None} if kind == "masked" else {})


def data(kind: str, file: str, processor: TextProcessor | None, **more: Any) -> TextDataModule:
    return TextDataModule("unread", texts=file, processor=processor, **{"batch_size": 5, **options(kind), **more})


def comparable(rows: list[dict[str, Any]]) -> list[tuple[list[str], list[float]]]:
    """Words and probabilities of the rows, in the order of the texts; the written table has that order."""
    found = []
    for row in sorted(rows, key=lambda row: row.get("index", 0)):
        words = [str(value) for name, value in row.items() if not name.startswith(("index", "probabilit"))]
        shares = [value for name, value in row.items() if name.startswith("probabilit")]
        found.append(
            (words, [float(share) for value in shares for share in str(value).strip("[]").split(",") if share])
        )
    return found


def python_rows(task: Any, kind: str, batch_size: int) -> list[dict[str, Any]]:
    """What `predict` returns, as rows of the table of predictions."""
    given = [(text,) if isinstance(text, str) else text for text in KINDS[kind]]
    rows: list[dict[str, Any]] = [
        {"index": number, **dict(zip(("text", "text_pair"), several))} for number, several in enumerate(given)
    ]
    for row, found in zip(rows, task.predict(KINDS[kind], batch_size=batch_size), strict=True):
        if kind == "masked":
            row |= found
        for rank, (label, share) in enumerate(found if kind != "masked" else (), start=1):
            row |= {f"class_{rank}": label, f"probability_{rank}": share}
    return rows


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for (words, shares), (other_words, other_shares) in zip(comparable(found), comparable(expected), strict=True):
        assert words == other_words
        assert shares == pytest.approx(other_shares, abs=2e-6)


@pytest.mark.parametrize("batch_size", [2, 5])
def test_all_routes_predict_the_same(task: Any, kind: str, file: str, tmp_path: Path, batch_size: int) -> None:
    task.trainer = trainer = quiet_trainer()
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "task.ckpt")
    task = load(tmp_path / "task.ckpt")
    expected = python_rows(task, kind, 3)
    assert len({str(row) for _, row in comparable(expected)}) > len(expected) // 2  # texts differ
    assert_same(python_rows(task, kind, batch_size), expected)
    for more in ({}, {"num_workers": 2}, {"group_by_length": False}, {"max_tokens": 60}):
        batches = quiet_trainer().predict(task, data(kind, file, task.processor, batch_size=batch_size, **more))
        assert_same([row for batch in batches or [] for row in batch], expected)
    args = ["--ckpt_path", "task.ckpt", "--data", "TextDataModule", "--data.path", "unread", "--data.texts", file]
    for name, value in {**options(kind), "batch_size": batch_size}.items():
        args += [f"--data.{name}", "null" if value is None else str(value)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=r"\s*Unable to serialize")
        outcome = softformer(tmp_path, "predict", *args, "--trainer.accelerator", "cpu", "--output", "table.csv")
    assert outcome.code == 0, outcome.err
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as table:
        assert_same(list(csv.DictReader(table)), expected)


@pytest.mark.parametrize("part", [Tokenize, TokenReader, TextCollator])
def test_both_routes_share_tokenizer_reader_and_collator(
    task: Any, kind: str, file: str, part: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    call = part.__call__

    def counted(self: Any, *args: Any) -> Any:
        calls.append(part.__name__)
        return call(self, *args)

    monkeypatch.setattr(part, "__call__", counted)
    task.predict(KINDS[kind])
    assert calls
    calls.clear()
    quiet_trainer().predict(task, data(kind, file, task.processor))
    assert calls


def test_both_routes_have_the_same_batches(task: Any, kind: str, file: str) -> None:
    def rows(batches: Iterator[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        return {
            int(number): {
                **{
                    name: batch[name][place][batch["mask"][place]].tolist()
                    for name in ("ids", "types")
                    if name in batch
                },
                **{name: batch[name][place] for name in ("text", "text_pair") if name in batch},
            }
            for batch in batches
            for place, number in enumerate(batch["index"])
        }

    found = rows(task.processor.batches(KINDS[kind], 3))
    assert found == rows(iter(data(kind, file, task.processor).predict_dataloader()))
    assert ("types" in found[0]) == ("text_pair" in found[0]) == (kind == "pairs")
    lengths = [len(row["ids"]) for row in found.values()]
    assert min(lengths) < MAX_LENGTH == max(lengths)
    tokenizer = task.processor.tokenizer
    for number, text in enumerate(KINDS[kind]):
        given = (text,) if isinstance(text, str) else text
        assert found[number]["ids"] == tokenizer(*given, truncation=True, max_length=MAX_LENGTH)["input_ids"]


def test_both_routes_log_cut_texts(task: Any, kind: str, file: str, caplog: pytest.LogCaptureFixture) -> None:
    lengths = [
        len(task.processor.tokenizer(*((text,) if isinstance(text, str) else text))["input_ids"])
        for text in KINDS[kind]
    ]
    cut = sum(length > MAX_LENGTH for length in lengths)
    message = f"texts: {cut} of {len(lengths)} texts are longer than 19 tokens (max_length); their ends are cut off"
    for route in (
        lambda: task.predict(KINDS[kind]),
        lambda: quiet_trainer().predict(task, data(kind, file, task.processor)),
    ):
        with caplog.at_level("INFO", logger="lightning"):
            caplog.clear()
            route()
        assert caplog.text.count(message) == 1
        assert "stream" not in caplog.text


def test_data_of_another_tokenizer_are_refused(task: Any, kind: str, file: str) -> None:
    """Data that were not given the processor of the task would number its tokens in another way."""
    for spec in (BytesSpec(), BpeSpec(270)):
        processor = TextProcessor(tokenizer_settings(spec.build(texts(31, seed=1))))
        message = (
            "TextDataModule must prepare .* token .* in the data and .* build the data with processor=task.processor"
        )
        with pytest.raises(ValueError, match=message):
            quiet_trainer().predict(task, data(kind, file, processor))
    with pytest.raises(ValueError, match=r"token .* in the data and .* in the task"):
        quiet_trainer().predict(task, data(kind, file, None))


@pytest.mark.parametrize("kind", ["masked"], indirect=True)
def test_masks_beyond_max_length_are_logged(
    task: Any, file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once by every route, and by number; the last text has its mask beyond the 19 tokens."""
    message = "masked tokens beyond the first 19 tokens of a text (max_length) were not predicted: 1; shorten"
    rows = task.predict(MASKED)
    assert [len(json.loads(row["tokens"])) for row in rows][:2] == [2, 0]
    assert json.loads(rows[-1]["tokens"]) == []
    assert caplog.text.count(message) == 1
    caplog.clear()
    quiet_trainer().predict(task, data("masked", file, task.processor))
    assert caplog.text.count(message) == 1
    caplog.clear()
    task.predict("the c[MASK]t sat")
    assert "masked tokens" not in caplog.text
    for route in (
        lambda: task.predict(["no mask", "at all <mask>"]),
        lambda: quiet_trainer().predict(
            task, data("masked", str(tmp_path / "a.txt"), task.processor, text_column="text")
        ),
    ):
        (tmp_path / "a.txt").write_text("no mask\nat all <mask>\n")
        caplog.clear()
        route()
        assert caplog.text.count("no text has a masked token; write [MASK] for a token to predict") == 1


@pytest.mark.parametrize(
    ("text", "meant"), [("a \ud83d b", "a \ufffd b"), ("a \ud83d\ude00 b", "a \U0001f600 b"), ("\ude00", "\ufffd")]
)
def test_surrogates(text: str, meant: str) -> None:
    """A lone surrogate is replaced, and two that belong together are the character that they encode."""
    processor = TextProcessor(tokenizer_settings(BytesSpec().build([])))
    (found,), (expected,) = processor.batches(text, 3), processor.batches(meant, 3)
    assert found["ids"].tolist() == expected["ids"].tolist()
    encoded = bytes(int(token) - 5 for token in found["ids"][0][1:-1])
    assert encoded.decode() == meant
    task = TextClassifier(SoftEncoderSpec(6, 1, 3, num_landmarks=5), processor=processor, num_classes=3)
    assert task.predict([text]) == task.predict([meant])
    (pair,) = processor.batches((text, "b"), 3)
    assert pair["ids"].tolist() == next(processor.batches((meant, "b"), 3))["ids"].tolist()
    model = MaskedLanguageModel(SoftEncoderSpec(6, 1, 3, num_landmarks=5), processor=processor)
    assert model.predict(text)[0]["filled"] == meant
