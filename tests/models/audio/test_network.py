"""Sound networks: subsampling of each recording alone, lengths, chunks, padding, heads, chance in training alone."""

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softformer.layers.pooling import PoolingKind
from softformer.models.audio import network as audio_module
from softformer.models.audio.augment import AudioAugment
from softformer.models.audio.features import LogMel, lengths_mask
from softformer.models.audio.network import AudioBackbone, AudioClassifierNetwork, ConvSubsampling, SpeechNetwork
from softformer.models.sequence import SequenceAttention, SoftEncoder

# 16 ms and 8 ms, in samples.
RATE, WINDOW, HOP = 8_000, 128, 64
BANDS, DIM, CLASSES, UNITS = 13, 14, 5, 11
FACTORS = [1, 2, 4, 8]
# Samples; the third and the fourth have no frame, the last one has one.
LENGTHS = [4_111, 1_999, 0, 127, 128]
SAMPLES = 4_507
KINDS = get_args(PoolingKind)


def _backbone(factor: int = 4, attention: SequenceAttention = "soft", **options: Any) -> AudioBackbone:
    torch.manual_seed(1)
    features = LogMel(RATE, window=16.0, hop=8.0, num_mels=BANDS)
    landmarks = {"num_landmarks": 7} if attention == "soft" else {}
    encoder = SoftEncoder(DIM, 1, 2, attention=attention, **landmarks)
    backbone = AudioBackbone(features, encoder, subsampling=factor, **options)
    for name, parameter in backbone.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.1)
    return backbone


def _batch(poison: float = torch.nan) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor(LENGTHS)
    waves = 0.1 * torch.randn(len(LENGTHS), SAMPLES)
    return waves.masked_fill(~lengths_mask(lengths, SAMPLES), poison), lengths


def _assert_near(found: Tensor, expected: Tensor, relative: float, scale: float = 0.0) -> None:
    """The largest difference is small beside the largest number, or beside a scale."""
    scale = max([scale, expected.abs().max().item()]) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=relative * scale)


