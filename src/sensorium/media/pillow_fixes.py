"""Corrects what Pillow reads incompletely, by format, and suppresses the warnings of its libraries.

- GIF: fills the background, the area that no frame covers (GIF89a, section 18), frame by frame. Pillow fills
  it with colour 0 of the current palette.
- JPEG: refuses files with very many segments or scans, because they are slow to decode; recognises a complete
  image without an end marker.
- PNG: long texts, colour keys at any bit depth, EXIF after the pixels.
- TIFF: inverted grey, 8-bit palettes, YCbCr reference values, deep planes.

Reference: Portable Network Graphics (PNG) Specification, third edition, W3C; TIFF revision 6.0, Adobe 1992.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import re
import threading
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import MediaError
from sensorium.media.container_header import chunks
from sensorium.media.pixels import Levels
from sensorium.media.source import Seekable, Source

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_WHITE = (255, 255, 255)
# A progressive JPEG repeats the whole picture in each scan; ordinary ones have about ten.
_MAX_SCANS = 100
_MAX_SEGMENTS = 1 << 14
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# Stuffed bytes, fill bytes and restarts are no segments.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_FILLER = bytes(range(1, 200)) * 9
_SIGNATURE_BYTES = 8
_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
_TELLING, _LATE = ("XML:com.adobe.xmp", "Raw profile type exif"), "late texts"
# Pillow refuses a text or profile that is longer once inflated.
_MAX_PILLOW_BYTES = 1 << 20
_MAX_INFLATED_BYTES = 16 << 20
# Deflate makes at most 1,032 bytes of one.
_MAX_RATIO = 1032
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR, _COLOR_MAP = 256, 257, 258, 262, 284, 320
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _YCBCR_SUBSAMPLING, _REFERENCE_BLACK_WHITE = 338, 339, 530, 532
_WHITE_IS_ZERO, _SEPARATE, _SIGNED, _ASSOCIATED_ALPHA = 0, 2, 2, 1


class _Silence:
    """Context in which Python warnings are dropped.

    `warnings.catch_warnings` alone is not safe in threads: contexts that overlap restore each other's
    filters. Here the first to enter saves the filters and the last to leave restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._saved is not None:
                self._saved.__exit__(kind, error, trace)
                self._saved = None


silence = _Silence()
"""The one context that all decoders share."""


@cache
def quiet_libtiff() -> None:
    """Stop Pillow's libtiff from printing errors to standard error.

    Pillow's own log of them is suppressed too while logging is not configured.
    """
    from PIL import _imaging

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # The symbols are looked up in the extension and what it is linked with; elsewhere there is nothing to do.
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


class GifBackground:
    """Fills the uncovered area, frame by frame, of a GIF at its first frame that is not loaded yet."""

    def __init__(self, picture: ImageFile) -> None:
        # With a transparent colour, Pillow leaves the rest transparent, as browsers do.
        self._colour = None if "transparency" in picture.info else _gif_colour(picture)
        self._is_covered = np.zeros((0, 0), bool)

    def paint(self, picture: ImageFile, pixels: np.ndarray | None) -> None:
        """Fill the uncovered area of the frame's pixels (H, W, 3) in place; None if they are not needed."""
        if self._colour is None:
            return
        width, height = picture.size
        seen_height, seen_width = self._is_covered.shape
        if (height, width) != (seen_height, seen_width):
            larger = np.zeros((height, width), bool)
            larger[:seen_height, :seen_width] = self._is_covered
            self._is_covered = larger
        left, top, right, bottom = picture.dispose_extent  # type: ignore[attr-defined]
        self._is_covered[top:bottom, left:right] = True
        if self._is_covered.all():
            self._colour = None
        elif pixels is not None:
            pixels[~self._is_covered] = self._colour


def _gif_colour(picture: ImageFile) -> tuple[int, ...]:
    index = picture.info.get("background")
    if index is None:  # without a global palette the index is invalid
        return _WHITE
    palette = picture.global_palette  # type: ignore[attr-defined]
    if palette is None:  # a ramp of greys
        return (index, index, index)
    return tuple(palette.palette[3 * index : 3 * index + 3]) or _WHITE


