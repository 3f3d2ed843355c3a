"""SpeechRecognizer: loss, error rates, recordings that are left out, and errors."""

import math
from typing import Any

import pytest
import torch
from speech_tasks import (
    LENGTHS,
    OTHERS,
    PROCESSOR,
    RATE,
    TEXTS,
    OneBatch,
    bare,
    batch,
    noise,
    processor,
    recognizer,
)
from torch.utils.data import DataLoader
from torchmetrics.functional.text import char_error_rate, word_error_rate
from toy_rows import quiet_trainer

from softformer.models.audio.augment import AudioAugment
from tasks.audio.processor import AudioProcessor
from tasks.audio.speech.ctc import ctc_loss, likeliest_units


def test_loss_and_error_rates() -> None:
    task, data = recognizer(), batch()
    log_probs, num_tokens = task(data["wave"], data["length"])
    assert num_tokens.tolist() == [13, 9, 11, 6, 8]
    expected = ctc_loss(log_probs, num_tokens, data["units"], data["num_units"])
    torch.testing.assert_close(task.step(data, "val"), expected)
    hypotheses = [PROCESSOR.units.decode(ids) for ids in likeliest_units(log_probs, num_tokens)]
    found = task.val_metrics.compute()
    torch.testing.assert_close(found["val/wer"], word_error_rate(hypotheses, TEXTS))
    torch.testing.assert_close(found["val/cer"], char_error_rate(hypotheses, TEXTS))
    assert (task.monitor, task.monitor_mode) == ("val/wer", "min")


def test_the_error_rate_that_chooses_the_best_checkpoint() -> None:
    assert recognizer(best_by="cer").monitor == "val/cer"
    with pytest.raises(ValueError, match=r"best_by must be .*wer.*cer.*, got 'loss'"):
        recognizer(best_by="loss")


def test_training_counts_the_first_recordings_of_a_batch() -> None:
    task, data = recognizer(), batch()
    for stage, counted in (("train", 4), ("test", 5)):
        task.step(data, stage)  # type: ignore[arg-type]
        metric = getattr(task, f"{stage}_metrics")["cer"]
        assert metric.total == sum(map(len, TEXTS[:counted]))


def test_word_and_character_errors_are_counted_separately() -> None:
    task = recognizer()
    task.val_metrics.update(["a"], ["b"])  # one of one, either way
    task.val_metrics.update(["ab cd"], ["ab cc"])
    found = task.val_metrics.compute()
    assert found["val/wer"].item() == pytest.approx(2 / 3)
    assert found["val/cer"].item() == pytest.approx(2 / 6)


def test_padding_and_batch_mates_change_nothing() -> None:
    task, data = recognizer().eval(), batch()
    behind = torch.arange(data["wave"].shape[1]) >= data["length"][:, None]
    poisoned = {**data, "wave": data["wave"].masked_fill(behind, torch.nan)}
    torch.testing.assert_close(task.step(poisoned, "val"), task.step(data, "val"))
    together, num_tokens = task(data["wave"], data["length"])
    for row, samples in enumerate(LENGTHS):
        alone, count = task(data["wave"][row : row + 1, :samples], data["length"][row : row + 1])
        assert count == num_tokens[row]
        torch.testing.assert_close(alone[0], together[row, : int(count)], rtol=1e-4, atol=1e-5)


def test_everything_trains() -> None:
    task = recognizer(augment=AudioAugment((0.9, 1.1), 3.0, 1, 0.1, 1, 3)).train()
    task.step(batch(), "train").backward()
    assert all(parameter.grad is not None for parameter in task.network.parameters())
    assert any(parameter.grad.any() for parameter in task.network.backbone.parameters())  # type: ignore[union-attr]


