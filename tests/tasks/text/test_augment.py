"""Token dropout."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from text_files import labelled, text_data, write_rows

from tasks.text.augment import TokenDropout
from tasks.text.collating import TextCollator, TokenRow
from tasks.text.data import TextDataModule
from tasks.text.tokens.tokenizers import BytesSpec, tokenizer_settings

pytestmark = pytest.mark.usefixtures("own_cache")
_BYTES = tokenizer_settings(BytesSpec().build([]))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {
        "train": write_rows(tmp_path / "train.jsonl", labelled(31)),
        "test": write_rows(tmp_path / "test.jsonl", labelled(13, seed=7)),
    }


def _rows(loader: Any, epoch: int = 0) -> dict[int, list[int]]:
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return {
        row: batch["ids"][i][batch["mask"][i]].tolist()
        for batch in loader
        for i, row in enumerate(batch["index"].tolist())
    }


def _is_part_of(part: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(token in rest for token in part)


def test_the_share_is_dropped_and_special_tokens_stay() -> None:
    random = np.random.default_rng(0)
    special = np.arange(5)
    ids = random.permutation(np.concatenate([random.integers(5, 261, 100_000), np.repeat(special, 101)]))
    stays = TokenDropout(_BYTES, 0.3, seed=1)(ids, 17)
    is_special = np.isin(ids, special)
    assert stays[is_special].all()
    assert abs(stays[~is_special].mean() - 0.7) < 0.01


def test_a_text_never_loses_all_its_tokens() -> None:
    dropout = TokenDropout(_BYTES, 0.99, seed=1)
    for seed in range(50):
        stays = dropout(np.array([2, 70, 71, 3]), seed)
        assert stays[[0, 3]].all()
        assert stays[[1, 2]].any()


def test_each_epoch_drops_other_tokens_and_evaluation_none(files: dict[str, str]) -> None:
    plain = text_data(files, val_fraction=0.2)
    data = text_data(files, val_fraction=0.2, token_dropout=0.4)
    for module in (plain, data):
        module.setup("fit")
        module.setup("test")
    whole, first, again, second = (
        _rows(module.train_dataloader(), epoch) for module, epoch in ((plain, 0), (data, 0), (data, 0), (data, 1))
    )
    assert first == again != second
    assert all(_is_part_of(first[row], whole[row]) for row in whole)
    share = 1 - sum(map(len, first.values())) / sum(map(len, whole.values()))
    assert 0.2 < share < 0.5
    assert _rows(data.val_dataloader()) == _rows(plain.val_dataloader())
    assert _rows(data.test_dataloader()) == _rows(plain.test_dataloader())


def test_batch_mates_and_workers_change_nothing(files: dict[str, str]) -> None:
    found = []
    several = {"batch_size": 7, "group_by_length": False}
    for options in ({"batch_size": 3}, several, {"batch_size": 3, "num_workers": 2}):
        data = text_data(files, val_fraction=0.0, token_dropout=0.4, **options)
        data.setup("fit")
        found.append(_rows(data.train_dataloader()))
    assert all(found[0][row] == found[1][row] for row in found[0].keys() & found[1].keys())
    assert found[0] == found[2]


def test_token_types_are_dropped_with_their_tokens() -> None:
    ids, types = np.arange(100, 160), np.repeat([0, 1], 30)
    collate = TextCollator(0, dropout=TokenDropout(_BYTES, 0.5, seed=3))
    batch = collate([TokenRow(ids, types, None, ())], np.array([5]), 0)
    assert 10 < batch["ids"].shape[1] < 50
    assert torch.equal(batch["types"], (batch["ids"] >= 130).long())


def test_token_dropout_needs_labels() -> None:
    with pytest.raises(ValueError, match=r"token_dropout must be 0 without a label_column, got 0.1; .* \(mask_prob"):
        TextDataModule("csv", label_column=None, token_dropout=0.1)
