"""JPEG checks that Pillow lacks: number of segments and scans, and completeness without an end marker.

Files with very many segments or scans are refused, because they are slow to decode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sensorium.core.errors import MediaError
from sensorium.media.source import Source

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# A progressive JPEG repeats the whole picture in each scan; ordinary ones have about ten.
_MAX_SCANS = 100
_MAX_SEGMENTS = 1 << 14
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# Stuffed bytes, fill bytes and restarts are no segments.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_FILLER = bytes(range(1, 200)) * 9


def check_segments(source: Source) -> None:
    """Refuse a JPEG with so many segments that reading its header takes seconds.

    Raises:
        MediaError: If there are more than 16,384; a colour profile of 16 MB takes 255.
    """
    at = 2
    for _ in range(_MAX_SEGMENTS):
        source.file.seek(at)
        head: bytes = source.file.read(4)
        if len(head) < 4 or head[0] != _SCAN[0] or head[:2] == _SCAN:
            return
        at += 2 + int.from_bytes(head[2:], "big")
    raise MediaError(f"{source.name}: JPEG of more than {_MAX_SEGMENTS:,} segments, made to be slow")


def check_scans(source: Source) -> None:
    """Refuse a JPEG with so many scans that decoding is slow.

    Raises:
        MediaError: If it has more than 100 scans.
    """
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
    give the same pixels.

    Args:
        source: The file.
        reopen: Opens another source with the same options and scale.
    """
    pictures = []
    for filler in (b"", _FILLER):
        content = source.content().removesuffix(b"\xff") + filler + _END
        picture = reopen(Source(io.BytesIO(content), len(content), source.uri))
        picture.load()
        pictures.append(picture)
    return pictures[0] if pictures[0].tobytes() == pictures[1].tobytes() else None
