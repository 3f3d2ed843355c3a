"""CTC: the loss against a sum over all paths, recordings that are too short, and greedy decoding."""

from itertools import groupby, product

import pytest
import torch
from torch import Tensor

from tasks.audio.speech.ctc import ctc_loss, likeliest_units, long_enough, tokens_needed

V = 3
# Units of five transcripts, and tokens of their recordings; the third has equal neighbours.
TRANSCRIPTS = [[1], [2, 1, 2], [1, 1, 2], [2, 2], [1, 2]]
TOKENS = [7, 5, 6, 3, 2]


def padded(transcripts: list[list[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(ids) for ids in transcripts])
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in transcripts], batch_first=True), lengths


def collapsed(path: tuple[int, ...] | list[int]) -> list[int]:
    return [unit for unit, _ in groupby(path) if unit != 0]


def literal_loss(log_probs: Tensor) -> Tensor:
    """The mean of -log p / units, where p is the sum over every path that writes the transcript."""
    losses = []
    for logs, count, ids in zip(log_probs, TOKENS, TRANSCRIPTS):
        paths = torch.tensor([path for path in product(range(V), repeat=count) if collapsed(path) == ids])
        losses.append(-logs[torch.arange(count), paths].sum(1).logsumexp(0) / len(ids))
    return torch.stack(losses).mean()


def test_the_loss_is_a_sum_over_paths() -> None:
    logits = torch.randn(5, 7, V, dtype=torch.float64, requires_grad=True)
    expected = literal_loss(logits.log_softmax(-1))
    (law,) = torch.autograd.grad(expected, logits)
    loss = ctc_loss(logits.log_softmax(-1), torch.tensor(TOKENS), *padded(TRANSCRIPTS))
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, law)


def test_padding_changes_nothing() -> None:
    logs = torch.randn(5, 7, V, dtype=torch.float64).log_softmax(-1)
    units, num_units = padded(TRANSCRIPTS)
    expected = ctc_loss(logs, torch.tensor(TOKENS), units, num_units)
    behind = torch.arange(7) >= torch.tensor(TOKENS)[:, None]
    poisoned = torch.cat([logs.masked_fill(behind[..., None], torch.nan), torch.full((5, 2, V), torch.nan)], 1)
    poisoned.requires_grad_()
    more = torch.cat([units, torch.ones(5, 3, dtype=torch.int64)], 1)
    loss = ctc_loss(poisoned, torch.tensor(TOKENS), more, num_units)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, poisoned)
    assert not gradient[:, :7][behind].any()
    assert not gradient[:, 7:].any()


def test_tokens_that_transcripts_need() -> None:
    units, num_units = padded([[1], [2, 1, 2], [1, 1, 2, 2, 2], [3, 3]])
    assert tokens_needed(units, num_units).tolist() == [1, 3, 8, 3]
    # Equal neighbours behind a transcript are padding, and an empty one still needs a token.
    assert tokens_needed(torch.tensor([[4, 5, 5, 5], [0, 0, 0, 0]]), torch.tensor([2, 0])).tolist() == [2, 1]
    assert tokens_needed(torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 0])).tolist() == [1, 1]
    assert long_enough(torch.tensor([1, 2, 8, 3]), units, num_units).tolist() == [True, False, True, True]


def test_recordings_that_are_too_short_are_left_out() -> None:
    logits = torch.randn(5, 7, V, dtype=torch.float64, requires_grad=True)
    units, num_units = padded(TRANSCRIPTS)
    tokens = torch.tensor([7, 2, 6, 2, 0])
    fits = torch.tensor([True, False, True, False, False])
    loss = ctc_loss(logits.log_softmax(-1), tokens, units, num_units)
    expected = ctc_loss(logits[fits].log_softmax(-1), tokens[fits], units[fits], num_units[fits])
    torch.testing.assert_close(loss, expected)
    assert loss.isfinite()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert gradient[fits].any()
    assert not gradient[~fits].any()


@pytest.mark.parametrize("length", [0, 1])
def test_a_batch_of_such_recordings_alone(length: int) -> None:
    logits = torch.randn(2, length, V, requires_grad=True)
    loss = ctc_loss(logits.log_softmax(-1), torch.tensor([length, length]), *padded([[1, 2], [1, 1]]))
    assert loss == 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.shape == logits.shape
    assert not gradient.any()


def test_greedy_decoding() -> None:
    logs = torch.randn(11, 29, 5)
    tokens = torch.tensor([29, 0, 1, 2, 3, 5, 7, 11, 13, 17, 23])
    expected = [collapsed(row[:count].tolist()) for row, count in zip(logs.argmax(-1), tokens.tolist())]
    assert likeliest_units(logs, tokens) == expected
    assert max(map(len, expected)) > 11
    path = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 3, 0, 0]])
    assert likeliest_units(torch.eye(4)[path], torch.tensor([9])) == [[1, 1, 2, 3]]
    assert likeliest_units(torch.zeros(3, 0, 4), torch.zeros(3, dtype=torch.int64)) == [[], [], []]
