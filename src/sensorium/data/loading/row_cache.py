"""Rows of a table that stay in memory between epochs, so that nothing is read and decoded twice.

In: what was read of a row, some of it opened. Out: the same, as long as it fits. What is kept stays: an
epoch asks for each row once, so that making room by dropping rows would never find one again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sensorium.media import Audio, Image, Text, Video

Candidate = Image | Audio | Video | Text | bytes
"""Something of a field: opened, or its bytes where nobody asked for it yet."""

Row = dict[str, list[Candidate]]
"""For each field what a row holds of it: all captions or clips, or the one image, sound or video."""


@dataclass
class RowCache:
    """Rows by number, up to a number of bytes.

    Attributes:
        limit_bytes: What all rows may take together; 0 keeps none.
    """

    limit_bytes: int
    _rows: dict[int, Row] = field(default_factory=dict, repr=False)
    _num_bytes: int = field(default=0, repr=False)

    def __len__(self) -> int:
        """Rows that are kept."""
        return len(self._rows)

    def get(self, number: int) -> Row | None:
        """A row that is kept, or None."""
        return self._rows.get(number)

    def put(self, number: int, row: Row) -> None:
        """Keep a row that was read, unless it takes more than is left."""
        size = sum(num_bytes(one) for candidates in row.values() for one in candidates)
        if self._num_bytes + size <= self.limit_bytes:
            self._rows[number] = row
            self._num_bytes += size

    def open(self, number: int, name: str, place: int, opened: Candidate) -> None:
        """Keep something opened in place of its bytes, if its row is kept and there is room for it."""
        row = self._rows.get(number)
        if row is None:
            return
        growth = num_bytes(opened) - num_bytes(row[name][place])
        if self._num_bytes + growth <= self.limit_bytes:
            row[name][place] = opened
            self._num_bytes += growth


def num_bytes(candidate: Candidate) -> int:
    """What one candidate takes in memory, its array or its characters alone.

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
