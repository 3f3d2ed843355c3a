"""Text networks: shapes, scales, tied weights, padding, errors."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.pooling import PoolingKind
from softformer.models.sequence import SoftEncoder
from softformer.models.text import (
    MaskedLanguageNetwork,
    TextBackbone,
    TextClassifierNetwork,
    TextEncoder,
    text_backbone,
)

VOCAB, DIM, CLASSES = 101, 14, 5
BATCH, LENGTH = 3, 17
KINDS = get_args(PoolingKind)


def _backbone() -> TextEncoder:
    return TextEncoder(VOCAB, SoftEncoder(DIM, 1, 2, num_landmarks=7)).double()


def _batch() -> tuple[Tensor, Tensor]:
    mask = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    for row, length in enumerate((17, 11, 1)):
        mask[row, torch.randperm(LENGTH)[:length]] = True
    return torch.randint(VOCAB, (BATCH, LENGTH)), mask


def test_embeddings_weigh_as_much_as_sinusoids() -> None:
    backbone = TextEncoder(1009, SoftEncoder(128, 0, 2))
    assert backbone.token_weight.std().item() == pytest.approx(128**-0.5, rel=0.05)
    assert backbone.embed(torch.arange(1009)[None]).std().item() == pytest.approx(1, rel=0.05)
    assert backbone.dim == 128


def test_backbone_encodes_scaled_embeddings() -> None:
    backbone, (ids, mask) = _backbone(), _batch()
    embedded = backbone.embed(ids)
    torch.testing.assert_close(embedded[2, 13], backbone.token_weight[ids[2, 13]] * DIM**0.5)
    torch.testing.assert_close(backbone(ids, mask), backbone.encoder(embedded, mask), rtol=0, atol=0)
    torch.testing.assert_close(backbone(ids, mask, types=torch.ones_like(ids)), backbone(ids, mask), rtol=0, atol=0)


def test_a_backbone_is_what_takes_ids() -> None:
    backbone, encoder = _backbone(), SoftEncoder(DIM, 1, 2)
    assert isinstance(backbone, TextBackbone)
    assert not isinstance(encoder, TextBackbone)
    assert text_backbone(backbone, None) is backbone
    assert text_backbone(backbone, VOCAB - 1) is backbone
    made = text_backbone(encoder, VOCAB)
    assert isinstance(made, TextEncoder)
    assert (made.encoder, made.token_weight.shape) == (encoder, (VOCAB, DIM))


@pytest.mark.parametrize("kind", KINDS)
def test_classifier_reads_real_tokens_alone(kind: PoolingKind) -> None:
    network = TextClassifierNetwork(_backbone(), CLASSES, pooling=kind).double()
    ids, mask = _batch()
    logits = network(ids, mask)
    assert logits.shape == (BATCH, CLASSES)
    for row in range(BATCH):
        alone = network(ids[row, mask[row]][None])
        torch.testing.assert_close(logits[row], alone[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(network(ids.masked_fill(~mask, 0), mask), logits, rtol=0, atol=0)
    assert network(ids, torch.zeros_like(mask)).isfinite().all()
    unused = [name for name, grad in _gradients(network, logits).items() if grad is None or not grad.any()]
    # One query's softmax does not see a bias that all scores share; there is none here.
    assert not unused


def _gradients(network: nn.Module, logits: Tensor) -> dict[str, Tensor | None]:
    weights = torch.randn_like(logits)
    found = torch.autograd.grad((weights * logits).sum(), list(network.parameters()), allow_unused=True)
    return dict(zip(dict(network.named_parameters()), found))


def test_classifier_is_pooling_dropout_and_a_linear_layer() -> None:
    network = TextClassifierNetwork(_backbone(), CLASSES, dropout=0.5).double()
    ids, mask = _batch()
    pooled = torch.stack([states[real].mean(0) for states, real in zip(network.backbone(ids, mask), mask)])
    torch.testing.assert_close(network.eval()(ids, mask), network.head(pooled), rtol=1e-10, atol=1e-10)
    network.train()
    assert not torch.equal(network(ids, mask), network(ids, mask))


def test_masked_language_output_is_tied_to_the_token_vectors() -> None:
    network = MaskedLanguageNetwork(_backbone()).double()
    ids, mask = _batch()
    logits = network(ids, mask)
    assert logits.shape == (BATCH, LENGTH, VOCAB)
    hidden, head = network.backbone(ids, mask), network.head
    expected = head.norm(F.gelu(head.dense(hidden))) @ network.backbone.token_weight.T + head.bias
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
    assert sum(parameter.shape == (VOCAB, DIM) for parameter in network.parameters()) == 1
    unseen = next(number for number in range(VOCAB) if number not in ids)
    (grad,) = torch.autograd.grad(logits.logsumexp(-1).sum(), [network.backbone.token_weight])
    assert grad[unseen].any()
    with torch.no_grad():
        network.backbone.token_weight[unseen] += 1
        changed = (network(ids, mask) - logits).abs().amax((0, 1))
    assert changed.nonzero().flatten().tolist() == [unseen]


def test_logits_at_chosen_places() -> None:
    network, (ids, mask) = MaskedLanguageNetwork(_backbone()).double(), _batch()
    places = mask & (torch.rand(BATCH, LENGTH) < 0.5)
    assert 0 < places.sum() < mask.sum()
    torch.testing.assert_close(network(ids, mask, places=places), network(ids, mask)[places], rtol=1e-12, atol=1e-12)
    assert network(ids, mask, places=torch.zeros_like(places)).shape == (0, VOCAB)


def test_an_untrained_language_model_knows_nothing() -> None:
    torch.manual_seed(0)
    network, (ids, mask) = MaskedLanguageNetwork(_backbone()).double(), _batch()
    loss = F.cross_entropy(network(ids, mask)[mask], torch.randint(VOCAB, (int(mask.sum()),)))
    assert loss.item() == pytest.approx(torch.tensor(float(VOCAB)).log().item(), rel=0.35)


@pytest.mark.parametrize("kind", KINDS)
def test_exports_with_any_batch_and_length(kind: PoolingKind) -> None:
    network = TextClassifierNetwork(_backbone(), CLASSES, pooling=kind).double().eval()
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    program = torch.export.export(network, _batch(), dynamic_shapes=(axes, axes)).module()
    ids, mask = torch.randint(VOCAB, (5, 29)), torch.rand(5, 29) < 0.7
    torch.testing.assert_close(program(ids, mask), network(ids, mask))


def test_errors_name_the_argument() -> None:
    encoder = SoftEncoder(DIM, 1, 2)
    with pytest.raises(ValueError, match="vocab_size must be an integer of at least 1, got 0"):
        TextEncoder(0, encoder)
    with pytest.raises(ValueError, match="encoder must have its width as the attribute dim, got Identity, which has"):
        TextEncoder(VOCAB, nn.Identity())
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 1, got 0"):
        TextClassifierNetwork(_backbone(), 0)
    with pytest.raises(ValueError, match="pooling must be one of 'mean', 'cls', 'attention', got 'max'"):
        TextClassifierNetwork(_backbone(), CLASSES, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="vocab_size must be given: the encoder has no token embeddings"):
        text_backbone(encoder, None)
    with pytest.raises(
        ValueError, match="vocab_size must be at most 101, the vocabulary of the network, got 103; use the"
    ):
        text_backbone(_backbone(), 103)
