"""Orientation of stored images: EXIF orientations and display matrices of videos.

An orientation is one of eight combinations of transpose and flips. Applying it returns a view, without a
copy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Orientation:
    """One of the eight: first swap rows and columns, then mirror.

    Attributes:
        transpose: Swap rows and columns.
        flip_x: Then mirror left and right.
        flip_y: Then mirror up and down.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, stored: np.ndarray) -> np.ndarray:
        """Return a view of `stored` (H, W, ...) as it is meant to be seen."""
        upright = stored.swapaxes(0, 1) if self.transpose else stored
        return upright[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def stored_view(self, upright: np.ndarray) -> np.ndarray:
        """Return a view of an upright array (H, W, ...) in stored order: filling it fills the upright one."""
        flipped = upright[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return flipped.swapaxes(0, 1) if self.transpose else flipped

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as seen, of a picture stored with these."""
        return (height, width) if self.transpose else (width, height)


UPRIGHT = Orientation()

_EXIF = {
    2: Orientation(flip_x=True),
    3: Orientation(flip_x=True, flip_y=True),
    4: Orientation(flip_y=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, flip_x=True),
    7: Orientation(transpose=True, flip_x=True, flip_y=True),
    8: Orientation(transpose=True, flip_y=True),
}


def from_exif(value: object) -> Orientation:
    """Orientation of EXIF tag 274; anything but 2 to 8 is upright.

    Example:
        >>> from_exif(6).size(4032, 3024)
        (3024, 4032)
    """
    return _EXIF.get(value, UPRIGHT) if isinstance(value, int) else UPRIGHT


def from_matrix(matrix: bytes, byte_order: str = "=") -> Orientation:
    """Orientation of a display matrix, to the nearest quarter turn.

    The matrix is nine 32-bit integers (ISO 14496-12 §6.2.2); a stored point (x, y) is shown at
    (a x + c y, b x + d y).
    """
    if len(matrix) < 36:
        return UPRIGHT
    a, b, _, c, d = struct.unpack(f"{byte_order}5i", matrix[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)
