"""Masked tokens of masked language modelling."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from text_files import labelled, text_data, write_rows
from toy_rows import quiet_trainer

from tasks.text.collating import TextCollator, TokenMasking, TokenRow, padded
from tasks.text.data import TextDataModule
from tasks.text.tokens.tokenizers import BytesSpec, tokenizer_settings

pytestmark = pytest.mark.usefixtures("own_cache")

_BYTES = tokenizer_settings(BytesSpec().build([]))


@pytest.fixture
def data(tmp_path: Path) -> Any:
    files = {
        "train": write_rows(tmp_path / "train.jsonl", labelled(31)),
        "test": write_rows(tmp_path / "test.jsonl", labelled(13, seed=7)),
    }

    def make(**options: Any) -> TextDataModule:
        return text_data(files, **{"label_column": None, "val_fraction": 0.0, **options})

    return make


def _masked(loader: Any, epoch: int = 0) -> dict[int, tuple[list[int], list[int]]]:
    """Tokens and targets of each row."""
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return {
        row: (batch["ids"][i][batch["mask"][i]].tolist(), batch["target"][i][batch["mask"][i]].tolist())
        for batch in loader
        for i, row in enumerate(batch["index"].tolist())
    }


def test_one_token_in_seven_is_a_target_as_in_bert() -> None:
    random = np.random.default_rng(0)
    special = np.array([0, 1, 2, 3, 4])
    ids = np.concatenate([random.integers(5, 261, 200_000), np.repeat(special, 101)])
    masked, target = TokenMasking(_BYTES, 0.15, seed=1)(ids, 17)
    targets = target != -100
    assert (target[targets] == ids[targets]).all()
    assert (masked[~targets] == ids[~targets]).all()
    assert not targets[np.isin(ids, special)].any()
    assert targets[:200_000].mean() == pytest.approx(0.15, abs=0.004)
    assert (masked[targets] == 4).mean() == pytest.approx(0.8 + 0.1 / 261, abs=0.01)
    assert (masked[targets] == ids[targets]).mean() == pytest.approx(0.1 + 0.1 / 261, abs=0.01)
    others = masked[targets & (masked != 4) & (masked != ids)]
    assert len(np.unique(others)) > 250
    more = TokenMasking(_BYTES, 0.4, seed=1)(ids, 17)[1] != -100
    assert more[:200_000].mean() == pytest.approx(0.4, abs=0.005)


def test_a_batch_contains_the_targets_of_its_masks(data: Any) -> None:
    loader = data(mask_probability=0.3).test_dataloader()
    for batch in loader:
        assert set(batch) == {"ids", "mask", "target", "index"}
        assert batch["target"].dtype == torch.int64
        assert (batch["target"][~batch["mask"]] == -100).all()
        assert (batch["ids"][~batch["mask"]] == 0).all()
    for number, (ids, target) in _masked(loader).items():
        original = [2, *(5 + byte for byte in labelled(13, seed=7)[number]["text"].encode()), 3]
        for token, wanted, true in zip(ids, target, original, strict=True):
            assert (wanted, token) == (-100, true) or wanted == true


def test_masks_follow_from_seed_epoch_and_row_alone(data: Any) -> None:
    before = torch.get_rng_state()
    assert (data().examples_for("train")[[3, 5, 7]]["target"] != -100).any()
    assert torch.equal(torch.get_rng_state(), before)
    first = _masked(data(seed=1).train_dataloader())
    torch.manual_seed(1)
    for options in ({"batch_size": 3}, {"num_workers": 2}, {"group_by_length": False}, {"max_tokens": 400}):
        again = _masked(data(seed=1, **options).train_dataloader())
        common = first.keys() & again.keys()
        assert len(common) >= 20
        assert all(first[row] == again[row] for row in common)
    other_epoch, other_seed = _masked(data(seed=1).train_dataloader(), 1), _masked(data(seed=2).train_dataloader())
    for other in (other_epoch, other_seed):
        common = first.keys() & other.keys()
        assert sum(first[row] != other[row] for row in common) > 0.8 * len(common)


def test_all_runs_are_evaluated_on_the_same_masks(data: Any) -> None:
    first = _masked(data(seed=1).test_dataloader())
    assert len(first) == 13
    for options in ({"seed": 2}, {"batch_size": 3}, {"group_by_length": False, "num_workers": 2}):
        assert _masked(data(**options).test_dataloader()) == first
    loader = data(seed=1).test_dataloader()
    assert _masked(loader) == _masked(loader) == first
    trained = _masked(data(test_split="train", seed=0).test_dataloader())
    targets = _masked(data(seed=0).train_dataloader())
    assert all(trained[row] != targets[row] for row in targets if len(targets[row][0]) > 40)


class _Keeping(LightningModule):
    """Writes down what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)
        self.seen: list[list[list[int]]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append([batch["index"].tolist(), batch["ids"].flatten().tolist(), batch["target"].flatten().tolist()])
        return self.linear(batch["ids"].float().mean(1, keepdim=True)).pow(2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-9)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_goes_on_with_the_same_batches_and_masks(data: Any, tmp_path: Path, workers: int) -> None:
    def run(checkpoint: str | None = None, **options: Any) -> list[Any]:
        net = _Keeping()
        trainer = quiet_trainer(max_epochs=3, **options)
        trainer.fit(net, data(max_tokens=600, num_workers=workers), ckpt_path=checkpoint, weights_only=True)
        return net.seen

    whole = run(callbacks=[ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)])
    files = {torch.load(file, weights_only=True)["global_step"]: str(file) for file in tmp_path.glob("*.ckpt")}
    assert len(files) >= 4
    for step, file in files.items():
        assert run(file) == whole[step:]


def test_padding() -> None:
    filled, mask = padded([np.array([7, 8, 9]), np.array([], dtype=np.int32), np.array([1])], -3)
    assert filled.tolist() == [[7, 8, 9], [-3, -3, -3], [1, -3, -3]]
    assert mask.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert filled.dtype == torch.int64


def test_a_batch_of_pairs_with_their_texts() -> None:
    rows = [
        TokenRow(np.array([2, 5, 3, 7, 3]), np.array([0, 0, 0, 1, 1]), None, ("a", "b")),
        TokenRow(np.array([2, 3]), np.array([0, 1]), None, ("c", "d")),
    ]
    batch = TextCollator(11)(rows, np.array([5, 3]), 0)
    assert batch["types"].tolist() == [[0, 0, 0, 1, 1], [0, 1, 0, 0, 0]]
    assert batch["ids"].tolist() == [[2, 5, 3, 7, 3], [2, 3, 11, 11, 11]]
    assert (batch["text"], batch["text_pair"], batch["index"].tolist()) == (["a", "c"], ["b", "d"], [5, 3])
