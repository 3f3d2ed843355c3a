"""Audio files whose header and content disagree: the end was cut off, or the length was never written.

libsndfile reads a file that was cut as a shorter recording, and a file whose header gives no length as an empty one.
FLAC files need no check here: their headers give the number of samples, which is compared when they are read.
"""

import os
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple

from tasks.audio.reading.mp3 import read_mp3, with_right_tag
from tasks.data.examples import ReadError

# Larger lengths, of about 2 GiB or more, mean that the length was unknown when the header was written.
_UNKNOWN_LENGTH = 0x7FFF0000
# Bytes of headers that some programs count as samples.
_TOLERANCE = 64
# A page of Ogg: its header, a table of up to 255 segments, and the segments of up to 255 bytes each.
_PAGE_HEADER = 27
_LARGEST_PAGE = _PAGE_HEADER + 255 + 255 * 255
# Codes of MPEG audio in the format chunk of a WAV file.
_MPEG = (b"\x50\x00", b"\x55\x00")


class _Samples(NamedTuple):
    """Position and length of the samples in a WAV or AIFF file, and whether they are MPEG audio."""

    start: int
    length: int
    mpeg: bool


def readable_copy(file: BinaryIO, name: str) -> BytesIO | None:
    """A copy of a file that libsndfile reads to its end; None if it does so with the file.

    Args:
        file: A seekable audio file.
        name: Name of the recording in messages, after a space.

    Raises:
        ReadError: The file is empty or was cut.
    """
    if file.seek(0, os.SEEK_END) == 0:
        raise ReadError(f"the recording{name} is an empty file")
    if missing := missing_bytes(file):
        raise ReadError(f"the recording{name} is cut short: {missing:,} bytes at its end are missing")
    samples, start = _samples(file), _read(file, 0, 12)
    mpeg = start[:3] == b"ID3" or (start[0] == 0xFF and start[1:2] >= b"\xe0")
    if mpeg or (samples and samples.mpeg):
        content = _read(file, samples.start, samples.length or -1) if samples else _read(file, 0, -1)
        mp3 = read_mp3(content)
        if mp3 is None or mp3.has_right_tag:
            return BytesIO(content) if samples else None
        if mp3.missing_seconds:
            raise ReadError(f"the recording{name} is cut short: {mp3.missing_seconds:.2f} s at its end are missing")
        return BytesIO(with_right_tag(content, mp3))
    position = 8 if start[:4] == b".snd" else samples.start - 4 if samples and start[:4] != b"FORM" else None
    if position is None or _read(file, position, 4) != bytes(4) or _ends_in_chunks(file, position + 4, start[:4]):
        return None
    content = _read(file, 0, -1)
    return BytesIO(content[:position] + b"\xff\xff\xff\xff" + content[position + 4 :])


def missing_bytes(file: BinaryIO) -> int:
    """Minimum number of bytes that were cut off the end of a seekable file; 0 if the container does not show it."""
    size = file.seek(0, os.SEEK_END)
    if samples := _samples(file):
        missing = samples.start + samples.length - size
        return missing if samples.length < _UNKNOWN_LENGTH and missing > _TOLERANCE else 0
    return _missing_of_page(file, size) if _read(file, 0, 4) == b"OggS" else 0


def _samples(file: BinaryIO) -> _Samples | None:
    """The samples of a WAV or AIFF file; None for other files and without samples."""
    header = _read(file, 0, 12)
    if header[:4] + header[8:] not in (b"RIFFWAVE", b"RIFXWAVE", b"FORMAIFF", b"FORMAIFC"):
        return None
    mpeg = False
    for name, start, length in _chunks(file, 12, header[:4]):
        if name == b"fmt ":
            mpeg = _read(file, start, 2) in _MPEG
        if name in (b"data", b"SSND"):
            return _Samples(start, length, mpeg)
    return None


def _chunks(file: BinaryIO, position: int, kind: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, position, and length of the content of each chunk from a position on, as the headers give them."""
    while len(header := _read(file, position, 8)) == 8:
        name, length = struct.unpack("<4sI" if kind == b"RIFF" else ">4sI", header)
        yield name, position + 8, length
        position += 8 + length + length % 2


def _ends_in_chunks(file: BinaryIO, position: int, kind: bytes) -> bool:
    """Whether a file holds only whole chunks, such as titles, from a position on."""
    for name, start, length in _chunks(file, position, kind):
        if not name.isascii() or not name.decode().isprintable():
            return False
        position = start + length + length % 2
    return position >= file.seek(0, os.SEEK_END)


def _missing_of_page(file: BinaryIO, size: int) -> int:
    """Number of missing bytes of the last page of an Ogg file."""
    end = _read(file, max(0, size - _LARGEST_PAGE), -1)
    begin = end.rfind(b"OggS\0")
    if begin < 0:
        return 0
    page = end[begin:]
    if len(page) < _PAGE_HEADER:
        return _PAGE_HEADER - len(page)
    content = _PAGE_HEADER + page[_PAGE_HEADER - 1]  # after the table of segments
    return max(0, content + sum(page[_PAGE_HEADER:content]) - len(page))


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)
