"""LogMel: against torchaudio and against a literal transform, lengths, padding, silence, chunks, errors."""

import math
from typing import Any

import pytest
import torch
import torchaudio
from torch import Tensor

from softformer.models.audio import features as audio_features
from softformer.models.audio.features import LogMel, Normalization, lengths_mask, normalized

RATE, BANDS = 16_000, 29
WINDOW, HOP = 400, 160
# Samples of the recordings of a batch: the third and the last are shorter than a window.
LENGTHS = [4_111, 401, 0, 2_003, 399]
SAMPLES = 5_003


def _features(window: float = 25.0, rate: int = RATE, **options: Any) -> LogMel:
    return LogMel(rate, window=window, num_mels=BANDS, **options)


def _batch(poison: float = torch.nan) -> tuple[Tensor, Tensor]:
    """Recordings of other loudness each, with something else behind them."""
    lengths = torch.tensor(LENGTHS)
    loudness = torch.tensor([0.3, 0.01, 1.0, 0.07, 0.5]).unsqueeze(1)
    waves = loudness * torch.randn(len(LENGTHS), SAMPLES)
    return waves.masked_fill(~lengths_mask(lengths, SAMPLES), poison), lengths


def _assert_near(found: Tensor, expected: Tensor, relative: float) -> None:
    """The largest difference is small beside the largest number."""
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=relative * scale)


# A window of 16 ms has 256 samples, a power of two; one of 25 ms is filled up, in torchaudio on both sides.
@pytest.mark.parametrize("window", [16.0, 25.0])
def test_frames_are_those_of_torchaudio(window: float) -> None:
    features = _features(window, normalize=None).double()
    around = (features.size - features.window) // 2
    transform = torchaudio.transforms.MelSpectrogram(
        RATE,
        n_fft=features.size,
        win_length=features.window,
        hop_length=HOP,
        f_min=20.0,
        f_max=8_000.0,
        n_mels=BANDS,
        center=False,
    ).double()
    waves = torch.randn(3, 2_003)
    found, mask = features(waves, torch.full((3,), 2_003))
    expected = transform(torch.nn.functional.pad(waves.double(), (around, around))).clamp(min=1e-10).log()
    assert mask.all()
    torch.testing.assert_close(found, expected.transpose(1, 2), rtol=1e-9, atol=1e-9)


def _literal(wave: Tensor, features: LogMel) -> Tensor:
    """Frames of one recording (T,), each sum of the transform written out."""
    frequency = torch.arange(features.size // 2 + 1, dtype=torch.float64).unsqueeze(1)
    angle = 2 * math.pi * frequency * torch.arange(features.window) / features.size
    frames = []
    for start in range(0, len(wave) - features.window + 1, features.hop):
        windowed = wave[start : start + features.window].double() * features.taper.double()
        power = (windowed * angle.cos()).sum(1) ** 2 + (windowed * angle.sin()).sum(1) ** 2
        bands = [sum((power * column).tolist()) for column in features.filters.double().T]
        frames.append([math.log(max(band, 1e-10)) for band in bands])
    return torch.tensor(frames, dtype=torch.float64)


@pytest.mark.parametrize("rate", [RATE, 8_000, 11_025])
def test_frames_are_those_of_a_literal_transform(rate: int) -> None:
    features = LogMel(rate, hop=7.0, num_mels=23, normalize=None)
    wave = torch.randn(1, 1_009)
    expected = _literal(wave[0], features)
    found, _ = features.double()(wave, torch.tensor([1_009]))
    torch.testing.assert_close(found[0], expected, rtol=1e-9, atol=1e-9)
    found, _ = features.float()(wave, torch.tensor([1_009]))
    assert found.dtype == torch.float32
    _assert_near(found[0].double(), expected, 1e-5)


def test_taper_and_filters_are_hann_and_mel() -> None:
    features = _features(max_hz=7_000.0)
    place = torch.arange(WINDOW, dtype=torch.float64)
    hann = 0.5 - 0.5 * torch.cos(2 * math.pi * place / WINDOW)
    torch.testing.assert_close(features.taper.double(), hann, rtol=0, atol=1e-6)

    def mel(hz: float) -> float:
        return 2_595 * math.log10(1 + hz / 700)

    step = (mel(7_000) - mel(20)) / (BANDS + 1)
    edges = [700 * (10 ** ((mel(20) + number * step) / 2_595) - 1) for number in range(BANDS + 2)]
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:])):
        for bin_number in range(257):
            hz = bin_number * RATE / 512
            height = max(0.0, min((hz - low) / (middle - low), (high - hz) / (high - middle)))
            assert features.filters[bin_number, band].item() == pytest.approx(height, abs=1e-3)


