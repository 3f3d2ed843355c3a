"""A classifier that trained on short sequences is as good on long ones, where length carries no information."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from softformer.layers.positions import PositionKind
from softformer.models.sequence import SoftEncoder
from softformer.models.text import TextClassifierNetwork, TextEncoder

_SYMBOLS, _CLASSES = 11, 4


def _mixtures(rows: int, length: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences in any order whose first four symbols have shares of 12 % each, but for that of the class: 16 %."""
    labels = torch.randint(_CLASSES, (rows,), generator=random)
    shares = torch.full((rows, _CLASSES), 0.12)
    shares[torch.arange(rows), labels] = 0.16
    counts = (shares * length).round().long()
    ids = torch.empty(rows, length, dtype=torch.long)
    for row in range(rows):
        known = torch.repeat_interleave(torch.arange(_CLASSES), counts[row])
        rest = torch.randint(_CLASSES, _SYMBOLS, (length - len(known),), generator=random)
        ids[row] = torch.cat([known, rest])[torch.randperm(length, generator=random)]
    return ids, labels


def _accuracy(network: TextClassifierNetwork, length: int, rows: int = 128) -> float:
    ids, labels = _mixtures(rows, length, torch.Generator().manual_seed(7))
    network.eval()
    with torch.no_grad():
        guesses = torch.cat([network(part).argmax(1) for part in ids.split(32)])
    return (guesses == labels).double().mean().item()


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_trained_at_512_as_good_at_4096(positions: PositionKind) -> None:
    torch.manual_seed(0)
    network = TextClassifierNetwork(TextEncoder(_SYMBOLS, SoftEncoder(32, 2, 2, positions=positions)), _CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    random = torch.Generator().manual_seed(1)
    for _ in range(120):
        ids, labels = _mixtures(16, 512, random)
        optimizer.zero_grad()
        F.cross_entropy(network(ids), labels).backward()
        optimizer.step()
    short, long = _accuracy(network, 512), _accuracy(network, 4096)
    assert short > 0.95
    assert abs(long - short) < 0.01
