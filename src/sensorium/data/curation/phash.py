"""Perceptual hash (pHash) of an image: 64 bits that survive scaling, recompression and small tone changes.

The image is resized to 32 x 32 grey values. Each bit says whether one of the 64 lowest DCT coefficients is
above their median (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section
3.2). Rotated and mirrored images get other hashes. A flat image has none, since all flat images would match.
"""

from __future__ import annotations

import functools

import numpy as np
import PIL.Image
from jaxtyping import Float64, UInt8

SIDE = 32
KEPT = 8
FLAT_CONTRAST = 2.0
"""Standard deviation of the brightness (0 to 255) below which an image counts as flat."""


def perceptual_hash(pixels: UInt8[np.ndarray, "H W 3"]) -> int | None:
    """Hash an image; None if it is flat.

    Example:
        >>> ramp = np.tile(np.arange(67, dtype=np.uint8)[:, None, None], (1, 53, 3))
        >>> perceptual_hash(ramp) == perceptual_hash(np.repeat(ramp, 2, axis=1))
        True
        >>> perceptual_hash(np.full((7, 5, 3), 255, np.uint8)) is None
        True
    """
    grey = PIL.Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), PIL.Image.Resampling.BOX)
    brightness = np.asarray(grey, dtype=np.float64)
    if brightness.std() < FLAT_CONTRAST:
        return None
    low = _cosines() @ brightness @ _cosines().T
    bits = low.ravel() > np.median(low.ravel()[1:])
    return int(np.packbits(bits).view(">i8")[0])


@functools.cache
def _cosines() -> Float64[np.ndarray, "8 32"]:
    """The lowest rows of the DCT-II, unscaled."""
    frequency, column = np.arange(KEPT)[:, None], np.arange(SIDE)[None, :]
    return np.cos(np.pi * frequency * (2 * column + 1) / (2 * SIDE))
