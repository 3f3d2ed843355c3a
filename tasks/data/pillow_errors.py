"""Errors that Pillow raises for broken image files, format by format; it has no common class for them."""

import struct
import zlib

from PIL import Image

PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
