"""What Pillow raises on broken files of pictures, format by format; it has no common class for it."""

import struct
import zlib

from PIL import Image

PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