def check_segments(source: Source) -> None:
    """Refuse a JPEG of more than 16,384 segments (a colour profile of 16 MB takes 255)."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        source.file.seek(at)
        head: bytes = source.file.read(4)
        if len(head) < 4 or head[0] != _SCAN[0] or head[:2] == _SCAN:
            return
        at += 2 + int.from_bytes(head[2:], "big")
    raise MediaError(f"{source.name}: JPEG of more than {_MAX_SEGMENTS:,} segments, made to be slow")


def check_scans(source: Source) -> None:
    """Refuse a JPEG of more than 100 scans, because decoding is slow."""
    content = source.content()
    # A plain search is fast, but also finds scans of thumbnails and of trailing data.
    if content.count(_SCAN) <= _MAX_SCANS:
        return
    scans = num_scans(content)
    if scans > _MAX_SCANS:
        raise MediaError(
            f"{source.name}: JPEG of {scans} scans, made to be slow; expected at most {_MAX_SCANS}"
        )


def num_scans(content: bytes) -> int:
    """Number of scans of a JPEG, from its start to its end marker (ITU-T T.81, B.1.1)."""
    at, scans = 2, 0
    while (marker := _MARKER.search(content, at)) is not None:
        at = marker.end()
        if marker[0] == _END:
            break
        scans += marker[0] == _SCAN
        at += int.from_bytes(content[at : at + 2], "big")
    return scans


def load_without_end(source: Source, reopen: Callable[[Source], ImageFile]) -> ImageFile | None:
    """Load a JPEG that lacks its end marker; None if image data are missing too.

    libjpeg fills missing data from the bytes that follow. The image is complete if different filler bytes
    give the same pixels. `reopen` opens another source with the same options and scale.
    """
    pictures = []
    for filler in (b"", _FILLER):
        content = source.content().removesuffix(b"\xff") + filler + _END
        picture = reopen(Source(io.BytesIO(content), len(content), source.uri))
        picture.load()
        pictures.append(picture)
    return pictures[0] if pictures[0].tobytes() == pictures[1].tobytes() else None


@dataclass(frozen=True)
class Chunk:
    """Position of one chunk's content."""

    name: bytes
    start: int
    size: int


def list_chunks(source: Source) -> list[Chunk]:
    """List the chunks up to the end of the image; MediaError if there are more than 131,072."""
    found = []
    for one in chunks(source.file, _SIGNATURE_BYTES, source.num_bytes, ">I4s", trailer=4):
        found.append(Chunk(*one))
        if one[0] == b"IEND":
            break
    return found


def without_long_texts(source: Source, layout: list[Chunk]) -> Seekable:
    """Return the file without compressed texts and profiles that exceed Pillow's limit.

    MediaError if one inflates to more than 16 MB.
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


def mend_png(picture: ImageFile, source: Source, layout: list[Chunk]) -> None:
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
            if total > _MAX_INFLATED_BYTES:
                what = f"PNG whose {one.name.decode()} inflates to more than {_MAX_INFLATED_BYTES >> 20} MB"
                raise MediaError(f"{source.name}: {what}")
    except zlib.error:
        pass  # damaged, and of no account for the pixels
    return total


def mend_tiff(picture: ImageFile) -> None:
    """Correct Pillow's settings before pixels are loaded; MediaError if no correct one is known."""
    tags, uses_libtiff = picture.tag_v2, picture.use_load_libtiff  # type: ignore[attr-defined]
    if picture.mode in ("P", "PA"):
        _mend_palette(picture, tags)
    is_plain = tags.get(_YCBCR_SUBSAMPLING, (2, 2)) == (1, 1) and _REFERENCE_BLACK_WHITE not in tags
    if picture.mode == "YCbCr" and not is_plain:
        picture._mode = "RGB"
        _use_libtiff(picture, "RGBX")
    elif not uses_libtiff and is_separate(picture) and max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8:
        is_known = picture.mode in ("RGB", "RGBA") and tags.get(_EXTRA_SAMPLES) != (_ASSOCIATED_ALPHA,)
        if not is_known and picture.mode not in ("I;16", "I;16B", "I", "F"):
            raise MediaError("TIFF of separate planes of more than 8 bits; unsupported, store them together")
        if is_known:
            _use_libtiff(picture, f"{picture.mode};16N")


def is_separate(picture: ImageFile) -> bool:
    """Whether each colour is stored in its own plane; for 16 bits Pillow then returns the high bytes only."""
    return bool(picture.tag_v2.get(_PLANAR) == _SEPARATE)  # type: ignore[attr-defined]


def tiff_levels(picture: ImageFile) -> Levels | None:
    """Value range of samples with more than 8 bits; None for 8 bits."""
    if picture.mode not in ("I", "I;16", "I;16B", "F"):
        return None
    tags = picture.tag_v2  # type: ignore[attr-defined]
    bits, kind = tags.get(_BITS_PER_SAMPLE, (16,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0]
    top = (1 << bits) - 1
    if picture.mode == "F":
        top = 1
    elif picture.mode == "I" and kind == _SIGNED:
        # Pillow writes its own grey of 16 bits as signed 32.
        top = (1 << 15) - 1 if bits == 16 else 65_535
    return Levels(top, is_inverted=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _mend_palette(picture: ImageFile, tags: Any) -> None:
    from PIL import ImagePalette

    colours = tags[_COLOR_MAP]
    if max(colours) < 256:  # written by programs that take them for 8 bits, as libtiff knows
        picture.palette = ImagePalette.raw("RGB;L", bytes(colours))


def _use_libtiff(picture: ImageFile, raw_mode: str) -> None:
    tags = picture.tag_v2  # type: ignore[attr-defined]
    picture.use_load_libtiff = True  # type: ignore[attr-defined]
    tile = picture.tile[0]
    picture.tile = [
        tile._replace(
            codec_name="libtiff",
            extents=(0, 0, tags[_WIDTH], tags[_HEIGHT]),
            offset=0,
            args=(raw_mode, False, tags.offset),
        )
    ]
