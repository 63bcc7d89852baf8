"""Splits a chained Ogg (RFC 3533 §4), a concatenation of complete Ogg streams, into its links.

Input: an open file. Output: each link as a file of its own. Only page headers are read. Links may differ in
codec, sample rate and channels, and may share a serial number.
"""

from __future__ import annotations

from sensorium.core.errors import LimitError
from sensorium.media.file_views import byte_range
from sensorium.media.source import Source

_PAGE = b"OggS\x00"
_HEADER_BYTES = 27
_BEGINS = 2  # flag of the first page of a logical stream
_SEARCHED_BYTES = 1 << 16
# A recording of a radio station has a link for each song.
_MAX_LINKS = 4096


def links(source: Source) -> list[Source]:
    """Split a file where a new stream begins; a file without a chain is returned unchanged.

    Raises:
        LimitError: If there are more than 4,096 links.
    """
    starts, at, is_head, page = [0], 0, True, 0
    file = source.file
    while at < source.num_bytes:
        file.seek(at)
        header = file.read(_HEADER_BYTES + 255)
        if not header.startswith(_PAGE) or len(header) < _HEADER_BYTES:
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
        sizes = header[_HEADER_BYTES : _HEADER_BYTES + header[26]]
        page = at
        at += _HEADER_BYTES + len(sizes) + sum(sizes)
    if len(starts) == 1:
        return [source]
    return [byte_range(source, *ends) for ends in zip(starts, [*starts[1:], source.num_bytes], strict=True)]


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
