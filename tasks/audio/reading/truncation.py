"""Bytes that the end of a sound file lacks, where its container tells: decoders take such a file for a shorter sound.

Of the other formats, a FLAC file tells the number of its samples, which a decoder then does not find, and an MP3 file
tells nothing that could be relied on.
"""

import os
import struct
from typing import BinaryIO

# Lengths that programs write who do not know them yet, from 2 GiB less some KiB on.
_ENDLESS = 0x7FFF0000
# Some programs count the headers before the samples.
_SLACK = 64
# Header, table of 255 segments, and these.
_LARGEST_PAGE = 27 + 255 + 255 * 255
_PAGE_HEADER = 27


def missing_bytes(file: BinaryIO) -> int:
    """How many bytes were cut off the end of a file, at least; 0 where its container does not tell.

    Args:
        file: A file that can be sought in: WAV (RIFF), AIFF, Ogg, or another.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    kind, form = start[:4], start[8:]
    if kind in (b"RIFF", b"RIFX") and form == b"WAVE":
        return _missing_samples(file, size, b"data", "<4sI" if kind == b"RIFF" else ">4sI")
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return _missing_samples(file, size, b"SSND", ">4sI")
    return _missing_of_page(file, size) if kind == b"OggS" else 0


def _missing_samples(file: BinaryIO, size: int, wanted: bytes, header: str) -> int:
    """What the chunk of the samples lacks; the chunks begin after twelve bytes, each with its name and length."""
    place = 12
    while place + 8 <= size:
        file.seek(place)
        name, length = struct.unpack(header, file.read(8))
        if name == wanted:
            missing = place + 8 + length - size
            return missing if length < _ENDLESS and missing > _SLACK else 0
        place += 8 + length + length % 2
    return 0


def _missing_of_page(file: BinaryIO, size: int) -> int:
    """What the last page lacks."""
    file.seek(max(0, size - _LARGEST_PAGE))
    end = file.read()
    begin = end.rfind(b"OggS\0")
    if begin < 0:
        return 0
    page = end[begin:]
    if len(page) < _PAGE_HEADER:
        return _PAGE_HEADER - len(page)
    segments = page[_PAGE_HEADER : _PAGE_HEADER + page[_PAGE_HEADER - 1]]
    return max(0, _PAGE_HEADER + page[_PAGE_HEADER - 1] + sum(segments) - len(page))
