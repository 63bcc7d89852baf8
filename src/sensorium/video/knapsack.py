"""Solves the 0/1 knapsack problem exactly: the items of greatest total value within a capacity.

Dynamic programming over capacities, one vector operation an item; choices take one bit a cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from sensorium.core.errors import UsageError

_MAX_CELLS = 1 << 33


def knapsack(
    values: Float[np.ndarray, " n"] | Sequence[float],
    sizes: Int[np.ndarray, " n"] | Sequence[int],
    capacity: int,
) -> list[int]:
    """Choose the items of greatest total value whose total size is at most `capacity`.

    Args:
        values: Value of each item; items without value are never taken.
        sizes: Integers, at least 0.
        capacity: At least 0.

    Returns:
        Ascending indices of the items. O(n capacity) time, n capacity / 8 bytes.

    Raises:
        UsageError: If the lengths differ, a size is negative, a value is not finite, or the problem is too
            large.

    Reference:
        R. Bellman, Dynamic Programming (1957). The greedy choice by density can miss half of the value.

    Example:
        >>> knapsack([6.0, 10.0, 12.0], [1, 2, 3], 5)
        [1, 2]
    """
    worth, weights = np.asarray(values, np.float64), np.asarray(sizes)
    if len(worth) != len(weights):
        raise UsageError(f"{len(worth)} values and {len(weights)} sizes; expected one of each for a thing")
    if capacity < 0 or (len(weights) and (weights.min() < 0 or not np.isfinite(worth).all())):
        raise UsageError("sizes and capacity must be 0 or more, and values finite")
    capacity = min(capacity, int(weights.sum()))
    if len(worth) * capacity > _MAX_CELLS:
        raise UsageError(f"{len(worth)} things in a capacity of {capacity:,}; measure sizes in coarser units")
    best = np.zeros(capacity + 1)
    taken: list[np.ndarray] = []
    for value, size in zip(worth, weights.tolist(), strict=True):
        is_better = np.zeros(capacity + 1, bool)
        if value > 0 and size <= capacity:
            with_it = best[: capacity + 1 - size] + value
            is_better[size:] = with_it > best[size:]
            best[size:] = np.where(is_better[size:], with_it, best[size:])
        taken.append(np.packbits(is_better))
    return _trace(taken, weights.tolist(), capacity)


def _trace(taken: list[np.ndarray], sizes: list[int], room: int) -> list[int]:
    """Trace back from the last item: a set bit says that it was taken at this capacity."""
    chosen: list[int] = []
    for number in range(len(taken) - 1, -1, -1):
        if taken[number][room >> 3] >> (7 - (room & 7)) & 1:
            chosen.append(number)
            room -= sizes[number]
    return chosen[::-1]
