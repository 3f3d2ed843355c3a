"""MaskedLanguageModel: loss and metrics of masked tokens, and filled texts."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from text_files import text_data, texts, write_rows

from softformer.training.encoders.sequence import SoftEncoderSpec
from tasks.text import MaskedLanguageModel


def model() -> MaskedLanguageModel:
    torch.manual_seed(0)
    return MaskedLanguageModel(SoftEncoderSpec(6, 1, 3, num_landmarks=5), vocab_size=261)


def masked_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(11) < torch.randint(3, 12, (7, 1), generator=generator)
    ids = torch.randint(5, 261, (7, 11), generator=generator).masked_fill(~mask, 0)
    masked = (torch.rand(7, 11, generator=generator) < 0.3) & mask
    target = torch.where(masked, ids, -100)
    return {"ids": ids.masked_fill(masked, 4), "mask": mask, "target": target}


def test_loss_and_metrics_are_those_of_masked_tokens() -> None:
    task, batch = model(), masked_batch()
    logits = task(batch["ids"], batch["mask"])
    expected = F.cross_entropy(logits.transpose(1, 2), batch["target"])
    torch.testing.assert_close(task.step(batch, "val"), expected)
    masked = batch["target"] != -100
    accuracy = (logits.argmax(-1) == batch["target"])[masked].float().mean()
    found = task.val_metrics.compute()
    torch.testing.assert_close(found["val/accuracy"], accuracy)
    torch.testing.assert_close(found["val/perplexity"], expected.exp(), rtol=1e-4, atol=0.0)


def test_a_batch_without_masked_tokens_trains_nothing() -> None:
    task, batch = model(), masked_batch()
    loss = task.step(batch | {"target": torch.full_like(batch["target"], -100)}, "train")
    assert loss == 0
    loss.backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in task.parameters())


def test_the_output_layer_is_the_embedding() -> None:
    task = model()
    names = [name for name, value in task.network.named_parameters() if value.shape == (261, 6)]
    assert names == ["backbone.embedding.weight"]
    before = task(masked_batch()["ids"])
    with torch.no_grad():
        task.network.backbone.token_weight[7] += 1
    changed = (task(masked_batch()["ids"]) != before).flatten(0, 1).any(0)
    assert changed[7]


def test_labels_instead_of_masked_tokens() -> None:
    batch = masked_batch()
    batch["label"] = torch.zeros(7, dtype=torch.long)
    del batch["target"]
    with pytest.raises(ValueError, match=r"set --data\.label_column null"):
        model().on_before_batch_transfer(batch, 0)


def test_it_learns_to_fill_masks(tmp_path: Path) -> None:
    rows = [{"text": "abcabcabc"}] * 3 + [{"text": text} for text in texts(5)]
    data = text_data({"train": write_rows(tmp_path / "train.jsonl", rows)}, label_column=None, val_fraction=0.0)
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="MaskedLanguageModel must have a processor to prepare raw inputs, got None"):
        model().predict("ab[MASK]")
    task = MaskedLanguageModel(SoftEncoderSpec(32, 1, 4, num_landmarks=16), processor=data.processor)
    ids = torch.tensor([data.tokenizer("abcabcabc")["input_ids"]])
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    for place in range(1, 400):
        target = torch.full_like(ids, -100)
        target[0, 1 + place % 9] = ids[0, 1 + place % 9]
        loss = task.step(
            {"ids": ids.masked_fill(target != -100, 4), "mask": torch.ones_like(ids).bool(), "target": target}, "train"
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    several = task.predict(["ab[MASK]abcabc", "abc", "abcabca[MASK]c"])
    assert [row["filled"] for row in several] == ["abcabcabc", "abc", "abcabcabc"]
    assert [json.loads(row["tokens"]) for row in several] == [["c"], [], ["b"]]
    assert [len(json.loads(row["probabilities"])) for row in several] == [1, 0, 1]
    assert all(0 <= value <= 1 for row in several for value in json.loads(row["probabilities"]))
    alone = task.predict(("ab[MASK]abcabc", "abc"))
    assert [row["filled"] for row in alone] == ["abcabcabc", "abc"]
