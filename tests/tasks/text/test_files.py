"""Texts to predict, without any data set."""

import bz2
import gzip
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pytest
from keeping import Keeping
from text_files import WORDS
from toy_rows import quiet_trainer

from tasks.data.examples import ReadError
from tasks.text.data import TextDataModule
from tasks.text.files import text_rows
from tasks.text.processor import TextProcessor
from tasks.text.tokens.tokenizers import BpeSpec, BytesSpec, tokenizer_settings

pytestmark = pytest.mark.usefixtures("own_cache")

_PROCESSOR = TextProcessor(
    tokenizer_settings(BpeSpec(263, lowercase=True).build([" ".join(WORDS)] * 3)), 19, class_names=["ant", "bee"]
)


def _predict(texts: Any, processor: TextProcessor | None = _PROCESSOR, **options: Any) -> list[dict[str, Any]]:
    data = TextDataModule("nobody/nothing", texts=texts, processor=processor, **{"batch_size": 3, **options})
    task = Keeping()
    quiet_trainer().predict(task, data)
    return task.batches


def _found(batches: list[dict[str, Any]], name: str = "text") -> list[Any]:
    """What batches hold, by row number."""
    numbers = [number for batch in batches for number in batch["index"].tolist()]
    assert len(numbers) == len(set(numbers))
    return [one for _, one in sorted(zip(numbers, [one for batch in batches for one in batch[name]]))]


_LINES = ["The cat", "a mat; ", "  it SLEPT on and on and on and on and on, never ended", "Ü\x0b\u2028x", "mice"]


@pytest.fixture
def lines(tmp_path: Path) -> str:
    (tmp_path / "lines.txt").write_text("\n".join(_LINES) + "\n", encoding="utf-8")
    return str(tmp_path / "lines.txt")


@pytest.mark.parametrize("workers", [0, 2])
def test_lines_become_tokens_by_the_processor_of_the_task(lines: str, workers: int) -> None:
    batches = _predict(lines, num_workers=workers)
    assert [set(batch) for batch in batches] == [{"ids", "mask", "index", "text"}] * 2
    assert _found(batches) == _LINES
    tokenizer = _PROCESSOR.tokenizer
    for batch in batches:
        for ids, mask, text in zip(batch["ids"], batch["mask"], batch["text"]):
            assert ids[mask].tolist() == tokenizer(text, truncation=True, max_length=19)["input_ids"]
    assert max(batch["ids"].shape[1] for batch in batches) == 19


def test_max_length_of_the_module_wins_over_the_length_of_the_task(lines: str) -> None:
    assert max(batch["ids"].shape[1] for batch in _predict(lines, max_length=23)) == 23
    (batch,) = _predict(lines, None, batch_size=7)  # a task that knows nothing
    longest = batch["text"].index(_LINES[2])
    assert batch["ids"][longest].tolist() == BytesSpec().build([])(_LINES[2])["input_ids"]


@pytest.mark.parametrize("options", [{"label_column": None, "long_texts": "split"}, {"max_tokens": 60}], ids=str)
def test_a_text_stays_whole_and_batches_small(lines: str, options: dict[str, Any]) -> None:
    batches = _predict(lines, **options)
    assert _found(batches) == _LINES
    assert "max_tokens" not in options or max(batch["ids"].numel() for batch in batches) <= 60


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_tables(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"table.{kind}"
    rows = [{"id": number, "review": text} for number, text in enumerate(_LINES)]
    if kind in ("csv", "parquet"):
        getattr(datasets.Dataset.from_list(rows), f"to_{kind}")(file)
    elif kind == "json":
        file.write_text(json.dumps(rows))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _found(_predict(str(file), text_column="review")) == _LINES
    with pytest.raises(
        ValueError, match=rf"text_column must be a column of '{file}', got 'text'; choose one of id, rev"
    ):
        _predict(str(file))
    if kind == "csv":
        assert _found(_predict(str(file), text_column="id")) == list("01234")
        return
    message = r"text_column must be a column of texts, got 'id' of type .*int64.*; .* or store it as strings"
    with pytest.raises(ValueError, match=message):
        _predict(str(file), text_column="id")


def test_pairs_come_from_tables(tmp_path: Path, lines: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({"text": text, "other": "on a mat"}) + "\n" for text in _LINES))
    batches = _predict(str(file), text_pair_column="other")
    assert _found(batches) == _LINES
    assert _found(batches, "text_pair") == ["on a mat"] * 5
    tokenizer = _PROCESSOR.tokenizer
    for batch in batches:
        for ids, mask, text in zip(batch["ids"], batch["mask"], batch["text"]):
            assert ids[mask].tolist() == tokenizer(text, "on a mat", truncation=True, max_length=19)["input_ids"]
    with pytest.raises(
        ValueError,
        match=r"texts must be tables .* columns text and other where inputs are pairs, got .*; leave text_pair",
    ):
        _predict(lines, text_pair_column="other")


