"""Augmentation of training images."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tasks.image.augment import Augment, BatchAugment
from tasks.image.processor import ImageProcessor

_ROWS = np.arange(40, 77)


def _augment(seed: int = 0, size: tuple[int, int] = (13, 11), channels: int = 3, **options: Any) -> BatchAugment:
    processor = ImageProcessor(size, channels, mean=[0.5] * channels, std=[0.2] * channels)  # type: ignore[arg-type]
    return BatchAugment(Augment(**options), processor, seed)


def _images(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (len(_ROWS), channels, 13, 11), generator=generator, dtype=torch.uint8)


def test_nothing_happens_by_default() -> None:
    augment, images = _augment(), _images()
    assert augment.distort(images, _ROWS, 0) is images
    normal = torch.randn(3, 3, 5, 5)
    assert torch.equal(augment.erase(normal.clone(), _ROWS[:3], 0), normal)


def test_padding_crops_every_window_of_the_padded_image() -> None:
    rows = np.arange(2_000)
    image = _images()[:1]
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    windows = {(y, x): padded[0, :, y : y + 13, x : x + 11] for y in range(3) for x in range(3)}
    cuts = _augment(crop="pad", padding=1).distort(image.expand(2_000, -1, -1, -1), rows, 4)
    found = [next(place for place, window in windows.items() if torch.equal(cut, window)) for cut in cuts]
    shares = [found.count(place) / 2_000 for place in windows]
    assert shares == pytest.approx([1 / 9] * 9, abs=0.03)


@pytest.mark.parametrize(("option", "axis"), [("hflip", -1), ("vflip", -2)])
def test_flips(option: str, axis: int) -> None:
    images = _images()
    assert torch.equal(_augment(**{option: 1.0}).distort(images, _ROWS, 0), images.flip(axis))
    sometimes = _augment(**{option: 0.5}).distort(images, _ROWS, 0)
    flipped = [not torch.equal(one, other) for one, other in zip(sometimes, images)]
    assert 8 <= sum(flipped) <= 29
    assert all(torch.equal(one, other.flip(axis) if f else other) for one, other, f in zip(sometimes, images, flipped))


_KINDS: list[dict[str, Any]] = [
    {"crop": "pad", "hflip": 0.5, "vflip": 0.5},
    {"policy": "rand-m9-mstd0.5-inc1"},
    {"policy": "augmix-m3-w3"},
    {"policy": "original"},
    {"policy": "3a"},
    {"policy": "trivial", "color_jitter": 0.3},
    {"color_jitter": 0.4},
]


@pytest.mark.parametrize("kind", _KINDS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_row_of_the_same_epoch_always_looks_the_same(kind: dict[str, Any], channels: int) -> None:
    images = _images(channels)
    augment = _augment(channels=channels, **kind)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    first = augment.distort(images, _ROWS, 3)
    assert (first.dtype, first.shape) == (torch.uint8, images.shape)
    after = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == after
    alone = [augment.distort(images[i : i + 1], _ROWS[i : i + 1], 3)[0] for i in (5, 0, 17)]
    assert all(torch.equal(image, first[i]) for image, i in zip(alone, (5, 0, 17)))
    assert not torch.equal(augment.distort(images, _ROWS, 4), first)
    assert not torch.equal(_augment(1, channels=channels, **kind).distort(images, _ROWS, 3), first)


@pytest.mark.parametrize("channels", [1, 3])
def test_random_resized_crops(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 31, 41, 3), dtype=np.uint8)
    images = [Image.fromarray(value).convert("L" if channels == 1 else "RGB") for value in values]
    images[2] = images[2].resize((9, 50))
    augment = _augment(crop="resized", scale=(0.2, 0.6), channels=channels)
    crops = augment.crop(images, _ROWS[:5], 2)
    assert (crops.dtype, crops.shape) == (torch.uint8, (5, channels, 13, 11))
    assert torch.equal(augment.crop(images[3:4], _ROWS[3:4], 2)[0], crops[3])
    assert not torch.equal(augment.crop(images, _ROWS[:5], 3), crops)


def test_erasing_replaces_rectangles_by_noise() -> None:
    images = torch.full((len(_ROWS), 3, 13, 11), 9.0)
    erased = _augment(erase=1.0).erase(images.clone(), _ROWS, 1)
    changed = (erased != 9).all(1)
    assert changed.flatten(1).any(1).all()
    assert 0.02 < changed.float().mean() < 0.5
    assert torch.equal(_augment(erase=1.0).erase(images[4:5].clone(), _ROWS[4:5], 1)[0], erased[4])
    untouched = (_augment(erase=0.4).erase(images.clone(), _ROWS, 1) == 9).flatten(1).all(1)
    assert 13 <= untouched.sum() <= 32


def test_the_strongest_posterization_gives_an_image() -> None:
    augment = _augment(policy="rand-m10-p1.0-inc1-n1")
    (policy,) = augment.policies
    policy.ops = [op for op in policy.ops if op.name == "PosterizeIncreasing"]  # type: ignore[attr-defined]
    policy.choice_weights = None  # type: ignore[attr-defined]
    assert (augment.distort(_images(), _ROWS, 0) == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hflip": 1.5}, r"augment.hflip must be a probability in \[0, 1\], got 1.5"),
        ({"vflip": -0.1}, "augment.vflip"),
        ({"erase": 2.0}, "augment.erase"),
        ({"scale": (0.0, 1.0)}, r"augment.scale must be a minimum and a maximum share in \(0, 1\]"),
        ({"scale": (0.9, 0.1)}, "augment.scale"),
        ({"ratio": (0.0, 1.0)}, "augment.ratio must be a minimum and a maximum ratio above 0"),
        ({"padding": -1}, "augment.padding and augment.color_jitter must be 0 or more, got -1 and 0.0"),
        ({"policy": "randy"}, "augment.policy must be 'trivial', 'rand-...' .*, got 'randy': "),
        ({"policy": "rand-x9"}, "augment.policy must be .*, got 'rand-x9': Unknown RandAugment config section"),
        ({"policy": "best"}, "augment.policy must be .*original, originalr, v0, v0r, 3a, got 'best': no such policy"),
    ],
)
def test_invalid_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**options)
