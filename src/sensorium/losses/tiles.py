"""Walking a B x B matrix of logits tile by tile through one reused buffer.

In: rows a and b, the logit scale and a tile size. Out: for each tile its rows, its columns and its logits,
which live in a buffer that the next tile overwrites. It does not know which loss is being computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 2048
"""Default side of a tile: two buffers of 16 MiB in float32, and full matrix-product speed on two cores."""
WHOLE_UP_TO = 4096
"""A batch up to this size is a single tile by default, where a loss would make its tiles twice: 64 MiB."""


@dataclass(frozen=True)
class Tile:
    """One rectangle of the logits.

    Attributes:
        rows: Its rows of a.
        columns: Its rows of b.
        logits: scale a[rows] b[columns]^T, to be used before the next tile and free to be overwritten.
        spare: A buffer of the same shape with no meaning yet.
    """

    rows: slice
    columns: slice
    logits: Tensor
    spare: Tensor


def tiles(a: Tensor, b: Tensor, scale: Tensor, side: int) -> Iterator[Tile]:
    """Yield the tiles of scale a b^T, row by row; the last of each row and column may be smaller.

    Args:
        a: (B, E).
        b: (B, E).
        scale: Scalar.
        side: Rows and columns of a tile, >= 1.
    """
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
    """Sum of x * y, without a temporary of their size."""
    return torch.stack(
        [total(x[top : top + side] * y[top : top + side]) for top in range(0, len(x), side)]
    ).sum()


def total(matrix: Tensor) -> Tensor:
    """Sum of a matrix, its rows first: a `sum` in another type would copy the whole matrix into that type."""
    return matrix.sum(1).sum(dtype=wide(matrix))


def wide(like: Tensor) -> torch.dtype:
    """Type of long sums: float64 where the device has it."""
    return torch.float32 if like.device.type == "mps" else torch.float64
