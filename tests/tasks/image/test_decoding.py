"""Images of every kind in one or three channels, and images that are broken."""

import base64
import contextlib
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image, ImageOps

from tasks.data.examples import ReadError
from tasks.image.decoding import middle, read_image, to_channels
from tasks.image.transforms import resize_transform

_GRAY = np.arange(35, dtype=np.uint8).reshape(7, 5) * 7
_RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def _png(image: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def test_grayscale_becomes_three_equal_channels_and_color_becomes_grayscale() -> None:
    gray, color = Image.fromarray(_GRAY), Image.fromarray(_RGB)
    assert (_array(to_channels(gray, 1)) == _GRAY).all()
    assert (_array(to_channels(gray, 3)) == _GRAY[:, :, None]).all()
    assert (_array(to_channels(color, 3)) == _RGB).all()
    assert (_array(to_channels(color, 1)) == _array(color.convert("L"))).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_are_laid_over_white(channels: Any) -> None:
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    values = _array(to_channels(image, channels)).reshape(3, -1)
    assert values.tolist() == [[255] * channels, [0] * channels, [204] * channels]


def test_grayscale_with_alpha_and_palettes_with_and_without_transparency() -> None:
    image = Image.merge("LA", (Image.fromarray(_GRAY), Image.new("L", (5, 7), 255)))
    assert (_array(to_channels(image, 1)) == _GRAY).all()
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert _array(to_channels(palette, 3)).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    transparent = read_image(_png(palette, transparency=0), 3)
    assert _array(transparent).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_pixels_of_16_bits_become_their_upper_8() -> None:
    values = np.array([[0, 255, 256, 65535, 40000]], dtype=np.uint16)
    expected = [[0, 0, 1, 255, 156]]
    assert _array(read_image(_png(Image.fromarray(values)), 1)).tolist() == expected
    assert _array(to_channels(Image.fromarray(values.astype(np.int32)), 1)).tolist() == expected


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "HSV", "LAB"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert to_channels(Image.fromarray(_RGB).convert("RGB"), 3).mode == "RGB"
    image = Image.new(mode, (5, 7))
    assert (to_channels(image, 3).mode, to_channels(image, 1).mode) == ("RGB", "L")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = _png(Image.fromarray(_GRAY), exif=exif)
    expected = _array(ImageOps.exif_transpose(Image.open(BytesIO(file))))
    turned = read_image(file, 1)
    assert (_array(turned) == expected).all()
    assert (_array(to_channels(turned, 1)) == expected).all()
    assert orientation != 6 or (expected == np.rot90(_GRAY, -1)).all()


def _exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block of entries: tag, type, count, value."""
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


_TURNED = (0x112, 3, 1, struct.pack("<HH", 6, 0))
_ODD_MAKE = (0x10F, 11, 1, struct.pack("<f", 1.5))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (_exif(_TURNED), True),
        (_exif(_ODD_MAKE, _TURNED), True),
        (_exif((0x112, 2, 4, b"6\0\0\0")), False),
        (_exif((0x112, 5, 1, struct.pack("<I", 8))), False),
        (_exif((0x112, 3, 1, struct.pack("<HH", 9, 0))), False),
        (_exif(_TURNED)[:17], False),
        (b"Exif\0\0garbage", False),
        (b"Exif\0\0MM\0*\0\0", False),
        (b"Exif\0\0", False),
    ],
)
def test_exif_that_cannot_be_read_is_ignored(kind: str, exif: bytes, turned: bool) -> None:
    file = BytesIO()
    Image.new("RGB", (7, 5), (200, 9, 9)).save(file, kind, exif=exif)
    image = read_image(file.getvalue(), 3)
    assert image.size == ((5, 7) if turned else (7, 5))


def test_transparency_of_a_palette_survives_the_exif_orientation() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read_image(_png(image, transparency=0, exif=exif), 3)
    assert _array(turned).tolist() == [[[255, 255, 255]], [[200, 100, 50]]]


def _bmp(alpha: int) -> bytes:
    """Two pixels of 32 bits, the second opaque if the first is."""
    pixels = bytes([30, 20, 10, alpha, 50, 100, 200, alpha])
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = (struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks).ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_bmp_file_whose_alpha_is_0_everywhere_has_no_alpha(alpha: int) -> None:
    assert _array(read_image(_bmp(alpha), 3)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_a_tga_file_whose_alpha_is_0_everywhere_has_no_alpha() -> None:
    file = BytesIO()
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.save(file, "TGA")
    assert _array(read_image(file.getvalue(), 3)).tolist() == [[[10, 20, 30]] * 2]
    image.putpixel((1, 0), (200, 100, 50, 255))
    image.save(file := BytesIO(), "TGA")
    assert _array(read_image(file.getvalue(), 3)).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_names_of_files_from_other_systems(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    Image.fromarray(_RGB).save(tmp_path / "cats/1.png")
    assert (_array(read_image(r"cats\1.png", 3, tmp_path)) == _RGB).all()
    assert (_array(read_image({"path": r"cats\1.png", "bytes": None}, 3, tmp_path)) == _RGB).all()


def test_an_address_is_read_as_a_file_is(tmp_path: Path) -> None:
    file = BytesIO()
    Image.fromarray(_RGB).save(file, "PNG", exif=_exif(_ODD_MAKE, _TURNED))
    with fsspec.open("memory://odd.png", "wb") as stream:
        stream.write(file.getvalue())
    assert (_array(read_image("memory://odd.png", 3, tmp_path)) == np.rot90(_RGB, -1)).all()
    with pytest.raises(ReadError, match=r"the image 'memory://none.png' cannot be decoded"):
        read_image("memory://none.png", 3)


def test_base64_text_in_place_of_a_name_is_not_printed_whole() -> None:
    text = base64.b64encode(_png(Image.fromarray(np.repeat(_RGB, 20, 0)))).decode()
    with pytest.raises(
        ReadError, match=rf"expected a file name or the bytes of a file, got {len(text):,} char"
    ) as caught:
        read_image(text, 3)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("size", [(1, 4_000), (4_000, 1), (3, 900), (200, 3), (64, 1), (65, 1)])
@pytest.mark.parametrize("crop_mode", ["center", "border", "squash"])
def test_long_images_take_little_memory(size: tuple[int, int], crop_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"image_size": (17, 13), "mean": [0.5] * 3, "interpolation": "bilinear", "crop_pct": 1.0}
    resize, sizes = Image.Image.resize, []

    def recorded(image: Image.Image, size: tuple[int, int], *args: Any, **options: Any) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", recorded)
    long = Image.new("RGB", size, (9, 99, 199))
    tensor = resize_transform(**settings, crop_mode=crop_mode)(long)
    assert tensor.shape == (3, 17, 13)
    assert tensor[:, 8, 6].tolist() == [9, 99, 199]
    assert max(map(max, sizes)) <= 64 * 17


def test_the_middle_of_a_long_image() -> None:
    row = Image.fromarray(np.arange(100, dtype=np.uint8)[None])
    assert _array(middle(row, 4)).tolist() == [[48, 49, 50, 51]]
    assert _array(middle(row.transpose(Image.Transpose.ROTATE_270), 4)).tolist() == [[48], [49], [50], [51]]
    assert middle(row, 100) is row


def test_every_form_of_an_image_gives_the_same_pixels(tmp_path: Path) -> None:
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
        assert (_array(read_image(form, 3, tmp_path)) == _RGB).all()
    assert (_array(read_image(_GRAY[:, :, None].tolist(), 1)) == _GRAY).all()


def test_broken_images_are_errors_that_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(_png(Image.fromarray(_RGB))[:-30])
    jpeg = BytesIO()
    Image.fromarray(np.repeat(np.repeat(_RGB, 20, 0), 20, 1)).save(jpeg, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(jpeg.getvalue()[:700])
    for name in ("note.png", "cut.png", "cut.jpg", "missing.png"):
        with pytest.raises(ReadError, match=f"the image '{tmp_path / name}' cannot be decoded: "):
            read_image(name, 3, tmp_path)
    with pytest.raises(ReadError, match=r"the image '.*/x.png' cannot be decoded"):
        read_image({"bytes": b"rubbish", "path": "x.png"}, 3, tmp_path)


@pytest.mark.parametrize("kind", ["AVIF", "DDS", "WEBP", "TGA", "ICO", "JPEG2000", "PCX", "GIF", "BMP", "PPM"])
@pytest.mark.filterwarnings("ignore")
def test_no_other_error_leaves_files_with_wrong_bytes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    file = BytesIO()
    Image.fromarray(_RGB).convert("P" if kind == "GIF" else "RGB").save(file, kind)
    whole, random = file.getvalue(), np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(whole)
        for place in random.integers(0, min(len(whole), 200), 4):
            broken[place] = random.integers(256)
        with contextlib.suppress(ReadError):
            read_image(bytes(broken), 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the image is missing"),
        ({"bytes": None, "path": None}, "the image is missing"),
        (3.5, "expected an image, got a float"),
        (b"", "cannot identify image file"),
        ([[0, 256]], r"expected whole numbers from 0 to 255 .* got int64 of shape \(1, 2\)"),
        ([[0.5, 0.1]], "got float64"),
        ([[[1, 2]]], r"of shape \(1, 1, 2\)"),
        ([], "expected whole numbers"),
        (Image.new("F", (2, 2)), "floating-point numbers of unknown range"),
    ],
)
def test_values_that_are_not_images(value: Any, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        read_image(value, 3)
