"""An evaluation takes tokenizer, length and classes from the task that was trained, whatever data it is given."""

import csv
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from command_line import softformer
from keeping import Keeping
from lightning.pytorch import LightningModule
from text_files import NAMES, WORDS, labelled, text_data, write_rows
from toy_rows import quiet_trainer

from tasks.text.data import TextDataModule
from tasks.text.processor import TextProcessor
from tasks.text.tokens.tokenizers import BpeSpec, BytesSpec, CharactersSpec, tokenizer_from, tokenizer_settings

pytestmark = pytest.mark.usefixtures("own_cache")

_BPE = tokenizer_settings(BpeSpec(263, lowercase=True).build([" ".join(WORDS)] * 3))
_TRAINED = TextProcessor(_BPE, max_length=11, pairs=False, class_names=["cat", "owl", "ant", "bee"])


def _tested(data: TextDataModule) -> dict[int, dict[str, Any]]:
    task = Keeping()
    quiet_trainer().test(task, data, verbose=False)
    return {
        row: {
            "ids": batch["ids"][i][batch["mask"][i]].tolist(),
            **{name: batch[name][i].tolist() for name in ("label", "target") if name in batch},
        }
        for batch in task.batches
        for i, row in enumerate(batch["index"].tolist())
    }


@pytest.fixture
def file(tmp_path: Path) -> dict[str, str]:
    return {"test": write_rows(tmp_path / "test.jsonl", labelled(13))}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("spec", [BytesSpec(), CharactersSpec(), BpeSpec(8192)], ids=repr)
def test_tokenizer_length_and_classes_are_those_of_the_task(file: dict[str, str], streaming: bool, spec: Any) -> None:
    data = text_data(
        file, tokenizer=spec, streaming=streaming, processor=_TRAINED
    )  # there is no training split to learn from
    rows = _tested(data)
    tokenizer = tokenizer_from(_BPE)
    assert sorted(rows) == list(range(13))
    for number, row in enumerate(labelled(13)):
        assert rows[number]["ids"] == tokenizer(row["text"], truncation=True, max_length=11)["input_ids"]
        assert rows[number]["label"] == _TRAINED.class_names.index(row["label"])
    assert (data.num_classes, data.class_names) == (4, _TRAINED.class_names)
    assert data.vocab_size == len(tokenizer)
    assert data.processor == _TRAINED


def test_a_given_length_wins(file: dict[str, str]) -> None:
    rows = _tested(text_data(file, max_length=29, processor=_TRAINED))
    assert max(len(row["ids"]) for row in rows.values()) == 29


def test_masks_are_made_by_the_tokenizer_of_the_task(file: dict[str, str]) -> None:
    rows = _tested(text_data(file, label_column=None, processor=_TRAINED.replace(class_names=None)))
    tokenizer = tokenizer_from(_BPE)
    for number, row in enumerate(labelled(13)):
        expected = tokenizer(row["text"], truncation=True, max_length=11)["input_ids"]
        ids, target = rows[number]["ids"], rows[number]["target"]
        assert [true if true != -100 else token for token, true in zip(ids, target)] == expected


def test_data_of_different_tasks(tmp_path: Path) -> None:
    rows = labelled(13)
    files = {"train": write_rows(tmp_path / "train.jsonl", rows), "test": write_rows(tmp_path / "test.jsonl", rows)}

    def tested(processor: TextProcessor | None) -> dict[int, dict[str, Any]]:
        return _tested(text_data(files, tokenizer=CharactersSpec(), processor=processor))

    own, other = tested(None), tested(_TRAINED)
    assert tested(text_data(files, tokenizer=CharactersSpec()).processor) == own
    assert all(other[row]["ids"] != own[row]["ids"] for row in own)
    assert [other[row]["label"] for row in range(3)] == [2, 3, 0]
    assert tested(_TRAINED.replace(max_length=7))[3]["ids"] != other[3]["ids"]


def test_unknown_classes_are_an_error(tmp_path: Path) -> None:
    rows = [{"text": "a cat", "label": "ant"}, {"text": "a yak", "label": "yak"}]
    file = {"test": write_rows(tmp_path / "test.jsonl", rows)}
    with pytest.raises(ValueError, match=r"row 1: label 'yak' in column 'label' is not one of the 4 classes"):
        _tested(text_data(file, processor=_TRAINED))


def _predicted(file: Path) -> list[tuple[str, str]]:
    with file.open() as table:
        return [(row["text"], row["probability_1"]) for row in csv.DictReader(table)]


