"""Reads image sizes, rotation and the links of a chained Ogg from file structure, without a decoder.

MP4 and QuickTime: the display matrix of the video track. WebP: the canvas size. ICO: the sizes of the
embedded images. Libraries report these values only after they have allocated memory or decoded something.
A chained Ogg (RFC 3533 §4) is a concatenation of complete Ogg streams, its links, which may differ in codec,
sample rate and channels, and may share a serial number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sensorium.core.errors import LimitError, MediaError
from sensorium.media.orientation import UPRIGHT, Orientation, from_matrix
from sensorium.media.source import Seekable, Source, byte_range

# A real file has some dozens of boxes at each level.
_MAX_BOXES = 4096
_MAX_ICONS = 256
_MAX_CHUNKS = 1 << 17
_PAGE = b"OggS\x00"
_PAGE_BYTES = 27
_BEGINS = 2  # flag of the first page of a logical stream
_SEARCHED_BYTES = 1 << 16
# A recording of a radio station has a link for each song.
_MAX_LINKS = 4096


def movie_orientation(file: Seekable, num_bytes: int) -> Orientation:
    """Orientation of the first video track of an MP4 or QuickTime file (ISO 14496-12 §8.3.2, `tkhd`)."""
    for start, end in _named(file, 0, num_bytes, b"moov"):
        for track_start, track_end in _named(file, start, end, b"trak"):
            if _is_video(file, track_start, track_end):
                for header, _ in _named(file, track_start, track_end, b"tkhd"):
                    return from_matrix(_matrix(file, header), ">")
    return UPRIGHT


def boxes(file: Seekable, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and declared end of each MP4 box that begins between two positions."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, header_bytes = int.from_bytes(head[:4], "big"), 8
        if size == 1 and len(head) == 16:
            size, header_bytes = int.from_bytes(head[8:16], "big"), 16
        if size == 0:
            size = end - start
        if size < header_bytes:
            return
        yield head[4:8], start + header_bytes, start + size
        start += size


def chunks(
    file: Seekable, at: int, end: int, layout: str, *, trailer: int = 0, padded: bool = False
) -> Iterator[tuple[bytes, int, int]]:
    """Name, start, size of each RIFF (`<4sI`) or PNG (`>I4s`) chunk; MediaError beyond 131,072 chunks."""
    for _ in range(_MAX_CHUNKS):
        if at + 8 > end:
            return
        file.seek(at)
        first, second = struct.unpack(layout, file.read(8))
        name, size = (first, second) if isinstance(first, bytes) else (second, first)
        yield name, at + 8, size
        at += 8 + size + trailer + (size & 1 if padded else 0)
    raise MediaError(f"more than {_MAX_CHUNKS:,} chunks, made to be slow")


def webp_canvas(head: bytes) -> tuple[int, int]:
    """Canvas width and height of a WebP from its first 30 bytes; (0, 0) if they do not contain it."""
    if len(head) < 30:
        return 0, 0
    kind, payload = head[12:16], head[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(payload[4:7], "little"), 1 + int.from_bytes(payload[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(payload[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", payload[6:10])
    return width & 0x3FFF, height & 0x3FFF


def icon_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of each image in an ICO, from the image itself and not from the directory."""
    count = min(int.from_bytes(content[4:6], "little"), _MAX_ICONS)
    for entry in range(6, 6 + 16 * count, 16):
        offset = int.from_bytes(content[entry + 12 : entry + 16], "little")
        picture = content[offset : offset + 24]
        if len(picture) < 24:
            continue
        if picture.startswith(b"\x89PNG"):
            width, height = struct.unpack(">II", picture[16:24])
        else:
            width, height = struct.unpack("<ii", picture[4:12])
        yield abs(width), abs(height)


def links(source: Source) -> list[Source]:
    """Split a file at each start of an Ogg stream; LimitError if there are more than 4,096."""
    starts, at, is_head, page = [0], 0, True, 0
    file = source.file
    while at < source.num_bytes:
        file.seek(at)
        header = file.read(_PAGE_BYTES + 255)
        if not header.startswith(_PAGE) or len(header) < _PAGE_BYTES:
            at = page = _next_page(source, page + 1)  # the last page was cut
            continue
        begins = bool(header[5] & _BEGINS)
        if begins and not is_head:
            starts.append(at)
            if len(starts) > _MAX_LINKS:
                raise LimitError(
                    f"{source.name}: more than {_MAX_LINKS:,} Ogg streams in a chain; split the file"
                )
        is_head = begins
        sizes = header[_PAGE_BYTES : _PAGE_BYTES + header[26]]
        page = at
        at += _PAGE_BYTES + len(sizes) + sum(sizes)
    if len(starts) == 1:
        return [source]
    return [byte_range(source, *ends) for ends in zip(starts, [*starts[1:], source.num_bytes], strict=True)]


def _named(file: Seekable, start: int, end: int, name: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the content of each box called `name` between two positions."""
    return ((content, min(stop, end)) for found, content, stop in boxes(file, start, end) if found == name)


def _is_video(file: Seekable, start: int, end: int) -> bool:
    for media_start, media_end in _named(file, start, end, b"mdia"):
        for handler, _ in _named(file, media_start, media_end, b"hdlr"):
            file.seek(handler + 8)
            return bool(file.read(4) == b"vide")
    return False


def _matrix(file: Seekable, header: int) -> bytes:
    file.seek(header)
    version = file.read(1)
    file.seek(header + (52 if version == b"\x01" else 40))
    return bytes(file.read(36))


def _next_page(source: Source, at: int) -> int:
    """Where the next page begins, or the file ends."""
    while at < source.num_bytes:
        source.file.seek(at)
        searched = source.file.read(_SEARCHED_BYTES)
        place: int = searched.find(_PAGE)
        if place >= 0:
            return at + place
        at += max(len(searched) - len(_PAGE) + 1, 1)
    return source.num_bytes
