"""Hand-made feature vector of a thumbnail: grids of colours, edge orientations and motion.

The cosine of two vectors is the visual similarity of two moments. There are no learned weights; a summary
uses these features where no embedding model is given.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

# Colours in 8 x 3 places, edges in 4 directions at 4 x 3 places, motion at 4 x 3 places, for 48 x 27 pixels.
_COLOUR_GRID, _EDGE_GRID = (3, 8), (3, 4)
_NUM_DIRECTIONS = 4
_COLOURS = _COLOUR_GRID[0] * _COLOUR_GRID[1] * 3
_EDGES = _EDGE_GRID[0] * _EDGE_GRID[1] * _NUM_DIRECTIONS
_MOTION = _EDGE_GRID[0] * _EDGE_GRID[1]
DIM = _COLOURS + _EDGES + _MOTION
_WEIGHTS = (1.0, 0.7, 0.3)


def frame_features(
    pixels: UInt8[np.ndarray, "27 48 3"], before: UInt8[np.ndarray, "27 48 3"]
) -> Float32[np.ndarray, " D"]:
    """Compute the features of a frame.

    Args:
        pixels: The frame.
        before: The one before it, for the motion.

    Returns:
        Three concatenated blocks (colours, edges, motion), each of unit norm times its weight; an empty block
        is zero.

    Example:
        >>> frame_features(np.zeros((27, 48, 3), np.uint8), np.zeros((27, 48, 3), np.uint8)).shape == (DIM,)
        True
    """
    picture = pixels.astype(np.float32) / 255
    grey = picture.mean(axis=2)
    down, right = np.gradient(grey)
    strength = np.hypot(right, down)
    angle = np.arctan2(down, right) % np.pi
    direction = np.minimum((angle * (_NUM_DIRECTIONS / np.pi)).astype(int), _NUM_DIRECTIONS - 1)
    edges = np.stack([strength * (direction == one) for one in range(_NUM_DIRECTIONS)], axis=2)
    moved = np.abs(grey - before.astype(np.float32).mean(axis=2) / 255)[..., None]
    colours = _grid(picture, _COLOUR_GRID) - 0.5
    blocks = [colours, _grid(edges, _EDGE_GRID), _grid(moved, _EDGE_GRID)]
    return np.concatenate([weight * _unit(part) for weight, part in zip(_WEIGHTS, blocks, strict=True)])


def sharpness(pixels: UInt8[np.ndarray, "H W 3"]) -> float:
    """Mean gradient magnitude, 0 to 255; low for blurred or empty frames."""
    grey = pixels.astype(np.float32).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def _grid(values: Float32[np.ndarray, "H W C"], grid: tuple[int, int]) -> Float32[np.ndarray, " n"]:
    """Mean of each cell of a grid."""
    height, width = values.shape[:2]
    rows, columns = (
        np.arange(count) * side // count for count, side in zip(grid, (height, width), strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    sizes = np.diff([*rows, height])[:, None, None] * np.diff([*columns, width])[None, :, None]
    means: np.ndarray = (sums / sizes).astype(np.float32).reshape(-1)
    return means


def _unit(values: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    length = float(np.linalg.norm(values))
    return values / np.float32(length) if length > 1e-4 else np.zeros_like(values)
