"""Windows: the pairs of elements that a warping path may use.

Input: the lengths n and m. Output: `Ranges`, the allowed columns of each row, and a mask if they have holes.
For equal lengths all windows are those of the literature. For unequal lengths:

- `SakoeChiba(radius)`: |i - j| <= radius, without rescaling. The end (n-1, m-1) therefore needs
  radius >= |n - m|.
- `Slanted(radius)`: a band around the straight line from (0, 0) to (n-1, m-1). Each element of the longer
  series may match elements of the shorter within `radius` of its proportional position.
- `Itakura(max_slope)`: slope between 1/max_slope and max_slope relative to that line, from both ends; and
  the cells nearest to the line.
- a bool matrix (n, m): True where a pair is allowed.
- an integer: `SakoeChiba` with that radius.

Slanted and Itakura windows contain a path of unit steps for any lengths. A window without a path is a
`UsageError`.

Reference: Sakoe & Chiba 1978; Itakura 1975.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

from sensorium.core.errors import UsageError


@dataclass(frozen=True)
class SakoeChiba:
    """Sakoe-Chiba band: |i - j| <= radius, in elements."""

    radius: int


@dataclass(frozen=True)
class Slanted:
    """Band around the straight line between the ends; the radius is in elements of the shorter series."""

    radius: int


@dataclass(frozen=True)
class Itakura:
    """Itakura parallelogram between the ends.

    Attributes:
        max_slope: Maximum slope relative to the straight line, above 1; the minimum is its reciprocal.
    """

    max_slope: float = 2.0


Window: TypeAlias = SakoeChiba | Slanted | Itakura | Bool[np.ndarray, "_ _"] | int | None


@dataclass(frozen=True)
class Ranges:
    """Cells of the n x m matrix that a window allows.

    Attributes:
        low: First column of each row.
        high: One past the last column of each row.
        mask: True where a cell of those ranges is allowed; None if all are.
    """

    low: Int64[np.ndarray, " n"]
    high: Int64[np.ndarray, " n"]
    mask: Bool[np.ndarray, "n m"] | None = None

    def is_full(self, m: int) -> bool:
        """Whether all m columns of every row may be used."""
        return self.mask is None and not self.low.any() and bool((self.high == m).all())

    def allowed(self, m: int) -> Bool[np.ndarray, "n m"]:
        """True where a cell of the n x m matrix is allowed."""
        columns = np.arange(m)
        inside = (columns >= self.low[:, None]) & (columns < self.high[:, None])
        return inside if self.mask is None else inside & self.mask


def ranges(window: Window, n: int, m: int) -> Ranges:
    """Compute the cells that a window allows.

    Raises:
        UsageError: If the window is of an unknown kind, out of range, or leaves a row empty.
    """
    if window is None:
        return Ranges(np.zeros(n, np.int64), np.full(n, m, np.int64))
    if isinstance(window, (int, np.integer)) and not isinstance(window, bool):
        window = SakoeChiba(int(window))
    if isinstance(window, (SakoeChiba, Slanted)) and window.radius < 0:
        raise UsageError(f"{window} has a negative radius; give 0 or more")
    if isinstance(window, SakoeChiba):
        rows = np.arange(n, dtype=np.int64)
        found = Ranges(np.maximum(rows - window.radius, 0), np.minimum(rows + window.radius + 1, m))
    elif isinstance(window, Slanted):
        found = _along_longer(partial(_slanted, window.radius), n, m)
    elif isinstance(window, Itakura):
        if not window.max_slope > 1:
            raise UsageError(f"{window} leaves no freedom; max_slope must be above 1")
        found = _along_longer(partial(_itakura, window.max_slope), n, m)
    else:
        found = _masked(window, n, m)
    empty = np.flatnonzero(found.low >= found.high)
    if empty.size:
        raise UsageError(
            _impossible(window, n, m, f"it leaves element {int(empty[0])} of x without a partner")
        )
    return found


def impossible(window: Window, n: int, m: int) -> UsageError:
    """The error for a window without a path."""
    return UsageError(_impossible(window, n, m, "the step pattern has no path through it"))


def _impossible(window: Any, n: int, m: int, why: str) -> str:
    name = "the mask" if isinstance(window, np.ndarray) else str(window)
    advice = f"use Slanted(radius) or a radius of {abs(n - m)} at least"
    return f"{name} is impossible for lengths {n} and {m}: {why}; " + (
        advice if isinstance(window, SakoeChiba) else "widen it, or choose another step pattern"
    )


def _masked(window: Any, n: int, m: int) -> Ranges:
    mask = np.asarray(window)
    if mask.dtype != np.bool_ or mask.shape != (n, m):
        raise UsageError(
            f"a window of {mask.dtype} {mask.shape} is not understood; give a bool matrix of {(n, m)}, "
            "a radius, SakoeChiba, Slanted or Itakura"
        )
    used = mask.any(axis=1)
    low = np.where(used, mask.argmax(axis=1), 0).astype(np.int64)
    high = np.where(used, m - mask[:, ::-1].argmax(axis=1), 0).astype(np.int64)
    return Ranges(low, high, None if int((high - low).sum()) == int(mask.sum()) else mask)


_Bounds: TypeAlias = Callable[[Int64[np.ndarray, " long"], int, int], tuple[np.ndarray, np.ndarray]]


def _along_longer(bounds: _Bounds, n: int, m: int) -> Ranges:
    """Bounds (first and last element of the shorter for each of the longer), turned to rows of x."""
    long, short = max(n, m), min(n, m)
    places = np.arange(long, dtype=np.int64)
    first, last = bounds(places, long, short)
    first, last = np.clip(first, 0, short - 1), np.clip(last, 0, short - 1)
    if n >= m:
        return Ranges(first, last + 1)
    rows = np.arange(n)
    return Ranges(np.searchsorted(last, rows, "left"), np.searchsorted(first, rows, "right"))


def _slanted(radius: int, places: np.ndarray, long: int, short: int) -> tuple[np.ndarray, np.ndarray]:
    below, above = _nearest(places * (short - 1), max(long - 1, 1))
    return below - radius, above + radius


def _itakura(slope: int | float, places: np.ndarray, long: int, short: int) -> tuple[np.ndarray, np.ndarray]:
    below, above = _nearest(places * (short - 1), max(long - 1, 1))
    share = places * ((short - 1) / max(long - 1, 1))
    rest = share[::-1]
    tiny = 1e-9  # a bound that is whole but for rounding is whole
    first = np.ceil(np.maximum(share / slope, short - 1 - rest * slope) - tiny)
    last = np.floor(np.minimum(share * slope, short - 1 - rest / slope) + tiny)
    return np.minimum(first.astype(np.int64), below), np.maximum(last.astype(np.int64), above)


def _nearest(numerator: np.ndarray, denominator: int) -> tuple[np.ndarray, np.ndarray]:
    """Both whole numbers nearest to a fraction: they differ where it lies halfway."""
    doubled, half = 2 * numerator, 2 * denominator
    return -((denominator - doubled) // half), (doubled + denominator) // half
