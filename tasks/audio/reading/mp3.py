"""Frames of MP3 files: whether the end is missing, and a tag with the correct length for the decoder.

libsndfile stops at the length in the tag of the first frame (Xing or Info), which is wrong if another file was
appended; without a tag it stops at an estimate from the size of the file, far too early if the bit rate varies. No
library detects a file that was cut: soundfile, mutagen, tinytag, and miniaudio give the length of the tag, or decode
the rest. PyAV counts frames, but does not say whether its length is an estimate, and takes 100 MB. So the frames are
counted here, an hour of audio in half a second.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

# Bit rates (kbit/s) by their index in a header: layer III of version 1, and of versions 2 and 2.5.
_RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
# Sample rates (Hz) by the code of the version in a header: 3 is version 1, 2 is version 2, 0 is version 2.5.
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
# Some programs count the frame of the tag, and the last frame may be incomplete.
_TOLERANCE = 2


class Mp3(NamedTuple):
    """The frames of an MP3 file."""

    start: int  # position of the first audio frame
    header: bytes  # of the first audio frame
    frames: int  # whole audio frames in the file
    tag_frames: int | None  # audio frames by the tag; None without a tag
    tag_is_read: bool  # whether the decoder finds the tag
    frame_rate: float  # frames per second

    @property
    def missing_seconds(self) -> float:
        """Duration that was cut off the end; 0 without a tag."""
        missing = (self.tag_frames or 0) - self.frames
        return missing / self.frame_rate if missing > _TOLERANCE else 0.0

    @property
    def has_right_tag(self) -> bool:
        """Whether the decoder finds the correct length in the tag."""
        return self.tag_is_read and self.tag_frames is not None and abs(self.tag_frames - self.frames) <= _TOLERANCE


def read_mp3(content: bytes) -> Mp3 | None:
    """The frames of the content of a file; None if it is not MPEG layer III or frames do not give their bit rates.

    Source: ISO/IEC 11172-3 and 13818-3, headers of frames; the tag of the Xing encoder.
    """
    frames = _frames(content)
    position, length = next(frames, (0, 0))
    if not length:
        return None
    count = 1 + sum(1 for _ in frames)
    header = content[position : position + 4]
    version = header[1] >> 3 & 3
    frame_rate = _SAMPLE_RATES[version][header[2] >> 2 & 3] / (1152 if version == 3 else 576)
    tag_frames, is_read = _tag(content[position : position + length], header)
    if tag_frames is None:
        return Mp3(position, header, count, None, is_read, frame_rate)
    return Mp3(position + length, header, count - 1, tag_frames, is_read, frame_rate)


def with_right_tag(content: bytes, mp3: Mp3) -> bytes:
    """A copy of a file that begins with a tag of its number of frames."""
    header = bytes([mp3.header[0], mp3.header[1] | 1, *mp3.header[2:]])  # without a checksum
    tag = bytearray(_length(header) or 0)
    tag[:4] = header
    start = _tag_position(header)
    tag[start : start + 12] = b"Info" + struct.pack(">II", 1, mp3.frames)
    return bytes(tag) + content[mp3.start :]


def _frames(content: bytes) -> Iterator[tuple[int, int]]:
    """Position and length of each whole frame; bytes between frames, such as those of other tags, are skipped."""
    position, kind = _after_id3(content, 0), None
    while position + 4 <= len(content):
        length = _length(content[position : position + 4])
        if length is None or (kind is not None and _kind(content, position) != kind):
            after = _after_id3(content, position)
            position = after if after > position else content.find(b"\xff", position + 1)
            if position < 0:
                return
            continue
        if position + length > len(content):
            return
        next_length = _length(content[position + length : position + length + 4])
        if kind is None and next_length is None and position + length + 4 <= len(content):
            position += 1  # bytes before the first frame that look like a header
            continue
        kind = _kind(content, position)
        yield position, length
        position += length


def _kind(content: bytes, position: int) -> tuple[int, int]:
    """Version, layer, and sample rate, which all frames of a stream share."""
    return content[position + 1] & 0xFE, content[position + 2] & 0x0C


def _length(header: bytes) -> int | None:
    """Length of a frame in bytes; None unless the header is of layer III and gives the bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bits, hertz, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer != 1 or bits in (0, 15) or hertz == 3:
        return None
    rate = 1000 * (_RATES_1 if version == 3 else _RATES_2)[bits]
    return (144 if version == 3 else 72) * rate // _SAMPLE_RATES[version][hertz] + padding


def _tag_position(header: bytes) -> int:
    """Position of the tag in a frame for the decoder: after the header and the side information."""
    mono = header[3] >> 6 == 3
    return 4 + ((17 if mono else 32) if header[1] >> 3 & 3 == 3 else (9 if mono else 17))


def _tag(frame: bytes, header: bytes) -> tuple[int | None, bool]:
    """The number of frames by the tag of a frame, None without a tag, and whether the decoder finds the tag.

    Some programs put the tag after the two bytes of the checksum, where the decoder does not look.
    """
    for start in (_tag_position(header), _tag_position(header) + 2):
        if frame[start : start + 4] in (b"Xing", b"Info") and len(frame) >= start + 12:
            flags, count = struct.unpack(">II", frame[start + 4 : start + 12])
            return (count if flags & 1 else None), start == _tag_position(header)
    return None, False


def _after_id3(content: bytes, position: int) -> int:
    """The position after a tag of titles and images (ID3v2); the same position without a tag."""
    if content[position : position + 3] != b"ID3" or position + 10 > len(content):
        return position
    size = 0
    for byte in content[position + 6 : position + 10]:
        size = size << 7 | byte & 0x7F
    return position + 10 + size
