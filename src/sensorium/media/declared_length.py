"""Checks whether the length that a media file declares is correct, from its structure and without a decoder.

A recorder that crashes or writes to a pipe leaves lengths of 0, -1 or an estimate. A truncated download keeps
the original length. The module detects such files, and repairs the header of a WAV or AU.
"""

from __future__ import annotations

import re
import struct

from sensorium.media.container_header import boxes
from sensorium.media.source import Source, byte_range

_MAX_CHUNKS = 4096
_MAX_FORMAT_BYTES = 1 << 16
_UNKNOWN = 0xFFFFFFFF
_TAIL_BYTES = 1 << 18
# FFmpeg guesses the length of these from a bit rate.
_GUESSED = ("aac", "amr", "mpegvideo")
_TAG_BYTES = 1 << 12
# What may stand behind the last frame of an MP3.
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"3DI", bytes(16))


def with_repaired_header(source: Source, format_name: str) -> Source | None:
    """Return a WAV or AU with a corrected header, if its declared length is 0 or wrong.

    None if there is nothing to repair: another format, or no audio data.
    """
    if format_name == "wav":
        return _repaired_wav(source)
    if format_name == "au":
        head = source.head()
        start = int.from_bytes(head[4:8], "big")
        if 24 <= start < min(source.num_bytes, len(head)):
            beginning = head[:8] + _UNKNOWN.to_bytes(4, "big") + head[12:start]
            return byte_range(source, start, source.num_bytes, beginning)
    return None


def has_correct_length(source: Source, format_name: str) -> bool:
    """Whether the declared length matches the content, as far as the structure shows.

    The position of the file is kept, because a container may be reading it.
    """
    if format_name in _GUESSED:
        return False
    is_whole = _IS_WHOLE.get(format_name)
    if is_whole is None:
        return True
    at = source.file.tell()
    try:
        return is_whole(source)
    finally:
        source.file.seek(at)


def _repaired_wav(source: Source) -> Source | None:
    """The `fmt ` and `data` chunks alone, with the length that is there."""
    file = source.file
    file.seek(0)
    head = file.read(12)
    order = ">" if head[:4] == b"RIFX" else "<"
    riff_end = 8 + struct.unpack(order + "I", head[4:8])[0]
    at, format_ = 12, b""
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return None
        size = struct.unpack(order + "I", header[4:])[0]
        if header[:4] == b"fmt ":
            if size > _MAX_FORMAT_BYTES:
                return None
            format_ = header + file.read(size + size % 2)
        if header[:4] == b"data":
            break
        at += 8 + size
        if size % 2:  # usually padded to an even length
            file.seek(at)
            at += re.fullmatch(rb"[ -~]{4}", file.read(4)) is None
    start, end = at + 8, source.num_bytes
    is_empty = size == 0 and start < riff_end <= end  # other chunks follow
    if not format_ or start >= end or is_empty:
        return None
    if 0 < size < end - start:
        end = start + size
    length = min(end - start, _UNKNOWN)
    whole = min(length + len(format_) + 12, _UNKNOWN)
    magic = b"RIFX" if order == ">" else b"RIFF"
    beginning = magic + struct.pack(order + "I", whole) + b"WAVE" + format_
    return byte_range(source, start, end, beginning + b"data" + struct.pack(order + "I", length))


def _is_whole_flac(source: Source) -> bool:
    """Whether a frame near the end, if any, ends where STREAMINFO says the sound does (RFC 9639 §9.1)."""
    head = source.head()
    if head[:4] != b"fLaC" or head[4] & 0x7F or len(head) < 42:
        return False
    total = int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF
    largest, longest = int.from_bytes(head[10:12], "big"), int.from_bytes(head[15:18], "big")
    start = max(0, source.num_bytes - max(_TAIL_BYTES, 2 * longest))
    source.file.seek(start)
    tail = source.file.read()
    ends = [
        _flac_frame_end(tail[found.start() : found.start() + 16], largest)
        for found in re.finditer(rb"\xff[\xf8\xf9]", tail)
    ]
    return not any(ends) or total in ends


def _flac_frame_end(header: bytes, largest: int) -> int | None:
    """Number of the sample after a frame, from its header; None if it is none."""
    if len(header) < 16 or header[2] >> 4 == 0 or header[3] & 1:
        return None
    ones = 8 - (header[4] ^ 0xFF).bit_length()
    number, at = header[4] & (0x7F >> ones), 5
    for _ in range(max(ones - 1, 0)):
        number, at = number << 6 | header[at] & 0x3F, at + 1
    code, rate = header[2] >> 4, header[2] & 15
    if code in (6, 7):
        length = 1 + int.from_bytes(header[at : at + code - 5], "big")
        at += code - 5
    else:
        length = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    at += 1 if rate == 12 else 2 if rate in (13, 14) else 0
    if at >= len(header) or _crc8(header[:at]) != header[at]:
        return None
    is_variable = header[1] & 1
    return (number if is_variable else number * largest) + length


def _crc8(content: bytes) -> int:
    rest = 0
    for byte in content:
        rest ^= byte
        for _ in range(8):
            rest = (rest << 1 ^ 0x07 if rest & 0x80 else rest << 1) & 0xFF
    return rest


def _is_whole_mp3(source: Source) -> bool:
    """Whether a Xing or Info header says how many bytes there are, and they are there."""
    file, start = source.file, 0
    file.seek(0)
    tag = file.read(10)
    if tag[:3] == b"ID3" and len(tag) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    head = file.read(_TAG_BYTES)
    found = re.search(rb"Xing|Info", head[:200])
    if found is None:
        return False
    at = found.end()
    flags = int.from_bytes(head[at : at + 4], "big")
    if flags & 3 != 3:
        return False
    end = start + int.from_bytes(head[at + 8 : at + 12], "big")
    file.seek(end)
    rest = file.read(_TAG_BYTES)
    return end == source.num_bytes or rest.startswith(_TAGS)


def _is_whole_mp4(source: Source) -> bool:
    """Whether the boxes of the file end within it, and none is a fragment."""
    found = boxes(source.file, 0, source.num_bytes)
    return all(name != b"moof" and end <= source.num_bytes for name, _, end in found)


def _is_whole_matroska(source: Source) -> bool:
    """Whether the segment has a length and ends within the file."""
    head = source.head()
    at = 4
    size, at = _vint(head, at)
    at += size or 0
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return True
    size, at = _vint(head, at + 4)
    return size is None or at + size <= source.num_bytes


def _vint(head: bytes, at: int) -> tuple[int | None, int]:
    """A length of EBML and where it ends; None if it is unknown."""
    if at >= len(head) or head[at] == 0:
        return None, at + 1
    count = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + count], "big") & (1 << 7 * count) - 1
    return None if value == (1 << 7 * count) - 1 else value, at + count


def _is_whole_avi(source: Source) -> bool:
    """Whether each RIFF of the file ends within it."""
    at = 0
    while at < source.num_bytes:
        source.file.seek(at)
        header = source.file.read(8)
        if header[:4] != b"RIFF":
            return at > 0
        size = int.from_bytes(header[4:8], "little")
        if size < 4:
            return False
        at += 8 + size + size % 2
    return at <= source.num_bytes + 1


_IS_WHOLE = {
    "flac": _is_whole_flac,
    "mp3": _is_whole_mp3,
    "mp4": _is_whole_mp4,
    "matroska": _is_whole_matroska,
    "avi": _is_whole_avi,
}