def test_on_the_command_line_a_checkpoint_needs_nothing_else(tmp_path: Path) -> None:
    files = {"train": write_rows(tmp_path / "train.jsonl", labelled(31)), "test": str(tmp_path / "train.jsonl")}
    soft = {"inverse": {"class_path": "Cholesky"}}
    encoder = {"class_path": "SoftEncoderSpec", "init_args": {"dim": 6, "depth": 1, "num_heads": 2, "soft": soft}}
    data = {"path": "json", "data_files": files, "max_length": 17, "tokenizer": {"class_path": "BpeSpec"}}
    recipe = {
        "model": {"class_path": "TextClassifier", "init_args": {"encoder": encoder}},
        "data": {"class_path": "TextDataModule", "init_args": data},
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, "num_sanity_val_steps": 0},
    }
    (tmp_path / "texts.yaml").write_text(yaml.safe_dump(recipe))
    outcome = softformer(tmp_path, "fit", "--config", "texts.yaml", "--data.tokenizer.vocab_size", "267")
    assert outcome.code == 0, outcome.err
    checkpoint = ["--ckpt_path", str(tmp_path / "runs/texts/checkpoints/best.ckpt"), "--trainer.accelerator", "cpu"]
    texts = [row["text"] for row in labelled(13, seed=7)]
    (tmp_path / "new.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "new.csv").write_text("words\n" + "".join(f"{text}\n" for text in texts))
    table = ["--data.texts", "new.csv", "--data.text_column", "words"]
    found = []
    for number, args in enumerate((["--data.texts", "new.txt"], [*table, "--data.tokenizer", "BytesSpec"])):
        outcome = softformer(tmp_path, "predict", *checkpoint, *args, "--output", f"{number}.csv")
        assert outcome.code == 0, outcome.err
        found.append(_predicted(tmp_path / f"{number}.csv"))
    assert found[0] == found[1]
    assert [text for text, _ in found[0]] == texts
    outcome = softformer(tmp_path, "predict", *checkpoint, "--data.texts", "new.txt", "--data.max_length", "5")
    assert outcome.code == 0, outcome.err
    assert _predicted(tmp_path / "predictions.csv") != found[0]
    outcome = softformer(tmp_path, "test", *checkpoint)
    assert outcome.code == 0, outcome.err
    outcome = softformer(tmp_path, "predict", *checkpoint, "--data.texts", "none.txt")
    assert outcome.code == 2
    assert "texts must be a folder, a file, or a pattern of text files" in outcome.err


class WritingNet(LightningModule):
    """Trains on next to nothing and writes down what each process was given."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)
        self.folder = folder
        self.trained: list[list[int]] = []
        self.sizes: list[int] = []
        self.validated: list[int] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.trained.append(batch["index"].tolist())
        self.sizes.append(batch["ids"].numel())
        return self.linear(batch["ids"].float().mean(1, keepdim=True)).pow(2).mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated += batch["index"].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-9)

    def on_fit_end(self) -> None:
        settings = self.trainer.datamodule.processor.to_dict()  # type: ignore[attr-defined]
        content = {"trained": self.trained, "sizes": self.sizes, "validated": self.validated, "settings": settings}
        torch.save(content, self.folder / f"{self.global_rank}.pt")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_trained_on(tmp_path: Path, workers: int) -> None:
    file = write_rows(tmp_path / "train.jsonl", labelled(31))
    options = {"class_names": NAMES, "tokenizer": CharactersSpec(), "val_fraction": 0.0, "num_workers": workers}
    data = text_data(file, streaming=True, **options)
    quiet_trainer(max_steps=9).fit(WritingNet(tmp_path), data)
    content = torch.load(tmp_path / "0.pt", weights_only=True)
    assert [len(rows) for rows in content["trained"]] == [5] * 9
    assert content["settings"] == text_data(file, **options).processor.to_dict()


def test_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One learns the tokenizer and makes the tokens; both train on equal batches of similar length."""
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(cache))  # for the processes, which begin anew
    file = write_rows(tmp_path / "train.jsonl", labelled(67))
    data = text_data(file, tokenizer=BpeSpec(267), max_tokens=100, val_fraction=0.2)
    trainer = quiet_trainer(devices=2, strategy="ddp_spawn", max_epochs=1)
    trainer.fit(WritingNet(tmp_path), data)
    first, second = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert first["settings"] == second["settings"]
    assert [len(rows) for rows in first["trained"]] == [len(rows) for rows in second["trained"]]
    trained = [row for process in (first, second) for rows in process["trained"] for row in rows]
    assert len(trained) == len(set(trained)) >= 50
    assert max(first["sizes"] + second["sizes"]) <= 100
    validated = first["validated"] + second["validated"]
    assert len(set(validated)) == len(validated) == 13
    assert not set(trained) & set(validated)
    assert len(list((cache / "softformer").glob("tokenizer-*.json"))) == 1
    assert len(list(cache.rglob("cache-*.arrow"))) == 2  # tokens of the two parts
