"""Converts Pillow images of any mode to 8-bit RGB.

Transparency is blended onto white and deeper samples are scaled to 8 bits. The conversion works in strips, so
that it needs little memory beyond the decoded image and the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from sensorium.core.errors import MediaError

_STRIP_PIXELS = 1 << 20
_WHITE_16 = 65_535
_SIGNED_TOP = (1 << 31) - 1
# XYZ relative to D50, in units of its white, to linear sRGB (Bradford adaptation; IEC 61966-2-1).
_FROM_XYZ = (
    np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )
    * (0.9642200, 1.0, 0.8252100)
).astype(np.float32)
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True)
class Levels:
    """Range of samples with more than 8 bits: 0 to `top`; if inverted, 0 is white and `top` black."""

    top: int
    is_inverted: bool = False


def fill_rgb(picture: Pillow.Image, into: np.ndarray, levels: Levels | None = None) -> None:
    """Convert `picture` (loaded, any mode) and write it into `into` (H, W, 3) uint8, which may be any view.

    `levels` is the range of wide grey samples, if it is not the mode's own. MediaError if the mode has no
    plain meaning as colour, or its numbers are out of range.
    """
    levels = levels or _levels_of(picture.mode)
    if levels is not None and picture.mode in ("I", "F"):
        _check_range(picture, levels)
    for rows in _strips(picture.size):
        strip = _rows_of(picture, rows)
        into[rows] = _strip_rgb(strip) if levels is None else _strip_grey(strip, levels)


def fill_wide_rgb(high: Pillow.Image, low: Pillow.Image, into: np.ndarray) -> None:
    """Write 16-bit colours, given as two 8-bit pictures, into `into` (H, W, 3): on white, rounded to 8 bits.

    `high` (RGB or RGBA) holds the upper bytes, `low` the lower ones; `high`'s `transparency` has 16 bits.
    """
    key = high.info.get("transparency")
    for rows in _strips(high.size):
        upper, lower = (np.asarray(_rows_of(picture, rows)).astype(np.uint16) for picture in (high, low))
        wide = (upper << 8 | lower).astype(np.uint64)
        colours = wide[:, :, :3]
        if wide.shape[2] == 4:
            alpha = wide[:, :, 3:]
            colours = (colours * alpha + _WHITE_16 * (_WHITE_16 - alpha) + _WHITE_16 // 2) // _WHITE_16
        elif key is not None:
            colours[(colours == key).all(axis=2)] = _WHITE_16
        into[rows] = (colours * 255 + _WHITE_16 // 2) // _WHITE_16


def _strips(size: tuple[int, int]) -> Iterator[slice]:
    width, height = size
    rows = max(1, _STRIP_PIXELS // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _rows_of(picture: Pillow.Image, rows: slice) -> Pillow.Image:
    width, height = picture.size
    return picture if rows == slice(0, height) else picture.crop((0, rows.start, width, rows.stop))


def _strip_grey(strip: Pillow.Image, levels: Levels) -> np.ndarray:
    samples, key = np.asarray(strip), strip.info.get("transparency")
    if strip.mode == "I" and levels.top > _SIGNED_TOP:
        samples = samples.view(np.uint32)
    # Single precision holds 16 bits, and what is left of more after the division.
    grey = (samples.astype(np.float32) * (255 / levels.top) + 0.5).astype(np.uint8)
    if levels.is_inverted:
        grey = 255 - grey
    if key is not None:
        grey[samples == key] = 255
    return grey[:, :, None]


def _strip_rgb(strip: Pillow.Image) -> np.ndarray:
    if strip.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in strip.info:
        return _onto_white(strip)
    if strip.mode == "LAB":
        return _from_lab(np.asarray(strip))
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _from_lab(stored: np.ndarray) -> np.ndarray:
    """CIELAB of 8 bits, white point D50 (TIFF 6.0, section 23; a and b are signed), as sRGB."""
    middle = (stored[:, :, 0].astype(np.float32) * (100 / 255) + 16) / 116
    a, b = np.moveaxis(stored[:, :, 1:].view(np.int8).astype(np.float32), 2, 0)
    cubes = np.stack([middle + a / 500, middle, middle - b / 200], axis=2)
    xyz = np.where(cubes > 6 / 29, cubes**3, (cubes - 4 / 29) * (3 * (6 / 29) ** 2))
    linear = (xyz @ _FROM_XYZ.T).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255 + 0.5).astype(np.uint8)


def _onto_white(strip: Pillow.Image) -> np.ndarray:
    if strip.mode in ("La", "RGBa"):
        strip = strip.convert("LA" if strip.mode == "La" else "RGBA")
    rgba = np.asarray(strip.convert("RGBA")).astype(np.uint16)
    alpha = rgba[:, :, 3:]
    # At most 255 * 255 + 127, which uint16 holds.
    blended = (rgba[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return blended.astype(np.uint8)


def _levels_of(mode: str) -> Levels | None:
    """Levels of a wide grey mode; None for modes of 8 bits.

    Pillow's own conversion clips: a 16-bit ramp turns almost wholly white.
    """
    if mode in _SIXTEEN_BIT or mode == "I":
        return Levels(65_535)
    return Levels(1) if mode == "F" else None


def _check_range(picture: Pillow.Image, levels: Levels) -> None:
    if levels.top > _SIGNED_TOP:
        return
    # NaN and infinity spread into both extremes.
    extremes = [
        (samples.min(), samples.max())
        for rows in _strips(picture.size)
        if (samples := np.asarray(_rows_of(picture, rows))).size
    ]
    low, high = float(np.min(extremes)), float(np.max(extremes))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise MediaError("image with values that are not finite; expected numbers from 0 to 1")
    if low < 0 or high > levels.top:
        raise MediaError(f"image with values from {low:g} to {high:g}; expected 0 to {levels.top}")
