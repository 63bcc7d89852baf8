"""Any Pillow mode to 8-bit RGB: transparency onto white, 16 bits scaled to 8, the rest converted.

Works in strips, so that a picture at the pixel limit costs its decoded form and the result, and little else.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from PIL import Image as Pillow

from sensorium.core.errors import MediaError

_STRIP_PIXELS = 1 << 20
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


def fill_rgb(picture: Pillow.Image, into: np.ndarray) -> None:
    """Convert `picture` (loaded, any mode) and write it into `into` (H, W, 3) uint8, which may be any view.

    Raises:
        MediaError: If the mode has no plain meaning as colour, or its numbers are out of range.
    """
    width, height = picture.size
    rows = max(1, _STRIP_PIXELS // width)
    scale = _scale_of(picture)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height))) if rows < height else picture
        into[top : top + rows] = _strip_rgb(strip, scale)


def _strip_rgb(strip: Pillow.Image, scale: float | None) -> np.ndarray:
    if scale is not None:
        grey = (np.asarray(strip).astype(np.float32) * scale + 0.5).astype(np.uint8)
        return grey[:, :, None]
    if strip.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in strip.info:
        return _onto_white(strip)
    if strip.mode in ("LAB", "HSV"):
        raise MediaError(f"image in {strip.mode} colours; expected RGB, CMYK, YCbCr, grey or a palette")
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _onto_white(strip: Pillow.Image) -> np.ndarray:
    if strip.mode in ("La", "RGBa"):
        strip = strip.convert("LA" if strip.mode == "La" else "RGBA")
    rgba = np.asarray(strip.convert("RGBA")).astype(np.uint16)
    alpha = rgba[:, :, 3:]
    # At most 255 * 255 + 127, which uint16 holds.
    blended = (rgba[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return blended.astype(np.uint8)


def _scale_of(picture: Pillow.Image) -> float | None:
    """Factor that brings a wide grey mode to 0..255; None for modes of 8 bits.

    Pillow's own conversion clips: a 16-bit ramp turns almost wholly white.
    """
    if picture.mode in _SIXTEEN_BIT:
        return 255 / 65_535
    if picture.mode not in ("I", "F"):
        return None
    low, high = cast(tuple[float, float], picture.getextrema())
    if not (np.isfinite(low) and np.isfinite(high)) or (
        picture.mode == "F" and not np.isfinite(np.asarray(picture)).all()
    ):
        raise MediaError("image with values that are not finite; expected numbers from 0 to 1")
    top = 65_535 if picture.mode == "I" else 1
    if low < 0 or high > top:
        raise MediaError(f"image with values from {low} to {high}; expected 0 to {top}")
    return 255 / top
