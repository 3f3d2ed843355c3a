"""Data of every kind that load_dataset reads, and what is said when it cannot."""

import bz2
import csv
import gzip
import json
import os
import shlex
from pathlib import Path
from typing import Any

import datasets
import pytest
from toy_rows import ToyData, ToyNetWithValidation, numbers, quiet_trainer

from tasks.audio import AudioDataModule, SpeechDataModule
from tasks.data.sources import Source
from tasks.image import ImageDataModule
from tasks.text import TextDataModule

pytestmark = pytest.mark.usefixtures("own_cache")


def _write(folder: Path, kind: str, **splits: int) -> dict[str, str]:
    files = {}
    for split, rows in splits.items():
        file = folder / f"{split}.{kind}"
        values = [{"value": float(row)} for row in range(rows)]
        if kind == "parquet":
            datasets.Dataset.from_list(values).to_parquet(file)
        elif kind == "json":
            file.write_text("".join(json.dumps(row) + "\n" for row in values))
        else:
            with file.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, ["value"])
                writer.writeheader()
                writer.writerows(values)
        files[split] = str(file)
    return files


def _values(data: ToyData, role: Any) -> list[int]:
    return data.examples_for(role)[list(range(len(data.examples_for(role))))]["index"].tolist()


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
@pytest.mark.parametrize("streaming", [False, True])
def test_local_files_by_split(tmp_path: Path, kind: str, streaming: bool) -> None:
    files = _write(tmp_path, kind, train=7, validation=3, test=5)
    data = ToyData(kind, data_files=files, streaming=streaming, batch_size=2)
    assert [batch["index"].tolist() for batch in data.test_dataloader()] == [[0, 1], [2, 3], [4]]
    assert [batch["index"].tolist() for batch in data.val_dataloader()] == [[0, 1], [2]]
    assert sum(len(batch["index"]) for batch in data.train_dataloader()) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(file).name for file in files.values())


def test_a_folder_a_pattern_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "parquet", train=7, test=5)
    assert len(ToyData(str(tmp_path)).split_for("test")) == 5
    assert len(ToyData("parquet", data_dir=str(tmp_path)).split_for("test")) == 5
    data = ToyData("parquet", data_dir=str(tmp_path), data_files={"train": "t*.parquet"}, val_fraction=0.0)
    assert len(data.split_for("train")) == 12
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(ToyData("parquet", data_files={"test": "~/test.parquet"}).split_for("test")) == 5


def test_slices_of_splits(tmp_path: Path) -> None:
    files = _write(tmp_path, "parquet", train=10, test=5)
    data = ToyData(
        "parquet", data_files=files, train_split="train[:70%]", val_split="train[70%:]", test_split="train+test"
    )
    assert [len(data.split_for(role)) for role in ("train", "validation", "test")] == [7, 3, 15]


