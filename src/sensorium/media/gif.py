"""Fills the background of a GIF, the area that no frame covers (GIF89a, section 18).

Pillow fills it with colour 0 of the current palette.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_WHITE = (255, 255, 255)


class Background:
    """Fills the uncovered area, frame by frame.

    Args:
        picture: A GIF at its first frame, not loaded yet.
    """

    def __init__(self, picture: ImageFile) -> None:
        # With a transparent colour, Pillow leaves the rest transparent, as browsers do.
        self._colour = None if "transparency" in picture.info else _colour(picture)
        self._is_covered = np.zeros((0, 0), bool)

    def paint(self, picture: ImageFile, pixels: np.ndarray | None) -> None:
        """Fill the uncovered area of a frame.

        Args:
            picture: The GIF at this frame.
            pixels: Its pixels (H, W, 3), changed in place; None if they are not needed.
        """
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


def _colour(picture: ImageFile) -> tuple[int, ...]:
    index = picture.info.get("background")
    if index is None:  # without a global palette the index is invalid
        return _WHITE
    palette = picture.global_palette  # type: ignore[attr-defined]
    if palette is None:  # a ramp of greys
        return (index, index, index)
    return tuple(palette.palette[3 * index : 3 * index + 3]) or _WHITE
