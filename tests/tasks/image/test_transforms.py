"""Preparation of images in validation."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform

from tasks.image.processor import ImageProcessor
from tasks.image.transforms import (
    Preprocess,
    channel_statistics,
    measured_statistics,
    normalize,
)

_IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (41, 53, 3), dtype=np.uint8))


def _processor(**changes: Any) -> ImageProcessor:
    given = {
        "image_size": (29, 29),
        "channels": 3,
        "mean": list(IMAGENET_DEFAULT_MEAN),
        "std": list(IMAGENET_DEFAULT_STD),
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
    }
    return ImageProcessor(**{**given, **changes})


@pytest.mark.parametrize("size", [(29, 29), (31, 23)])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_preprocessing_equals_that_of_timm(size: tuple[int, int], mode: str, interpolation: str) -> None:
    processor = _processor(image_size=size, crop_mode=mode, interpolation=interpolation)
    expected = create_transform(
        size,
        interpolation=interpolation,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        crop_pct=0.9,
        crop_mode=mode,
    )(_IMAGE)
    (prepared,) = processor([_IMAGE])
    assert (prepared.dtype, prepared.shape) == (torch.float32, (3, *size))
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_grayscale_images(mode: str) -> None:
    (prepared,) = _processor(channels=1, mean=[0.4], std=[0.2], crop_mode=mode)([_IMAGE])
    assert prepared.shape == (1, 29, 29)
    assert prepared.isfinite().all()


def test_an_image_of_the_right_size_is_not_changed() -> None:
    image = _IMAGE.crop((0, 0, 29, 29))
    (prepared,) = _processor(mean=[0.0] * 3, std=[1.0] * 3, crop_pct=1.0)([image])
    assert (prepared.mul(255).round().byte().permute(1, 2, 0).numpy() == np.asarray(image)).all()


def test_normalization_in_numbers() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1)
    assert normalize(images, [0.0, 0.2, 0.5], [1.0, 2.0, 0.5]).flatten().tolist() == pytest.approx([0, 0, 1], abs=1e-6)


def test_statistics_for_other_channels_are_an_error() -> None:
    with pytest.raises(ValueError, match="mean and std must have one number for each of 1 channels, got 3 and 3"):
        _processor(channels=1)


def _never() -> Any:
    raise AssertionError


def test_statistics_by_name_and_by_number() -> None:
    assert channel_statistics("mean", "imagenet", 3, _never) == list(IMAGENET_DEFAULT_MEAN)
    assert channel_statistics("std", "imagenet", 1, _never) == pytest.approx([sum(IMAGENET_DEFAULT_STD) / 3])
    assert channel_statistics("std", [0.25], 1, _never) == [0.25]
    assert channel_statistics("mean", "auto", 1, lambda: ([0.1], [0.2])) == [0.1]
    assert channel_statistics("std", "auto", 1, lambda: ([0.1], [0.2])) == [0.2]


def test_measured_statistics() -> None:
    images = torch.randint(0, 256, (11, 3, 7, 5), dtype=torch.uint8)
    images[:, 2] = 51
    mean, std = measured_statistics(images)
    values = images.numpy() / 255
    assert mean == pytest.approx(values.mean((0, 2, 3)).tolist())
    assert std[:2] == pytest.approx(values.std((0, 2, 3)).tolist()[:2])
    assert std[2] == pytest.approx(1 / 255)
    assert normalize(images, mean, std).isfinite().all()


@pytest.mark.parametrize(
    ("argument", "given", "message"),
    [
        (
            "mean",
            [0.5],
            r"preprocess.mean must be 'imagenet', 'auto', or one number for each of 3 channels, got \[0.5\]",
        ),
        ("std", [0.5, 0.5, 0.0], "preprocess.std must be positive, got"),
    ],
)
def test_statistics_that_do_not_fit(argument: str, given: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        channel_statistics(argument, given, 3, _never)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_crop_outside_the_image_is_an_error(share: float) -> None:
    with pytest.raises(ValueError, match=r"preprocess.crop_pct must be a share in \(0, 1\]"):
        Preprocess(crop_pct=share)