def test_other_keys_of_data_files_are_splits_too(tmp_path: Path) -> None:
    files = _write(tmp_path, "csv", train=7, dev=3, holdout=5)
    data = ToyData("csv", data_files=files, test_split="holdout")
    assert data.validation_split() == "dev"
    assert len(data.split_for("test")) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": "/no/such/folder"}, FileNotFoundError, "'/no/such/folder': there is no such folder"),
        ({"path": "parquet"}, ValueError, "path='parquet' is a format: give the files by data_files"),
        (
            {"path": "parquet", "data_files": {"train": "/no/such.parquet"}},
            FileNotFoundError,
            "data_files: no file '/no/such.parquet'",
        ),
        ({"path": "imagefolder", "data_dir": "/no/such"}, FileNotFoundError, "data_dir does not exist"),
        (
            {"path": "nobody/nothing"},
            FileNotFoundError,
            "no such local folder, and the Hugging Face hub cannot be reached.*--data.path parquet",
        ),
        ({"path": "numbers", "name": "large"}, ValueError, "path='numbers' is built in and takes no name"),
        ({"path": "numbers", "streaming": True}, ValueError, "built in and takes no streaming"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_data_that_does_not_exist(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ToyData(**arguments).setup("fit")


def test_a_built_in_set_takes_the_arguments_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def joined(data_dir: str | None = None) -> datasets.DatasetDict:
        return numbers(train=len(data_dir or ""))

    monkeypatch.setattr(ToyData, "built_in", {"joined": joined})
    assert len(ToyData("joined", data_dir="seventh", val_fraction=0.0).split_for("train")) == 7
    with pytest.raises(ValueError, match="path='joined' is built in and takes no data_files; leave these out"):
        ToyData("joined", data_dir="seventh", data_files="x.csv").setup("fit")


def test_a_file_in_place_of_a_path(tmp_path: Path) -> None:
    file = _write(tmp_path, "parquet", train=3)["train"]
    with pytest.raises(ValueError, match=f"got the file .*--data.path parquet --data.data_files.train {file}"):
        ToyData(file).setup("fit")


def test_a_broken_file_and_an_empty_folder(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"broken.parquet.*cannot be read: Parquet file size is 5 bytes"):
        ToyData("parquet", data_files=str(broken)).setup("fit")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="doesn't contain any data files"):
        ToyData(str(tmp_path / "empty")).setup("fit")


@pytest.mark.parametrize(("argument", "role"), [("train_split", "fit"), ("val_split", "fit"), ("test_split", "test")])
def test_a_split_that_does_not_exist_lists_those_that_do(argument: str, role: str) -> None:
    data = ToyData("numbers", **{argument: "trian"})
    with pytest.raises(
        ValueError, match=f"{argument}='trian': the data has no such split; it has: train, validation, test"
    ):
        data.setup(role)


def test_a_slice_of_a_split_that_does_not_exist(tmp_path: Path) -> None:
    data = ToyData("parquet", data_files=_write(tmp_path, "parquet", train=10), train_split="trian[:50%]")
    with pytest.raises(ValueError, match=r"train_split='trian\[:50%\]'.*it has: train"):
        data.setup("fit")


def test_a_missing_test_split_does_not_hinder_training(tmp_path: Path) -> None:
    data = ToyData("csv", data_files=_write(tmp_path, "csv", train=10))
    data.setup("fit")
    with pytest.raises(ValueError, match="test_split='test'"):
        data.setup("test")


def test_a_column_that_does_not_exist_lists_those_that_do(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("valu,other\n1,2\n")
    with pytest.raises(ValueError, match="value_column='value': split 'train' has no such column; it has: valu, other"):
        ToyData("csv", data_files=str(file), val_fraction=0.0).setup("fit")


def test_a_split_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyData, "built_in", {"numbers": lambda: numbers(train=5, test=0)})
    with pytest.raises(ValueError, match="test_split='test': the split has no rows"):
        ToyData("numbers").setup("test")


def test_a_file_with_a_header_alone(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("value\n")
    with pytest.raises(ValueError, match=r"train\.csv'.*: a split has no rows"):
        ToyData("csv", data_files=str(file), val_fraction=0.0).setup("fit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"val_fraction": 1.0}, r"val_fraction must be a share of the training rows in \[0, 1\), got 1.0"),
        ({"on_bad": "ignore"}, "on_bad must be 'error' or 'skip', got 'ignore'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToyData("numbers", **arguments)


def test_hyperparameters_are_plain_and_make_the_module_again() -> None:
    data = ToyData("numbers", batch_size=3)
    assert data.hparams["loading"] == {"persistent_workers": True, "shuffle_buffer": 10_000}
    assert ToyData(**{**data.hparams, "loading": data.loading}).batch_size == 3


def test_predicting_prepares_no_data_set() -> None:
    class Predicting:
        predicting = True

    data = ToyData("nobody/nothing")
    data.trainer = Predicting()  # type: ignore[assignment]
    data.prepare_data()
    data.setup("predict")


def _folder_of(path: str, split: str = "train", **arguments: Any) -> Path:
    return ToyData(path, **arguments).source.folder_of(split)


def test_file_names_are_relative_to_the_table_that_holds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    files = {**_write(tmp_path / "one", "csv", train=3), **_write(tmp_path / "two", "csv", test=3)}
    for split, folder in (("train", "one"), ("train[:50%]+test", "one"), ("test", "two"), ("test[1:]", "two")):
        assert _folder_of("csv", split, data_files=files) == tmp_path / folder
        assert _folder_of(str(tmp_path), split) == tmp_path / folder
    assert _folder_of(str(tmp_path), data_dir="two") == tmp_path / "two"
    assert _folder_of(str(tmp_path), data_files={"train": "two/test.csv"}) == tmp_path / "two"
    assert _folder_of("csv", data_dir=str(tmp_path), data_files=["one/train.csv"]) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert _folder_of("./one") == tmp_path / "one"
    assert _folder_of("csv", data_files="one/train.csv") == Path("one")


def test_columns_are_those_of_the_first_training_split(tmp_path: Path) -> None:
    files = _write(tmp_path, "csv", test=2, train=3, extra=4)
    data = ToyData("csv", data_files=files, train_split="extra[:50%]+train", val_fraction=0.0)
    assert list(data.features) == ["value"]
    assert len(data.split_for("train")) == 5


def test_an_evaluation_reads_its_split_once_before_its_first_step() -> None:
    made: list[tuple[str, bool]] = []

    class Data(ToyData):
        def reader(self, role: Any) -> Any:
            made.append((role, self.trainer.state.status == "running" and bool(net.evaluated)))  # type: ignore[union-attr]
            return super().reader(role)

    net = ToyNetWithValidation()
    trainer = quiet_trainer(max_epochs=1)
    for role, evaluate in (("test", trainer.test), ("validation", trainer.validate)):
        made.clear()
        net.evaluated.clear()
        evaluate(net, datamodule=Data("numbers"), verbose=False)
        assert made == [(role, False)]
        assert net.evaluated


def _source(path: str | Path, data_files: Any = None, **given: Any) -> Source:
    arguments = {"name": None, "data_dir": None, "streaming": False, "built_in": {}, **given}
    return Source(str(path), data_files=data_files, **arguments)


_CELLS = [
    ["text", "label"],
    ["null", "007"],
    ["NA", "010"],
    ["12", "None"],
    ["1.50", ""],
    ["", "nan"],
    ["a, b; c", "7"],
]
_READ = [{"text": text or None, "label": label or None} for text, label in _CELLS[1:]]


def _write_cells(file: Path, delimiter: str, cells: list[list[str]] = _CELLS, encoding: str = "utf-8") -> str:
    opened = {".gz": gzip.open, ".bz2": bz2.open}.get(file.suffix, open)
    with opened(file, "wt", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows(cells)
    return str(file)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "delimiter"),
    [
        ("a.csv", ","),
        ("a.csv", ";"),
        ("a.csv", "\t"),
        ("a.csv", "|"),
        ("a.tsv", "\t"),
        ("a.tsv.gz", "\t"),
        ("a.csv.bz2", ";"),
    ],
)
def test_cells_of_tables_are_as_written(tmp_path: Path, name: str, delimiter: str, streaming: bool) -> None:
    file = _write_cells(tmp_path / name, delimiter)
    assert list(_source("csv", {"train": file}, streaming=streaming).load()["train"]) == _READ
    assert list(_source(tmp_path, streaming=streaming).load()["train"]) == _READ


@pytest.mark.parametrize("module", [ImageDataModule, TextDataModule, AudioDataModule, SpeechDataModule])
def test_the_data_modules_read_cells_as_written(tmp_path: Path, module: Any) -> None:
    file = _write_cells(tmp_path / "train.csv", ",")
    assert list(module("csv", data_files=file).splits["train"]) == _READ


def test_a_column_that_is_empty_for_long_keeps_its_type(tmp_path: Path) -> None:
    cells = [["text", "label"], *[["x", ""]] * 10_001, ["x", "1"]]
    rows = _source("csv", _write_cells(tmp_path / "a.csv", ",", cells)).load()["train"]
    assert rows["label"][-1] == "1"
    assert rows["label"][0] is None


def test_the_delimiter_that_was_found_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = _write_cells(tmp_path / "a.csv", ";")
    with caplog.at_level("INFO"):
        _source("csv", file).load()
    assert f"{file}: columns are separated by ';'" in caplog.text


def test_splits_may_differ_in_delimiter_and_columns(tmp_path: Path) -> None:
    train = _write_cells(tmp_path / "train.csv", ",")
    test = _write_cells(tmp_path / "test.tsv", "\t", [["text"], ["x"]])
    splits = _source("csv", {"train": train, "test": test}).load()
    assert (splits["train"].column_names, splits["test"][:]) == (["text", "label"], {"text": ["x"]})
    with pytest.raises(
        ValueError, match=r"the tables of a split must have the same delimiter and columns, got ',' and"
    ):
        _source("csv", [train, test]).load()


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("name", ["run [1]", "what?", "a*b", "[x"])
def test_a_path_that_exists_is_taken_literally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    folder = tmp_path / name
    (folder / "sub").mkdir(parents=True)
    _write(folder, kind, train=3)
    file = f"train.{kind}"
    monkeypatch.chdir(tmp_path)
    for source in (
        _source(kind, str(folder / file)),
        _source(kind, {"train": [str(folder / f"t*.{kind}")]}),
        _source(kind, f"./{name}/{file}"),
        _source(kind, file, data_dir=str(folder)),
        _source(kind, data_dir=str(folder)),
        _source(folder),
        _source(f"./{name}"),
        _source(tmp_path, data_dir=name),
        _source(tmp_path, f"{name}/{file}"),
        _source(folder, file),
    ):
        assert len(source.load()["train"]) == 3
        assert source.folder_of("train").absolute() == folder
    with pytest.raises(FileNotFoundError, match="no file"):
        _source(kind, str(folder / "no.csv")).load()


@pytest.mark.parametrize("streaming", [False, True])
def test_what_save_to_disk_wrote(tmp_path: Path, streaming: bool) -> None:
    numbers(train=3, test=2).save_to_disk(str(tmp_path / "splits"))
    numbers(train=3)["train"].save_to_disk(str(tmp_path / "rows"))
    splits = _source(tmp_path / "splits", streaming=streaming).load()
    assert [len(list(splits[name])) for name in ("train", "test")] == [3, 2]
    assert len(list(_source(tmp_path, data_dir="rows", streaming=streaming).load()["train"])) == 3


def _remedy(message: str) -> Source:
    """The data that a message advises."""
    words = shlex.split(message[message.index("--data.path") :])
    given = dict(zip(words[::2], words[1::2]))
    return _source(given["--data.path"], {"train": given["--data.data_files.train"]})


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.json", "a.parquet", "a.txt", "of mine.TXT.gz"]
)
def test_the_remedy_for_a_file_in_place_of_a_path_works(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    opened = gzip.open if name.endswith(".gz") else open
    if "parquet" in name:
        numbers(train=1)["train"].to_parquet(file)
    else:
        with opened(file, "wt") as stream:
            stream.write(
                '{"value": "x"}\n' if "json" in name else "value\tother\nx\ty\n" if "tsv" in name else "value\nx\n"
            )
    with pytest.raises(ValueError, match="path must be a hub name, a folder, or a format, got the file") as caught:
        _source(file).load()
    rows = _remedy(str(caught.value)).load()["train"]
    assert len(rows) == (2 if "txt" in name.lower() else 1)
    assert rows.column_names[0] == ("text" if "txt" in name.lower() else "value")


def test_a_file_that_no_format_reads(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a.xlsx'. Give its folder, or save the data as CSV, JSON lines or"):
        _source(tmp_path / "a.xlsx").load()


@pytest.mark.parametrize(("kind", "ending"), [("csv", "csv"), ("json", "json"), ("text", "txt"), ("webdataset", "tar")])
def test_the_remedy_for_a_format_without_files(kind: str, ending: str) -> None:
    with pytest.raises(ValueError, match=rf"a format: give the files .* --data.data_files.train train.{ending}, or"):
        _source(kind).load()
    with pytest.raises(ValueError, match=r"a format: give the folder of the files by --data.data_dir FOLDER"):
        _source("imagefolder").load()


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 3), ("utf-16", 1)])
@pytest.mark.parametrize("kind", ["csv", "json", "text"])
def test_text_in_another_encoding_names_file_and_line(tmp_path: Path, kind: str, encoding: str, line: int) -> None:
    texts = ["value", "tea", "café"]
    lines = [json.dumps({"value": text}, ensure_ascii=False) for text in texts] if kind == "json" else texts
    file = tmp_path / {"csv": "a.csv", "json": "a.jsonl", "text": "a.txt"}[kind]
    file.write_bytes("".join(f"{text}\n" for text in lines).encode(encoding))
    for source in (_source(kind, str(file)), _source(tmp_path)):
        with pytest.raises(ValueError, match=rf"{file}: line {line} is not UTF-8 text \(.*\); save the file as UTF-8"):
            source.load()


@pytest.mark.parametrize("rows", ["a, b,1\nc, d,2\n", "a,1\nc, d,2\n"])
def test_texts_with_the_delimiter_and_without_quotes(tmp_path: Path, rows: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\n" + rows)
    with pytest.raises(ValueError, match=r"put texts that contain .* between quotes"):
        _source("csv", str(file)).load()


def test_the_readme_of_a_folder_says_which_files_are_the_splits(tmp_path: Path) -> None:
    os.rename(_write(tmp_path, "csv", train=3)["train"], tmp_path / "mine.csv")
    configs = "configs:\n- config_name: default\n  data_files:\n  - split: holdout\n    path: mine.csv\n"
    (tmp_path / "README.md").write_text(f"---\n{configs}---\n")
    assert list(_source(tmp_path).load()) == ["holdout"]


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("declared", [False, True])
def test_cells_of_tables_that_a_readme_lists_are_as_written(
    tmp_path: Path, delimiter: str, streaming: bool, declared: bool
) -> None:
    _write_cells(tmp_path / "mine.csv", delimiter)
    types = "  - name: text\n    dtype: string\n  - name: label\n    dtype: large_string\n"
    info = f"dataset_info:\n  features:\n{types}" if declared else ""
    configs = "configs:\n- config_name: default\n  data_files:\n  - split: holdout\n    path: mine.csv\n"
    (tmp_path / "README.md").write_text(f"---\n{info}{configs}---\n")
    rows = _source(tmp_path, streaming=streaming).load()["holdout"]
    assert list(rows) == _READ
    assert rows.features["label"].dtype == ("large_string" if declared else "string")


def test_slices_of_built_in_sets_and_slices_that_are_none() -> None:
    assert len(ToyData("numbers", train_split="train[:50%]+test", val_fraction=0.0).split_for("train")) == 23
    with pytest.raises(ValueError, match=r"train_split must be a slice such as train\[:90%\], got 'train\[:abc\]'"):
        ToyData("numbers", train_split="train[:abc]").setup("fit")
