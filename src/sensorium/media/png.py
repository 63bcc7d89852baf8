"""PNG features that Pillow lacks: long texts, colour keys at any bit depth, EXIF after the pixels.

Reference: Portable Network Graphics (PNG) Specification, third edition, W3C.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensorium.core.errors import MediaError
from sensorium.media.container_header import chunks
from sensorium.media.source import Seekable, Source

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_SIGNATURE_BYTES = 8
_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
_TELLING, _LATE = ("XML:com.adobe.xmp", "Raw profile type exif"), "late texts"
# Pillow refuses a text or profile that is longer once inflated.
_MAX_PILLOW_BYTES = 1 << 20
_MAX_BYTES = 16 << 20
# Deflate makes at most 1,032 bytes of one.
_MAX_RATIO = 1032


@dataclass(frozen=True)
class Chunk:
    """Position of one chunk's content."""

    name: bytes
    start: int
    size: int


def list_chunks(source: Source) -> list[Chunk]:
    """List the chunks up to the end of the image.

    Raises:
        MediaError: If there are more than 131,072 chunks.
    """
    found = []
    for one in chunks(source.file, _SIGNATURE_BYTES, source.num_bytes, ">I4s", trailer=4):
        found.append(Chunk(*one))
        if one[0] == b"IEND":
            break
    return found


def without_long_texts(source: Source, layout: list[Chunk]) -> Seekable:
    """Return the file without compressed texts and profiles that exceed Pillow's limit.

    Raises:
        MediaError: If one inflates to more than 16 MB.
    """
    long = [
        one for one in layout if one.name in _COMPRESSED and _inflated_bytes(source, one) > _MAX_PILLOW_BYTES
    ]
    if not long:
        return source.file
    content, parts, at = source.content(), [], 0
    for one in long:
        parts.append(content[at : one.start - 8])
        at = one.start + one.size + 4
    return io.BytesIO(b"".join([*parts, content[at:]]))


def mend(picture: ImageFile, source: Source, layout: list[Chunk]) -> None:
    """Add what Pillow misses before pixels are loaded: the colour key (tRNS), and EXIF after the pixels.

    For samples below 16 bits only the low bits of the key count (section 11.3.1.1).
    """
    stored = {one.name: one for one in layout if one.name in (b"tRNS", b"eXIf")}
    if b"eXIf" in stored:
        picture.info["exif"] = b"Exif\0\0" + _content(source, stored[b"eXIf"])
    if _has_late_texts(source, layout):
        picture.info[_LATE] = True
    if "transparency" not in picture.info:
        return
    key, depth = picture.info["transparency"], source.head()[24]
    if picture.mode == "1" and b"tRNS" in stored:  # Pillow takes any key but 0 for 1
        picture.info["transparency"] = (_content(source, stored[b"tRNS"])[1] & 1) * 255
    elif picture.mode == "L" and isinstance(key, int):
        top = (1 << depth) - 1
        picture.info["transparency"] = (key & top) * 255 // top
    elif picture.mode == "RGB" and isinstance(key, tuple) and depth == 8:
        picture.info["transparency"] = tuple(sample & 0xFF for sample in key)


def tells_orientation(picture: ImageFile) -> bool:
    """Whether a PNG has EXIF or XMP; texts after the pixels are loaded to find it."""
    return any(name in picture.info for name in ("exif", _LATE, *_TELLING))


def _has_late_texts(source: Source, layout: list[Chunk]) -> bool:
    names = [one.name for one in layout]
    first = names.index(b"IDAT") if b"IDAT" in names else len(names)
    texts = [one for one in layout[first:] if one.name in (b"tEXt", *_COMPRESSED)]
    return any(_content(source, one).startswith(tuple(name.encode() for name in _TELLING)) for one in texts)


def _content(source: Source, one: Chunk) -> bytes:
    source.file.seek(one.start)
    return bytes(source.file.read(one.size))


def _inflated_bytes(source: Source, one: Chunk) -> int:
    if one.size * _MAX_RATIO < _MAX_PILLOW_BYTES:
        return 0
    _, _, rest = _content(source, one).partition(b"\0")
    if one.name == b"iTXt":
        is_compressed, rest = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        if not is_compressed:
            return 0
    else:
        rest = rest[1:]
    inflate, total = zlib.decompressobj(), 0
    try:
        while rest and not inflate.eof:
            total += len(inflate.decompress(rest, _MAX_PILLOW_BYTES))
            rest = inflate.unconsumed_tail
            if total > _MAX_BYTES:
                what = f"PNG whose {one.name.decode()} inflates to more than {_MAX_BYTES >> 20} MB"
                raise MediaError(f"{source.name}: {what}")
    except zlib.error:
        pass  # damaged, and of no account for the pixels
    return total
