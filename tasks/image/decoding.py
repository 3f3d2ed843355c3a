"""Images from files, bytes or arrays, in the channels that a network takes."""

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from tasks.data.examples import ReadError
from tasks.data.files import located, shown
from tasks.data.pillow_errors import PILLOW_ERRORS

Channels = Literal[1, 3]

# Methods of `Image.transpose` that turn an image upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Formats in which programs write pixels of 32 bits and leave those of alpha 0.
_UNUSED_ALPHA = ("BMP", "DIB", "TGA")


def read_image(value: Any, channels: Channels, folder: Path = Path()) -> Image.Image:
    """An image in the given channels, decoded (see `to_channels`).

    Args:
        value: a file name, which may be relative to `folder`; the bytes of a file; `{"bytes", "path"}` as in
            `datasets`; pixel values (H, W) or (H, W, channels); or a PIL image.
        channels: 1 for grayscale, 3 for RGB.
        folder: folder of relative file names.

    Raises:
        ReadError: the image cannot be decoded; the message names the file.
    """
    try:
        return to_channels(_opened(value, folder), channels)
    except PILLOW_ERRORS as error:
        # The message of an operating system's error repeats the name.
        reason = getattr(error, "strerror", None) or error
        raise ReadError(f"the image{_name_of(value, folder)} cannot be decoded: {reason}") from error


def _opened(value: Any, folder: Path) -> Image.Image:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, dict) and value.get("bytes") is not None:
        value = value["bytes"]
    if isinstance(value, bytes):
        return _loaded(BytesIO(value))
    path = value.get("path") if isinstance(value, dict) else value
    if isinstance(path, str) and "://" in path:
        with fsspec.open(path) as file:
            return _loaded(BytesIO(file.read()))
    if isinstance(path, str):
        return _loaded(located(folder, path))
    if isinstance(path, list | np.ndarray):
        return Image.fromarray(_pixels(np.asarray(path)))
    raise ValueError("the image is missing" if path is None else f"expected an image, got a {type(path).__name__}")


def _loaded(file: Path | BytesIO) -> Image.Image:
    with Image.open(file) as image:
        image.load()
        return image


def _pixels(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    whole = array.dtype.kind in "iu" and array.size > 0 and array.min() >= 0 and array.max() <= 255
    if not whole or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(
            "expected whole numbers from 0 to 255 of shape (height, width) or (height, width, 1, 3, or 4), got "
            f"{array.dtype} of shape {array.shape}"
        )
    return array.astype(np.uint8)


def _name_of(value: Any, folder: Path) -> str:
    if isinstance(value, dict):
        value = value.get("path")
    if not isinstance(value, str):
        return ""
    return f" {shown(value, value if '://' in value else str(folder / value))}"


def to_channels(image: Image.Image, channels: Channels) -> Image.Image:
    """An 8-bit image of one channel (grayscale) or three (RGB), upright.

    - The EXIF orientation is applied, as in image viewers; EXIF that cannot be read is ignored.
    - Transparent pixels are laid over white, as the color below alpha is arbitrary; palettes are resolved. A BMP or TGA
      file whose alpha is 0 everywhere has no alpha.
    - Pixels of 16 bits, in Pillow's mode "I" too, become their upper 8 bits.

    Raises:
        ValueError: pixels are floating-point numbers, whose range is unknown.
    """
    format_ = image.format
    image = _upright(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    elif image.has_transparency_data and not (
        format_ in _UNUSED_ALPHA and image.getbands()[-1] == "A" and image.getchannel("A").getextrema() == (0, 0)
    ):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    wanted = "RGB" if channels == 3 else "L"
    return image if image.mode == wanted else image.convert(wanted)


def _upright(image: Image.Image) -> Image.Image:
    try:
        method = _UPRIGHT.get(image.getexif().get(Base.Orientation, 1))
    except PILLOW_ERRORS:
        method = None
    if method is None:
        return image
    upright = image.transpose(method)
    # The orientation in the other metadata would turn it once more.
    upright.info = {key: value for key, value in upright.info.items() if key == "transparency"}
    return upright


def middle(image: Image.Image, ratio: int) -> Image.Image:
    """The middle of an image, with a longer side of at most `ratio` times the shorter one."""
    width, height = image.size
    longest = ratio * min(image.size)
    if max(image.size) <= longest:
        return image
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))
