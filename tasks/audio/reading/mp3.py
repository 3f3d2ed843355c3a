"""MP3 files frame by frame: whether the end is missing, and an honest length for a decoder that believes it.

A decoder takes the length from a tag in the first frame (Xing or Info), and guesses it from the size of the file where
there is none; at that length it stops. The tag counts the frames of one file, also where another was appended.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

# Bits per second by the index in a header, in thousands; layer III of version 1, and of versions 2 and 2.5.
_RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_TAGS = (b"Xing", b"Info")
# Some programs count the frame of the tag, and the last one may be left unfinished.
_SLACK = 2


class Mp3(NamedTuple):
    """What an MP3 file holds.

    Attributes:
        first: Place of the first frame of sound.
        header: Header of that.
        frames: Number of whole frames of sound.
        told: Number of them that a tag tells; None without one.
        rate: Frames per second.
    """

    first: int
    header: bytes
    frames: int
    told: int | None
    rate: float

    @property
    def missing(self) -> float:
        """Seconds that were cut off the end; 0 where no tag tells."""
        lacking = (self.told or 0) - self.frames
        return lacking / self.rate if lacking > _SLACK else 0.0

    @property
    def honest(self) -> bool:
        """Whether a decoder is told the right length."""
        return self.told is not None and abs(self.told - self.frames) <= _SLACK


def read_mp3(content: bytes) -> Mp3 | None:
    """What a file holds; None where it is none of layer III, or of no fixed rates.

    Args:
        content: The file.

    Source: ISO/IEC 11172-3 and 13818-3, headers of frames; the tag is that of the Xing encoder.
    """
    found: Mp3 | None = None
    frames = 0
    for place, length in _frames(content):
        if found is None:
            header = content[place : place + 4]
            version, sample_rate = header[1] >> 3 & 3, _SAMPLE_RATES[header[1] >> 3 & 3][header[2] >> 2 & 3]
            rate = sample_rate / (1152 if version == 3 else 576)
            told = _told(content[place : place + length], header)
            found = Mp3(place if told is None else place + length, header, 0, told, rate)
            frames -= told is not None
        frames += 1
    return None if found is None else found._replace(frames=frames)


def with_honest_length(content: bytes, mp3: Mp3) -> bytes:
    """The file with a tag in front that tells how many frames there are."""
    header = bytes([mp3.header[0], mp3.header[1] | 1, *mp3.header[2:]])  # no checksum follows
    tag = bytearray(_length(header) or 0)
    tag[:4] = header
    start = _tag_place(header)
    tag[start : start + 12] = b"Info" + struct.pack(">II", 1, mp3.frames)
    return bytes(tag) + content[mp3.first :]


def _frames(content: bytes) -> Iterator[tuple[int, int]]:
    """Place and length of each whole frame; what lies between, such as tags, is passed over."""
    place, kind = _behind_id3(content, 0), None
    while place + 4 <= len(content):
        length = _length(content[place : place + 4])
        if length is None or (kind is not None and _kind(content, place) != kind):
            after = _behind_id3(content, place)
            place = after if after > place else content.find(b"\xff", place + 1)
            if place < 0:
                return
            continue
        if place + length > len(content):
            return
        follows = _length(content[place + length : place + length + 4])
        if kind is None and follows is None and place + length + 4 <= len(content):
            place += 1  # a chance likeness before the first frame
            continue
        kind = _kind(content, place)
        yield place, length
        place += length


def _kind(content: bytes, place: int) -> tuple[int, int]:
    """What all frames of a stream have in common: version, layer and sample rate."""
    return content[place + 1] & 0xFE, content[place + 2] & 0x0C


def _length(header: bytes) -> int | None:
    """Bytes of the frame of a header; None where it is none of layer III, or its rate is free."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bits, hertz, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer != 1 or bits in (0, 15) or hertz == 3:
        return None
    rate = 1000 * (_RATES_1 if version == 3 else _RATES_2)[bits]
    return (144 if version == 3 else 72) * rate // _SAMPLE_RATES[version][hertz] + padding


def _tag_place(header: bytes) -> int:
    """Where a tag lies in a frame: behind the header, its checksum and the side information."""
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if header[1] >> 3 & 3 == 3 else (9 if mono else 17)
    return 4 + side + (0 if header[1] & 1 else 2)


def _told(frame: bytes, header: bytes) -> int | None:
    """Frames that the tag of a frame tells; None where it is one of sound, or does not tell."""
    start = _tag_place(header)
    if frame[start : start + 4] not in _TAGS or len(frame) < start + 12:
        return None
    flags, count = struct.unpack(">II", frame[start + 4 : start + 12])
    return count if flags & 1 else None


def _behind_id3(content: bytes, place: int) -> int:
    """The place behind a tag of names and pictures (ID3v2); the same place where there is none."""
    if content[place : place + 3] != b"ID3" or place + 10 > len(content):
        return place
    size = 0
    for byte in content[place + 6 : place + 10]:
        size = size << 7 | byte & 0x7F
    return place + 10 + size