@pytest.mark.parametrize("factor", FACTORS)
def test_subsampling_is_a_convolution_of_each_recording_alone(factor: int) -> None:
    layer = ConvSubsampling(BANDS, DIM, factor).double()
    counts = torch.tensor([37, 1, 16, 29, 0])
    mask = lengths_mask(counts, 37)
    frames = torch.randn(5, 37, BANDS, dtype=torch.float64)
    tokens, real = layer(frames.masked_fill(~mask.unsqueeze(-1), torch.nan), mask)
    assert tokens[~real].eq(0).all()
    for row, count in enumerate(counts.tolist()):
        x = frames[row : row + 1, None, :count]
        for number, convolution in enumerate(layer.convolutions if count else []):
            stride = (2 if 2 ** (number + 1) <= factor else 1, 2)
            x = F.gelu(F.conv2d(x, convolution.weight, convolution.bias, stride, padding=1))  # type: ignore[arg-type]
        sums = layer.project(x.transpose(1, 2).flatten(2))[0] if count else tokens[row, :0]
        expected = F.layer_norm(sums, [DIM])
        torch.testing.assert_close(tokens[row, real[row]], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("factor", FACTORS)
def test_the_number_of_tokens_is_known_beforehand(factor: int) -> None:
    layer = ConvSubsampling(BANDS, DIM, factor)
    counts = torch.arange(41)
    expected = [len(range(0, count, factor)) for count in counts.tolist()]
    assert layer.num_tokens(counts).tolist() == expected
    tokens, real = layer(torch.randn(41, 43, BANDS), lengths_mask(counts, 43))
    assert tokens.shape == (41, len(range(0, 43, factor)), DIM)
    assert real.sum(1).tolist() == expected
    assert (real[:, 1:] <= real[:, :-1]).all()
    for count in counts.tolist():
        alone, _ = layer(torch.randn(1, count, BANDS), torch.ones(1, count, dtype=torch.bool))
        assert alone.shape == (1, expected[count], DIM)


@pytest.mark.parametrize("frames", [16, 17, 31, 47, 48, 61])
@pytest.mark.parametrize("factor", FACTORS)
def test_chunks_make_the_whole(factor: int, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ConvSubsampling(BANDS, DIM, factor).double()
    x, mask = torch.randn(3, frames, BANDS, dtype=torch.float64), lengths_mask(torch.tensor([frames, 19, 0]), frames)
    whole, real = layer(x, mask)
    monkeypatch.setattr(audio_module, "_CHUNK", 16)
    parts, parts_real = layer.eval()(x, mask)
    assert torch.equal(parts_real, real)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_chunks_hold_no_more_than_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the memory of hours would be that of the whole."""
    layer = ConvSubsampling(BANDS, DIM, 4).eval()
    widths: list[int] = []
    layer.convolutions[0].register_forward_hook(lambda module, inputs, out: widths.append(inputs[0].shape[-2]))
    monkeypatch.setattr(audio_module, "_CHUNK", 16)
    layer(torch.randn(1, 67, BANDS), torch.ones(1, 67, dtype=torch.bool))
    assert len(widths) == 5
    assert max(widths) <= 16 + 2 * 8


@pytest.mark.parametrize("factor", FACTORS)
def test_tokens_of_recordings(factor: int) -> None:
    backbone = _backbone(factor)
    lengths = torch.tensor([*range(0, 1_200, 61), 127, 128, 191, 192])
    waves = torch.randn(len(lengths), 1_301)
    hidden, mask = backbone(waves, lengths)
    assert mask.sum(1).tolist() == backbone.num_tokens(lengths).tolist()
    assert hidden.shape == (*mask.shape, DIM)
    assert hidden[~mask].eq(0).all()
    assert backbone.token_seconds == pytest.approx(0.008 * factor)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_batch_without_any_frame(factor: int) -> None:
    backbone = _backbone(factor)
    hidden, mask = backbone(torch.randn(3, 127), torch.tensor([127, 0, 5]))
    assert hidden.shape == (3, 0, DIM)
    assert mask.shape == (3, 0)
    logits = AudioClassifierNetwork(backbone, CLASSES)(torch.randn(3, 127), torch.tensor([127, 0, 5]))
    assert logits.isfinite().all()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("attention", get_args(SequenceAttention))
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_padding_changes_nothing(
    dtype: torch.dtype, near: float, attention: SequenceAttention, factor: int, poison: float
) -> None:
    """A padded batch against each recording alone: hidden states, and gradients of parameters."""
    backbone = _backbone(factor, attention).to(dtype)
    waves, lengths = _batch(poison)
    waves = waves.to(dtype)
    parameters = list(backbone.parameters())
    hidden, mask = backbone(waves, lengths)
    cotangent = torch.randn_like(hidden).masked_fill(~mask.unsqueeze(-1), poison)
    grads = torch.autograd.grad(hidden, parameters, cotangent)
    assert hidden[~mask].eq(0).all()
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    for row, length in enumerate(LENGTHS):
        if not mask[row].any():
            continue
        alone, real = backbone(waves[row : row + 1, :length], lengths[row : row + 1])
        assert real.all()
        _assert_near(hidden[row, mask[row]], alone[0], near)
        part = torch.autograd.grad(alone, parameters, cotangent[row, mask[row]].unsqueeze(0))
        totals = [total + grad for total, grad in zip(totals, part)]
    names = [name.rpartition(".")[0] for name, _ in backbone.named_parameters()]
    for name, grad, total in zip(names, grads, totals):
        # What shifts queries and landmarks alike has no gradient, so a bias is measured by its layer's weight.
        scale = max(other.abs().max().item() for module, other in zip(names, totals) if module == name)
        _assert_near(grad, total, 2 * near, scale)  # twice as many roundings


def test_batch_mates_change_nothing() -> None:
    backbone = _backbone()
    waves, lengths = _batch()
    first = torch.arange(len(LENGTHS)) == 1
    mates = torch.where(first.unsqueeze(1), waves, torch.randn_like(waves))
    hidden, mask = backbone(mates, torch.where(first, lengths, SAMPLES))
    expected, before = backbone(waves, lengths)
    assert torch.equal(mask[1], before[1])
    _assert_near(hidden[1, mask[1]], expected[1, before[1]], 1e-5)


def test_features_take_no_gradient_and_follow_the_type_of_the_network() -> None:
    backbone = _backbone().double()
    waves, lengths = _batch()
    hidden, _ = backbone(waves.requires_grad_(), lengths)
    assert hidden.dtype == torch.float64
    (grad,) = torch.autograd.grad(hidden.sum(), waves, allow_unused=True)
    assert grad is None


def test_chance_acts_in_training_alone() -> None:
    augment = AudioAugment(speeds=(0.9, 1.1), gain=6.0, time_masks=2, time_width=0.3, band_masks=2, band_width=5)
    plain, changed = _backbone(), _backbone(augment=augment)
    waves, lengths = _batch()
    expected, _ = plain.eval()(waves, lengths)
    assert torch.equal(changed.eval()(waves, lengths)[0], expected)
    changed.train()
    torch.manual_seed(3)
    first, mask = changed(waves, lengths)
    torch.manual_seed(3)
    assert torch.equal(changed(waves, lengths)[0], first)
    assert first.isfinite().all()
    assert mask.sum(1).tolist() != plain.num_tokens(lengths).tolist()
    counts = {tuple(changed(waves, lengths)[1].sum(1).tolist()) for _ in range(20)}
    assert len(counts) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_reads_real_tokens_alone(kind: PoolingKind) -> None:
    network = AudioClassifierNetwork(_backbone(2), CLASSES, pooling=kind)
    waves, lengths = _batch()
    logits = network(waves, lengths)
    assert logits.shape == (len(LENGTHS), CLASSES)
    for row in (0, 1, 4):
        alone = network(waves[row : row + 1, : LENGTHS[row]], lengths[row : row + 1])
        _assert_near(logits[row], alone[0], 1e-5)
    # Nothing was heard: what is left is the head's bias.
    torch.testing.assert_close(logits[2:4], network.head.bias.expand(2, -1))
    # What shifts queries and landmarks alike has no gradient, so biases do not count.
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    assert all(grad.any() for grad in torch.autograd.grad((logits * torch.randn_like(logits)).sum(), weights))


def test_a_classifier_is_pooling_dropout_and_a_linear_layer() -> None:
    network = AudioClassifierNetwork(_backbone(), CLASSES, dropout=0.5)
    waves, lengths = _batch()
    hidden, mask = network.backbone(waves, lengths)
    pooled = torch.stack(
        [states[real].mean(0) if real.any() else states.new_zeros(DIM) for states, real in zip(hidden, mask)]
    )
    _assert_near(network.eval()(waves, lengths), network.head(pooled), 1e-5)
    network.train()
    assert not torch.equal(network(waves, lengths), network(waves, lengths))


def test_a_recognizer_gives_probabilities_of_units_at_each_token() -> None:
    network = SpeechNetwork(_backbone(), UNITS)
    waves, lengths = _batch()
    log_probs, counts = network(waves, lengths)
    assert log_probs.dtype == torch.float32
    assert log_probs.shape == (len(LENGTHS), int(network.backbone.num_tokens(torch.tensor(SAMPLES))), UNITS)
    assert counts.tolist() == network.backbone.num_tokens(lengths).tolist()
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]))
    for row in (0, 1, 4):
        alone, count = network(waves[row : row + 1, : LENGTHS[row]], lengths[row : row + 1])
        assert count.tolist() == [int(counts[row])]
        _assert_near(log_probs[row, : int(count)], alone[0], 1e-5)


@pytest.mark.parametrize("network", ["classes", "units"])
def test_it_starts_from_the_other_networks_backbone(network: str) -> None:
    """Classifier and recognizer name the parts that they share alike."""
    both = {"classes": AudioClassifierNetwork(_backbone(), CLASSES), "units": SpeechNetwork(_backbone(), UNITS)}
    names = {name for name in both[network].state_dict() if name.startswith("backbone.")}
    assert names == {name for other in both.values() for name in other.state_dict() if name.startswith("backbone.")}
    assert "backbone.subsampling.project.weight" in names


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="subsampling must be 1, 2, 4 or 8, got 3"):
        _backbone(3)
    features = LogMel(RATE, num_mels=BANDS)
    with pytest.raises(
        ValueError, match="encoder must have its width as the attribute dim, got Identity, which has none"
    ):
        AudioBackbone(features, nn.Identity())
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 1, got 0"):
        AudioClassifierNetwork(_backbone(), 0)
    with pytest.raises(ValueError, match="pooling must be one of 'mean', 'cls', 'attention', got 'max'"):
        AudioClassifierNetwork(_backbone(), CLASSES, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_units must be an integer of at least 2, blank included, got 1"):
        SpeechNetwork(_backbone(), 1)
