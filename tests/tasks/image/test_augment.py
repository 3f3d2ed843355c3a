"""What chance does to training pictures."""

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


def _pictures(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (len(_ROWS), channels, 13, 11), generator=generator, dtype=torch.uint8)


def test_nothing_happens_by_default() -> None:
    augment, pictures = _augment(), _pictures()
    assert augment.distort(pictures, _ROWS, 0) is pictures
    normal = torch.randn(3, 3, 5, 5)
    assert torch.equal(augment.erase(normal.clone(), _ROWS[:3], 0), normal)


def test_padding_cuts_every_window_of_the_padded_picture() -> None:
    rows = np.arange(2_000)
    picture = _pictures()[:1]
    padded = torch.nn.functional.pad(picture, (1, 1, 1, 1))
    windows = {(y, x): padded[0, :, y : y + 13, x : x + 11] for y in range(3) for x in range(3)}
    cuts = _augment(crop="pad", padding=1).distort(picture.expand(2_000, -1, -1, -1), rows, 4)
    found = [next(place for place, window in windows.items() if torch.equal(cut, window)) for cut in cuts]
    shares = [found.count(place) / 2_000 for place in windows]
    assert shares == pytest.approx([1 / 9] * 9, abs=0.03)


@pytest.mark.parametrize(("option", "axis"), [("hflip", -1), ("vflip", -2)])
def test_flips(option: str, axis: int) -> None:
    pictures = _pictures()
    assert torch.equal(_augment(**{option: 1.0}).distort(pictures, _ROWS, 0), pictures.flip(axis))
    sometimes = _augment(**{option: 0.5}).distort(pictures, _ROWS, 0)
    flipped = [not torch.equal(one, other) for one, other in zip(sometimes, pictures)]
    assert 8 <= sum(flipped) <= 29
    assert all(
        torch.equal(one, other.flip(axis) if f else other) for one, other, f in zip(sometimes, pictures, flipped)
    )


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
    pictures = _pictures(channels)
    augment = _augment(channels=channels, **kind)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    first = augment.distort(pictures, _ROWS, 3)
    assert (first.dtype, first.shape) == (torch.uint8, pictures.shape)
    after = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == after
    alone = [augment.distort(pictures[i : i + 1], _ROWS[i : i + 1], 3)[0] for i in (5, 0, 17)]
    assert all(torch.equal(picture, first[i]) for picture, i in zip(alone, (5, 0, 17)))
    assert not torch.equal(augment.distort(pictures, _ROWS, 4), first)
    assert not torch.equal(_augment(1, channels=channels, **kind).distort(pictures, _ROWS, 3), first)


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
    pictures = torch.full((len(_ROWS), 3, 13, 11), 9.0)
    erased = _augment(erase=1.0).erase(pictures.clone(), _ROWS, 1)
    changed = (erased != 9).all(1)
    assert changed.flatten(1).any(1).all()
    assert 0.02 < changed.float().mean() < 0.5
    assert torch.equal(_augment(erase=1.0).erase(pictures[4:5].clone(), _ROWS[4:5], 1)[0], erased[4])
    untouched = (_augment(erase=0.4).erase(pictures.clone(), _ROWS, 1) == 9).flatten(1).all(1)
    assert 13 <= untouched.sum() <= 32


def test_the_strongest_posterization_gives_a_picture() -> None:
    augment = _augment(policy="rand-m10-p1.0-inc1-n1")
    (policy,) = augment.policies
    policy.ops = [op for op in policy.ops if op.name == "PosterizeIncreasing"]  # type: ignore[attr-defined]
    policy.choice_weights = None  # type: ignore[attr-defined]
    assert (augment.distort(_pictures(), _ROWS, 0) == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hflip": 1.5}, r"augment.hflip: expected a probability in \[0, 1\], got 1.5"),
        ({"vflip": -0.1}, "augment.vflip"),
        ({"erase": 2.0}, "augment.erase"),
        ({"scale": (0.0, 1.0)}, r"augment.scale: expected least and greatest share in \(0, 1\]"),
        ({"scale": (0.9, 0.1)}, "augment.scale"),
        ({"ratio": (0.0, 1.0)}, "augment.ratio: expected least and greatest ratio above 0"),
        ({"padding": -1}, "augment.padding and augment.color_jitter: expected 0 or more, got -1 and 0.0"),
        ({"policy": "randy"}, "augment.policy='randy': .*expected 'trivial', 'rand-...'"),
        ({"policy": "rand-x9"}, "augment.policy='rand-x9': Unknown RandAugment config section"),
        ({"policy": "best"}, "augment.policy='best': no such policy; .*original, originalr, v0, v0r, 3a"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**options)
