"""Iterates over a B x B matrix of logits tile by tile, in one reused buffer.

Input: rows a and b, the logit scale and a tile size. Output: the rows, columns and logits of each tile. The
next tile overwrites the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 2048
"""Default side of a tile: two buffers of 16 MiB in float32, and full matrix-product speed on two cores."""
WHOLE_UP_TO = 4096
"""Up to this batch size, a loss that needs its tiles twice keeps a single tile by default: 64 MiB."""


@dataclass(frozen=True)
class Tile:
    """One rectangle of the logits.

    Attributes:
        rows: Its rows of a.
        columns: Its rows of b.
        logits: scale a[rows] b[columns]^T; valid until the next tile, and may be overwritten.
        spare: An uninitialised buffer of the same shape.
    """

    rows: slice
    columns: slice
    logits: Tensor
    spare: Tensor


def tiles(a: Tensor, b: Tensor, scale: Tensor, side: int) -> Iterator[Tile]:
    """Yield the tiles of scale a b^T in row-major order; `side` >= 1 is their number of rows and columns."""
    size = min(side, len(a)) * min(side, len(b))
    buffer, spare = a.new_empty(size), a.new_empty(size)
    for top in range(0, len(a), side):
        rows = slice(top, min(top + side, len(a)))
        scaled = a[rows] * scale
        for left in range(0, len(b), side):
            columns = slice(left, min(left + side, len(b)))
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            logits = buffer[: shape[0] * shape[1]].view(shape)
            torch.mm(scaled, b[columns].T, out=logits)
            yield Tile(rows, columns, logits, spare[: shape[0] * shape[1]].view(shape))


def inner(x: Tensor, y: Tensor, side: int) -> Tensor:
    """Sum of x * y, without a temporary of full size."""
    return torch.stack(
        [total(x[top : top + side] * y[top : top + side]) for top in range(0, len(x), side)]
    ).sum()


def total(matrix: Tensor) -> Tensor:
    """Sum of a matrix in float64: rows first, since `sum(dtype=...)` would convert the whole matrix."""
    return matrix.sum(1).sum(dtype=wide(matrix))


def wide(like: Tensor) -> torch.dtype:
    """Number format of long sums: float64 where the device supports it."""
    return torch.float32 if like.device.type == "mps" else torch.float64