def test_recordings_that_are_too_short_are_named_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["ab c", "ab c dad", "a", "dddd", "bad"]  # 8 units and 9 tokens; 7 tokens needed and 6 there
    task, data = recognizer(), batch(texts)
    task.eval()
    loss = task.step(data, "train")
    whole = task.step(data, "train")
    assert torch.equal(loss, whole)
    rest = [0, 1, 2, 4]
    others = {
        name: [value[i] for i in rest] if isinstance(value, list) else value[rest] for name, value in data.items()
    }
    torch.testing.assert_close(loss, task.step(others, "train"))
    task.step(data, "val")
    assert task.rows_of_loss(data) == 4
    messages = [record.message for record in caplog.records if "too short for the transcript" in record.message]
    assert messages == [
        f"{stage}: too short for the transcript, left out of the loss: row 20" for stage in ("train", "val")
    ]
    with caplog.at_level("INFO", logger="lightning"):
        task.teardown("fit")
    assert "Too short for their transcripts and left out of the loss: 1 of train" in caplog.text
    assert "left out of the loss: 1 of val" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", logger="lightning"):
        task.teardown("fit")
    assert not caplog.text


def test_files_that_are_too_short_are_named(caplog: pytest.LogCaptureFixture) -> None:
    task = recognizer()
    task.step({**batch(["ab c", "dddd", "dddd"], [4201, 1999, 1999]), "file": ["a.wav", "b.wav", ""]}, "train")
    assert "left out of the loss: rows 18 (b.wav), 19\n" in caplog.text


def test_the_loss_of_an_epoch_is_a_mean_over_recordings_that_were_not_left_out() -> None:
    rows = [batch(["ab c", "ab c dad", "a"], [4201, 3001, 3511]), batch(["dddd"] * 3, [1999] * 3)]
    rows.append(batch(["bad", "dddd", "dddd"], [2503, 1999, 1999]))
    task = recognizer()
    data = OneBatch(PROCESSOR)
    data.val_dataloader = lambda: DataLoader(rows, batch_size=None)  # type: ignore[assignment, arg-type, method-assign]
    trainer = quiet_trainer(logger=False)
    (found,) = trainer.validate(task, data, verbose=False)
    losses = [float(recognizer().eval().step(each, "val")) for each in (rows[0], rows[2])]
    assert found["val/loss"] == pytest.approx((3 * losses[0] + losses[1]) / 4, rel=1e-5)


def test_a_training_of_recordings_that_are_all_too_short(caplog: pytest.LogCaptureFixture) -> None:
    short = batch(["dddd"] * 3, [1999] * 3)
    with (
        caplog.at_level("INFO", logger="lightning"),
        pytest.raises(ValueError, match=r"as many tokens as .* in every recording .* lasts 40 ms\); check .*BpeUnits"),
    ):
        quiet_trainer(max_epochs=2, limit_val_batches=0).fit(recognizer(), OneBatch(PROCESSOR, short))
    assert "Too short for their transcripts and left out of the loss: 3 of train" in caplog.text
    # An evaluation then has error rates, but no loss.
    (found,) = quiet_trainer().validate(recognizer(), OneBatch(PROCESSOR, short), verbose=False)
    assert math.isnan(found["val/loss"])
    assert found["val/wer"] > 0


def test_at_most_ten_are_named(caplog: pytest.LogCaptureFixture) -> None:
    task, data = recognizer(), batch(["dddd"] * 13, [1999] * 13)
    loss = task.step(data, "train")
    assert loss == 0
    loss.backward()
    assert not any(parameter.grad is None or parameter.grad.any() for parameter in task.network.parameters())
    assert caplog.text.count("rows 17, 18, 19, 20, 21, 22, 23, 24, 25, 26\n") == 1
    with caplog.at_level("INFO", logger="lightning"):
        task.teardown("fit")
    assert "left out of the loss: 13 of train" in caplog.text


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-true"])
def test_precisions(precision: Any) -> None:
    trainer, task = quiet_trainer(max_epochs=2, precision=precision), recognizer()
    if precision == "bf16-mixed":
        trainer.fit(task, OneBatch(PROCESSOR))
        assert all(parameter.isfinite().all() for parameter in task.parameters())
        assert trainer.callback_metrics["val/loss"].isfinite()
        return
    with pytest.raises(
        ValueError, match=r"samples must be float32, got torch\.b?float16, .* use --trainer.precision bf"
    ):
        trainer.fit(task, OneBatch(PROCESSOR))


