"""Pictures of every kind in one or three channels, and pictures that are broken."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.data.examples import ReadError
from tasks.image.decoding import read_picture, to_channels

_GREY = np.arange(35, dtype=np.uint8).reshape(7, 5) * 7
_RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def _png(image: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def test_grey_becomes_three_equal_channels_and_colour_becomes_grey() -> None:
    grey, colour = Image.fromarray(_GREY), Image.fromarray(_RGB)
    assert (_array(to_channels(grey, 1)) == _GREY).all()
    assert (_array(to_channels(grey, 3)) == _GREY[:, :, None]).all()
    assert (_array(to_channels(colour, 3)) == _RGB).all()
    assert (_array(to_channels(colour, 1)) == _array(colour.convert("L"))).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_are_white_and_half_transparent_ones_are_mixed(channels: Any) -> None:
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    values = _array(to_channels(image, channels)).reshape(3, -1)
    assert values.tolist() == [[255] * channels, [0] * channels, [204] * channels]


def test_grey_with_alpha_and_palettes_with_and_without_transparency() -> None:
    image = Image.merge("LA", (Image.fromarray(_GREY), Image.new("L", (5, 7), 255)))
    assert (_array(to_channels(image, 1)) == _GREY).all()
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert _array(to_channels(palette, 3)).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    transparent = read_picture(_png(palette, transparency=0), 3)
    assert _array(transparent).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_pixels_of_16_bits_keep_their_upper_8() -> None:
    values = np.array([[0, 255, 256, 65535, 40000]], dtype=np.uint16)
    expected = [[0, 0, 1, 255, 156]]
    assert _array(read_picture(_png(Image.fromarray(values)), 1)).tolist() == expected
    assert _array(to_channels(Image.fromarray(values.astype(np.int32)), 1)).tolist() == expected


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "HSV", "LAB"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert to_channels(Image.fromarray(_RGB).convert("RGB"), 3).mode == "RGB"
    image = Image.new(mode, (5, 7))
    assert (to_channels(image, 3).mode, to_channels(image, 1).mode) == ("RGB", "L")


def test_the_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read_picture(_png(Image.fromarray(_GREY), exif=exif), 1)
    assert (_array(turned) == np.rot90(_GREY, -1)).all()


def test_every_form_of_a_picture_reads_alike(tmp_path: Path) -> None:
    image = Image.fromarray(_RGB)
    image.save(tmp_path / "a.png")
    forms = [
        image,
        _png(image),
        {"bytes": _png(image), "path": "elsewhere.png"},
        {"bytes": None, "path": str(tmp_path / "a.png")},
        {"bytes": None, "path": "a.png"},
        "a.png",
        str(tmp_path / "a.png"),
        _RGB,
        _RGB.tolist(),
    ]
    for form in forms:
        assert (_array(read_picture(form, 3, tmp_path)) == _RGB).all()
    assert (_array(read_picture(_GREY[:, :, None].tolist(), 1)) == _GREY).all()


def test_broken_pictures_are_errors_that_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(_png(Image.fromarray(_RGB))[:-30])
    jpeg = BytesIO()
    Image.fromarray(np.repeat(np.repeat(_RGB, 20, 0), 20, 1)).save(jpeg, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(jpeg.getvalue()[:700])
    for name in ("note.png", "cut.png", "cut.jpg", "missing.png"):
        with pytest.raises(ReadError, match=f"the image '{tmp_path / name}' cannot be decoded: "):
            read_picture(name, 3, tmp_path)
    with pytest.raises(ReadError, match=r"the image '.*/x.png' cannot be decoded"):
        read_picture({"bytes": b"rubbish", "path": "x.png"}, 3, tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the row holds no image"),
        ({"bytes": None, "path": None}, "the row holds no image"),
        (3.5, "a float is no image"),
        (b"", "cannot identify image file"),
        ([[0, 256]], r"expected whole numbers from 0 to 255 .* got int64 of shape \(1, 2\)"),
        ([[0.5, 0.1]], "got float64"),
        ([[[1, 2]]], r"of shape \(1, 1, 2\)"),
        ([], "expected whole numbers"),
        (Image.new("F", (2, 2)), "floating-point numbers of unknown range"),
    ],
)
def test_values_that_are_no_pictures(value: Any, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        read_picture(value, 3)