def test_lists_of_files_and_line_ends_of_other_systems(tmp_path: Path, lines: str) -> None:
    (tmp_path / "other.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (tmp_path / "table.csv").write_text("text\nthree\n")
    rows = text_rows([str(tmp_path / "other.txt"), lines, str(tmp_path / "table.csv")], ["text"])
    assert rows["text"][:] == ["one", "two", *_LINES, "three"]


_TABLES = {
    "a.tsv": "id\ttext\n1\tnull\n2\t007\n",
    "a.csv": "id;text\n1;null\n2;007\n",
    "a.tsv.gz": "id\ttext\n1\tnull\n2\t007\n",
    "a.jsonl.gz": '{"text": "null"}\n{"text": "007"}\n',
    "a.txt": "null\n007\n",
    "a.TXT.bz2": "null\n007\n",
}


def _write(file: Path, content: str) -> str:
    with {".gz": gzip.open, ".bz2": bz2.open}.get(file.suffix, open)(file, "wt") as stream:
        stream.write(content)
    return str(file)


@pytest.mark.parametrize("name", _TABLES)
def test_texts_are_as_written_in_every_kind_of_file(tmp_path: Path, name: str) -> None:
    assert _found(_predict(_write(tmp_path / name, _TABLES[name]))) == ["null", "007"]


@pytest.mark.parametrize("given", ["{folder}", "{folder}/*", "{folder}/**", "{folder}/a.*"])
def test_folders_and_patterns(tmp_path: Path, given: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "texts [1]"
    folder.mkdir()
    for name, content in {**_TABLES, "a.doc": "x"}.items():
        _write(folder / name, content)
    (folder / ".hidden.txt").write_text("hidden")
    with caplog.at_level("INFO"):
        assert text_rows(given.format(folder=folder), ["text"])["text"][:] == ["null", "007"] * 6
    assert "texts: files left out because they are no text files: 1 (1 .doc)" in caplog.text


@pytest.mark.parametrize("ending", ["txt", "csv", "jsonl"])
def test_names_that_are_not_utf_8(tmp_path: Path, ending: str) -> None:
    content = {"txt": "one\n", "csv": "text\none\n", "jsonl": '{"text": "one"}\n'}[ending]
    try:
        os.rename(_write(tmp_path / "a", content), os.fsencode(tmp_path) + b"/caf\xe9." + ending.encode())
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    assert text_rows(str(tmp_path), ["text"])["text"][:] == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        (
            "no.txt",
            None,
            FileNotFoundError,
            r"texts must be a folder, .* text files .*.csv, .*.txt.*, got '.*no.txt', which does not exist",
        ),
        (
            "a.doc",
            b"x",
            ValueError,
            r"texts must end in .csv, .tsv, .json, .jsonl, .ndjson, .parquet.*, got '.*a.doc'; convert the file",
        ),
        (
            "a.txt",
            b"",
            ValueError,
            r"texts must be files with at least one text, got the empty file '.*a.txt'; leave it out",
        ),
        ("b.txt", b"one\ncaf\xe9\n", ValueError, r"texts='.*b.txt': line 2 is not UTF-8 text \(.*, byte 0xe9\); save"),
        ("b.csv", b"text\ncaf\xe9\n", ValueError, r"b.csv: line 2 is not UTF-8 text \(.*, byte 0xe9\); save"),
        ("a.parquet", b"x", ValueError, r"a.parquet.*cannot be read"),
    ],
)
def test_invalid_files(tmp_path: Path, name: str, content: bytes | None, error: type[Exception], message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        _predict(str(tmp_path / name))


def test_predict_without_files_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"texts must be files of texts to predict, got None; give them by --data.texts FILE"
    ):
        _predict(None)
    with pytest.raises(ValueError, match=r"texts must be a file of texts or a list of files, got an empty list"):
        _predict([])


def test_empty_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n \nthree\n")
    with pytest.raises(ReadError, match=r"texts, row 1: the text is empty. .* by --data.on_bad_text skip"):
        _predict(str(tmp_path / "a.txt"))
    batches = _predict(str(tmp_path / "a.txt"), on_bad_text="skip")
    assert _found(batches) == ["one", "two", "three"]
    assert sorted(number for batch in batches for number in batch["index"].tolist()) == [0, 2, 4]