def test_only_the_head_trains() -> None:
    task = recognizer(freeze_backbone=True)
    trains = {name for name, parameter in task.network.named_parameters() if parameter.requires_grad}
    assert trains == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_units": None}, r"num_units must be given and at least 2, the blank .*, got None; .* SpeechDataModule"),
        ({"num_units": 1}, "num_units must be given and at least 2, the blank included, got 1"),
        ({"sample_rate": None}, "sample_rate must be given"),
        ({"subsampling": 3}, "subsampling must be 1, 2, 4 or 8, got 3"),
        (
            {"processor": PROCESSOR, "num_units": 7},
            r"num_units must be the same for network and data, got 7 and 6; leave num_units out, or use the units",
        ),
        (
            {"processor": PROCESSOR, "sample_rate": 16_000},
            r"sample_rate must be the same for network and data, got 16000 Hz and 8000 Hz; build the data with",
        ),
        (
            {"processor": AudioProcessor(RATE, class_names=["a", "b"])},
            "the data must have transcripts, got none; train a SpeechRecognizer on a SpeechDataModule",
        ),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        (recognizer if "processor" in options else bare)(**options)


def test_batches_are_checked() -> None:
    task, data = recognizer(), batch()
    assert task.on_before_batch_transfer(data, 0) is data
    with pytest.raises(ValueError, match=r"transcripts must have units 1 to 5, .* got 1 to 6; use the units that"):
        task.on_before_batch_transfer({**data, "units": data["units"].masked_fill(data["units"] == 5, 6)}, 0)
    with pytest.raises(ValueError, match=r"transcripts must have units 1 to 5, .* got 0 to 5"):
        task.on_before_batch_transfer({**data, "num_units": data["num_units"].index_fill(0, torch.tensor([2]), 3)}, 0)
    with pytest.raises(ValueError, match="transcripts must have at least one unit, got an empty one; leave"):
        task.on_before_batch_transfer({**data, "num_units": data["num_units"] * 0}, 0)
    with pytest.raises(ValueError, match=r"row 18 must last at least one window of the features, 25.0 ms, got 12.5 ms"):
        task.on_before_batch_transfer({**data, "length": data["length"].index_fill(0, torch.tensor([1]), 100)}, 0)
    del data["units"]
    with pytest.raises(ValueError, match=r"a batch must have transcripts \(units\), got none; use a SpeechDataModule"):
        task.on_before_batch_transfer(data, 0)
    files = {**data, "file": ["a"] * 5}
    assert task.on_before_batch_transfer(files, 0) is files


def test_a_task_without_a_processor() -> None:
    message = r"SpeechRecognizer must have a processor .*, got None; load the task with softformer.load.*data.processor"
    with pytest.raises(ValueError, match=message):
        bare().predict(noise(3001))
    with pytest.raises(ValueError, match=message):
        bare().align(noise(3001), "a")


REFUSED = [
    (AudioProcessor(RATE, class_names=["a"]), r"must have transcripts, got none; train .* on a SpeechDataModule"),
    (
        PROCESSOR.replace(sample_rate=16_000),
        r"sample_rate must be the same .*, got 8000 Hz and 16000 Hz; build .* --data",
    ),
    (processor(texts=["ab c"]), r"num_units must be the same .*, got 6 and 5; .* --data.units FileUnits"),
    (OTHERS, r"OneBatch must prepare .*: unit 5 is 'e' in the data and 'd' in the task; .* processor=task.processor"),
]


@pytest.mark.parametrize("function", ["fit", "validate", "test"])
@pytest.mark.parametrize(("other", "message"), REFUSED)
def test_data_with_another_processor(function: str, other: AudioProcessor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(quiet_trainer(max_epochs=1), function)(recognizer(), OneBatch(other))


@pytest.mark.parametrize("function", ["fit", "validate", "test"])
@pytest.mark.parametrize(("other", "message"), REFUSED[:3])
def test_a_task_without_a_processor_does_not_take_one_that_does_not_fit(
    function: str, other: AudioProcessor, message: str
) -> None:
    task = bare()
    with pytest.raises(ValueError, match=message):
        getattr(quiet_trainer(max_epochs=1), function)(task, OneBatch(other))
    assert task.processor is None


@pytest.mark.parametrize("function", ["fit", "validate", "test"])
def test_a_task_without_a_processor_takes_that_of_the_data(function: str) -> None:
    task = bare()
    options = {} if function == "fit" else {"verbose": False}
    getattr(quiet_trainer(max_epochs=1), function)(task, OneBatch(PROCESSOR), **options)
    assert task.processor == PROCESSOR
    assert len(task.predict(noise(3001))) == 1