@pytest.mark.parametrize("hz", [300.0, 1_000.0, 5_000.0])
def test_a_tone_is_in_its_band(hz: float) -> None:
    features = _features(normalize=None)
    wave = torch.sin(2 * math.pi * hz * torch.arange(4_001) / RATE).unsqueeze(0)
    frames, _ = features(wave, torch.tensor([4_001]))
    nearest = (features.filters * torch.linspace(0, RATE / 2, 257).sub(hz).abs().lt(20).unsqueeze(1)).sum(0).argmax()
    assert set(frames[0].argmax(1).tolist()) == {int(nearest)}


@pytest.mark.parametrize("normalize", ["bands", "recording"])
def test_loudness_changes_nothing_once_normalized(normalize: Normalization) -> None:
    waves, lengths = _batch()
    features = _features(normalize=normalize)
    loud, _ = features(waves, lengths)
    faint, _ = features(0.1 * waves, lengths)
    _assert_near(faint, loud, 1e-4)


def _with_pauses(waves: Tensor) -> Tensor:
    """Waveforms with pauses of digital silence."""
    return waves.masked_fill((torch.arange(waves.shape[1]) // 700 % 3 == 1), 0)


@pytest.mark.parametrize("normalize", ["bands", "recording"])
@pytest.mark.parametrize("top_db", [25.0, 80.0])
def test_values_are_raised_to_a_floor_relative_to_the_largest_of_the_recording(
    normalize: Normalization, top_db: float
) -> None:
    waves, lengths = _batch()
    waves = _with_pauses(waves)
    found, mask = _features(normalize=normalize, top_db=top_db)(waves, lengths)
    plain, _ = _features(normalize=None)(waves, lengths)
    for row in (0, 3):
        decibels = 10 * plain[row, mask[row]] / math.log(10)
        raised = decibels.clamp(min=decibels.max().item() - top_db) * math.log(10) / 10
        assert raised.min() > plain[row, mask[row]].min() + 1
        over = (0, 1) if normalize == "recording" else 0
        expected = (raised - raised.mean(over)) / raised.std(over, correction=0)
        torch.testing.assert_close(found[row, mask[row]], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("normalize", ["bands", "recording"])
def test_pauses_of_digital_silence_do_not_depend_on_loudness_batch_or_padding(normalize: Normalization) -> None:
    features = _features(normalize=normalize)
    waves, lengths = _batch()
    waves = _with_pauses(waves)
    frames, mask = features(waves, lengths)
    _assert_near(features(0.1 * waves, lengths)[0], frames, 1e-4)
    unlimited = _features(normalize=normalize, top_db=None)
    assert (unlimited(0.1 * waves, lengths)[0] - unlimited(waves, lengths)[0]).abs().max() > 0.1
    for row, length in enumerate(LENGTHS):
        alone, _ = features(waves[row : row + 1, :length], lengths[row : row + 1])
        _assert_near(frames[row, mask[row]], alone[0], 1e-5)


@pytest.mark.parametrize("normalize", ["bands", "recording"])
def test_frames_beside_a_pause_of_digital_silence_stay_near_those_beside_faint_noise(normalize: Normalization) -> None:
    wave = torch.randn(1, 16_001) * torch.linspace(0.05, 0.3, 16_001)
    pause = (torch.arange(16_001) // 4_000 % 2 == 1) * torch.ones(1, 1)
    faint, silent = wave.where(pause == 0, 1e-3 * torch.randn(1, 16_001)), wave.where(pause == 0, torch.tensor(0.0))
    lengths = torch.tensor([16_001])
    speech = torch.arange(3, 22)  # frames of the first sound

    def difference(top_db: float | None) -> float:
        features = _features(normalize=normalize, top_db=top_db)
        one, other = (features(waves, lengths)[0][0, speech] for waves in (faint, silent))
        return (one - other).square().mean().sqrt().item()

    assert difference(60.0) < difference(80.0) < 0.8 * difference(None)


def test_frames_without_normalization_have_no_floor() -> None:
    waves, lengths = _batch()
    waves = _with_pauses(waves)
    plain, _ = _features(normalize=None, top_db=None)(waves, lengths)
    assert torch.equal(_features(normalize=None, top_db=20.0)(waves, lengths)[0], plain)
    assert plain.min() == pytest.approx(math.log(1e-10))


def test_the_number_of_frames_is_known_beforehand() -> None:
    features = _features()
    lengths = [*range(0, 1_700, 37), 399, 400, 401, 559, 560, 561]
    expected = [len(range(0, length - WINDOW + 1, HOP)) for length in lengths]
    assert features.num_frames(torch.tensor(lengths)).tolist() == expected
    assert [features(torch.randn(1, n), torch.tensor([n]))[0].shape[1] for n in lengths] == expected
    padded = torch.randn(len(lengths), 1_801)
    frames, mask = features(padded, torch.tensor(lengths))
    assert mask.sum(1).tolist() == expected
    assert (mask[:, 1:] <= mask[:, :-1]).all()
    assert frames.shape == (len(lengths), len(range(0, 1_801 - WINDOW + 1, HOP)), BANDS)


@pytest.mark.parametrize("length", [0, 1, 399])
def test_a_recording_shorter_than_a_window_has_no_frame(length: int) -> None:
    frames, mask = _features()(torch.randn(3, length), torch.full((3,), length))
    assert frames.shape == (3, 0, BANDS)
    assert mask.shape == (3, 0)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("normalize", [None, "bands", "recording"])
def test_padding_and_batch_mates_change_nothing(normalize: Normalization | None, poison: float) -> None:
    features = _features(normalize=normalize)
    waves, lengths = _batch(poison)
    frames, mask = features(waves, lengths)
    assert frames[~mask].eq(0).all()
    for row, length in enumerate(LENGTHS):
        alone, _ = features(waves[row : row + 1, :length], lengths[row : row + 1])
        _assert_near(frames[row, mask[row]], alone[0], 1e-5)
    mates = torch.where(torch.arange(5).unsqueeze(1) == 3, waves, 100 * torch.randn_like(waves))
    others = torch.where(torch.arange(5) == 3, lengths, SAMPLES)
    _assert_near(features(mates, others)[0][3, mask[3]], frames[3, mask[3]], 1e-5)


@pytest.mark.parametrize("normalize", [None, "bands", "recording"])
def test_gradients_of_waves_are_finite_and_zero_at_padding(normalize: Normalization | None) -> None:
    features = _features(normalize=normalize)
    waves, lengths = _batch()
    waves.requires_grad_()
    frames, _ = features(waves, lengths)
    (grad,) = torch.autograd.grad((frames * torch.randn_like(frames)).sum(), waves)
    assert grad.isfinite().all()
    assert grad[~lengths_mask(lengths, SAMPLES)].eq(0).all()
    assert grad[0, : LENGTHS[0]].any()


def test_each_band_has_mean_0_and_deviation_1_over_real_frames() -> None:
    frames = 3 * torch.randn(5, 17, 7, dtype=torch.float64) - 11
    counts = torch.tensor([17, 5, 0, 11, 1])
    mask = lengths_mask(counts, 17)
    found = normalized(frames.masked_fill(~mask.unsqueeze(-1), torch.nan), mask)
    assert found[~mask].eq(0).all()
    for row, count in enumerate(counts.tolist()):
        part = frames[row, :count]
        if count > 1:
            expected = (part - part.mean(0)) / part.std(0, correction=0)
            torch.testing.assert_close(found[row, :count], expected, rtol=1e-10, atol=1e-10)
    assert found[4].eq(0).all()


def test_a_recording_has_mean_0_and_deviation_1_over_real_frames() -> None:
    frames = 3 * torch.randn(3, 17, 7, dtype=torch.float64) - torch.arange(7)
    mask = lengths_mask(torch.tensor([17, 5, 0]), 17)
    found = normalized(frames.masked_fill(~mask.unsqueeze(-1), torch.nan), mask, "recording")
    assert found[~mask].eq(0).all()
    for row, count in enumerate((17, 5)):
        part = frames[row, :count]
        expected = (part - part.mean()) / part.std(correction=0)
        torch.testing.assert_close(found[row, :count], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalize", ["bands", "recording"])
def test_silence_gives_zeros(normalize: Normalization) -> None:
    frames, mask = _features(normalize=normalize)(torch.zeros(1, 8_009), torch.tensor([8_009]))
    assert mask.all()
    assert frames.abs().max() < 1e-3
    plain, _ = _features(normalize=None)(torch.zeros(1, 8_009), torch.tensor([8_009]))
    torch.testing.assert_close(plain, torch.full_like(plain, math.log(1e-10)))


def test_hardly_any_change_is_not_blown_up() -> None:
    frames = -5 + 0.01 * torch.randn(2, 31, 3)
    found = normalized(frames, torch.ones(2, 31, dtype=torch.bool))
    assert found.abs().max() < 0.5


@pytest.mark.parametrize("chunk", [1, 7, 11])
def test_chunks_make_the_whole(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = _features()
    waves, lengths = _batch()
    whole, mask = features(waves, lengths)
    monkeypatch.setattr(audio_features, "_CHUNK", chunk)
    parts, real = features(waves, lengths)
    assert torch.equal(real, mask)
    _assert_near(parts, whole, 1e-5)


def test_autocast_does_not_touch_them() -> None:
    """Powers lie far outside the range of half precision, and the logarithm of a rounded zero is minus infinity."""
    waves, lengths = _batch()
    expected, _ = _features()(waves, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = _features()(waves, lengths)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_of_low_precision_hears_as_well(dtype: torch.dtype) -> None:
    waves, lengths = _batch()
    expected, _ = _features()(waves, lengths)
    found, _ = _features().to(dtype)(waves.to(dtype), lengths)
    assert found.isfinite().all()
    assert (found.float() - expected).abs().mean() < 0.2


def test_checkpoints_hold_nothing_of_them() -> None:
    assert not _features().state_dict()


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 0}, "sample_rate must be a positive number of Hz, got 0"),
        ({"max_hz": 4_001.0}, r"min_hz < max_hz <= 4000 \(half the sample rate\), got 20 and 4001"),
        ({"min_hz": -1.0}, "min_hz and max_hz must satisfy 0 <= min_hz < max_hz <= 4000 .*, got -1 and 4000"),
        ({"min_hz": 300.0, "max_hz": 300.0}, "got 300 and 300"),
        ({"window": 0.1}, "window and hop must be at least two samples and one, got 0.1 ms and 10 ms at 8000 Hz"),
        ({"hop": 0.01}, "window and hop must be at least two samples and one, got 25 ms and 0.01 ms at 8000 Hz"),
        ({"normalize": "band"}, "normalize must be bands, recording or None, got 'band'"),
        ({"top_db": 0.0}, "top_db must be a positive number of dB, or None for no floor, got 0.0"),
        ({"num_mels": 0}, "num_mels must be an integer of at least 1, got 0"),
        ({"num_mels": 199}, r"num_mels=199 makes \d+ bands narrower than the 31.2 Hz that a window of 25 ms resolves"),
    ],
)
def test_errors_name_the_argument(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMel(**{"sample_rate": 8_000, **options})
