"""Texts and pictures as strings: a picture is the sequence of its grey pixels, one character each."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tasks.data.pillow_errors import PILLOW_ERRORS

# The 256 Braille patterns: printable, of no other use in texts, and in the order of the values.
_FIRST = 0x2800
ALL_PIXELS = "".join(chr(_FIRST + value) for value in range(256))


def as_text(value: Any) -> tuple[str, str | None]:
    """What a column of texts or pictures holds, as a string.

    Args:
        value: A string, or ``{"bytes", "path"}`` as `datasets` keeps pictures.

    Returns:
        The string, and None; or "" and what is wrong: it is missing, empty, no text, or a picture that cannot be read.
    """
    picture = isinstance(value, dict)
    if value is None or (picture and value.get("bytes") is None and not value.get("path")):
        return "", "the text is missing"
    if picture:
        return _pixels(value)
    if not isinstance(value, str):
        return "", f"expected a text, got {value!r}, which is of type {type(value).__name__}"
    # A lone surrogate has no place in UTF-8; two that belong together are one character.
    value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return (value, None) if value.strip() else ("", "the text is empty")


def _pixels(value: dict[str, Any]) -> tuple[str, str | None]:
    try:
        with Image.open(value["path"] if value.get("bytes") is None else BytesIO(value["bytes"])) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
            grey = np.asarray(image.convert("L"))
    except PILLOW_ERRORS as error:
        return "", f"the picture cannot be decoded: {error}"
    return (grey.astype("<u2").ravel() + np.uint16(_FIRST)).tobytes().decode("utf-16-le"), None
