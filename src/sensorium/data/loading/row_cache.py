"""In-memory cache of decoded rows, so that later epochs do not read and decode them again.

Rows are added until the size limit is reached; none is evicted. Each epoch uses each row once, so an LRU
cache that is smaller than the data would never hit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sensorium.media import Audio, Image, Text, Video

Candidate = Image | Audio | Video | Text | bytes
"""One medium of a field: decoded, or encoded bytes that no epoch has used yet."""

Row = dict[str, list[Candidate]]
"""For each field the media of a row: all captions or clips, or the one image, audio or video."""


@dataclass
class RowCache:
    """Rows by number, of at most `limit_bytes` together; 0 caches none."""

    limit_bytes: int
    _rows: dict[int, Row] = field(default_factory=dict, repr=False)
    _num_bytes: int = field(default=0, repr=False)

    def __len__(self) -> int:
        """Number of cached rows."""
        return len(self._rows)

    def get(self, number: int) -> Row | None:
        """A cached row, or None."""
        return self._rows.get(number)

    def put(self, number: int, row: Row) -> None:
        """Cache a row if it fits."""
        size = sum(num_bytes(one) for candidates in row.values() for one in candidates)
        if self._num_bytes + size <= self.limit_bytes:
            self._rows[number] = row
            self._num_bytes += size

    def open(self, number: int, name: str, index: int, opened: Candidate) -> None:
        """Replace encoded bytes by the decoded medium, if the row is cached and the medium fits."""
        row = self._rows.get(number)
        if row is None:
            return
        growth = num_bytes(opened) - num_bytes(row[name][index])
        if self._num_bytes + growth <= self.limit_bytes:
            row[name][index] = opened
            self._num_bytes += growth


def num_bytes(candidate: Candidate) -> int:
    """Memory of one candidate: of its array, bytes or characters.

    Example:
        >>> num_bytes(b"frog"), num_bytes(Text("frog"))
        (4, 4)
    """
    if isinstance(candidate, bytes):
        return len(candidate)
    if isinstance(candidate, Text):
        return len(candidate.text)
    if isinstance(candidate, Image):
        return candidate.pixels.nbytes
    if isinstance(candidate, Audio):
        return candidate.samples.nbytes
    return candidate.frames.nbytes + (0 if candidate.audio is None else candidate.audio.samples.nbytes)
