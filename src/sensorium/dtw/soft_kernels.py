"""Numba kernels for soft-DTW of one pair of series: value and gradient, by anti-diagonals.

Input: two float64 series (or a cost matrix) and the allowed cells. Output: the value and the gradients for
autograd. Recurrence and gradient follow Cuturi and Blondel 2017 (arXiv 1703.01541), section 2. The backward
pass stores the *probabilities* of each cell's three predecessors instead of the accumulated cost R. exp((R -
R') / gamma) of two large sums loses digits that a probability keeps.

Cells of an anti-diagonal are independent, so each loop is vectorised; exp and log are polynomials, because
library calls are scalar. Allowed cells are *packed* by diagonal, so a window saves time and memory. Above
`CHUNK_CELLS` cells the forward pass runs twice, and only one chunk of probabilities is in memory. Batches and
tensors are handled in `soft_pairs`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from jaxtyping import Float64, Int64
from numpy.polynomial import Chebyshev, Polynomial

from sensorium.dtw.soft_plain import FAR
from sensorium.dtw.windows import Ranges

CHUNK_CELLS = 1 << 20
"""Cells whose probabilities are held at one time: 32 bytes each, 34 MB."""

Fill: TypeAlias = Callable[[int, int, np.ndarray], None]
Pull: TypeAlias = Callable[[int, int, np.ndarray, np.ndarray], None]
F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """Compile a function that kernels may call, at its first call; cached on disk if possible."""
    # Unwrapped: under test the import hook wraps functions in type checks, which numba cannot compile.
    build = functools.partial(
        numba.njit, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"}
    )
    try:
        return cast(F, build(cache=True)(inspect.unwrap(function)))
    except RuntimeError:  # no cache folder
        return cast(F, build()(inspect.unwrap(function)))


@dataclass(frozen=True)
class Diagonals:
    """Allowed cells of a window, by anti-diagonal d = i + j.

    Attributes:
        first: First row i of each diagonal, (n + m - 1,).
        count: Rows of each diagonal; 0 if the window has no cell on it.
        start: Packed index of each diagonal's first cell, then the number of cells, (n + m,).
        holes: Packed indices of forbidden cells, ascending.
    """

    first: Int64[np.ndarray, " d"]
    count: Int64[np.ndarray, " d"]
    start: Int64[np.ndarray, " d1"]
    holes: Int64[np.ndarray, " holes"]

    @classmethod
    def of_window(cls, window: Ranges) -> Diagonals:
        """Build from the columns that each row may use."""
        low = np.minimum.accumulate(window.low[::-1])[::-1]
        high = np.maximum.accumulate(window.high)
        rows = np.arange(len(low))
        diagonals = np.arange(int(high[-1]) + len(low) - 1)
        first = np.searchsorted(high + rows - 1, diagonals, side="left")
        count = np.maximum(np.searchsorted(low + rows, diagonals, side="right") - first, 0)
        start = np.concatenate([np.zeros(1, np.int64), np.cumsum(count)])
        found = cls(first, count, start, np.zeros(0, np.int64))
        if window.mask is None and (low == window.low).all() and (high == window.high).all():
            return found
        holes = np.flatnonzero(~window.allowed(int(high[-1]))[found.cells(0, len(first))])
        return cls(first, count, start, holes)

    def cells(self, begin: int, end: int) -> tuple[Int64[np.ndarray, " cells"], Int64[np.ndarray, " cells"]]:
        """Rows and columns of the packed cells of diagonals begin .. end - 1."""
        count = self.count[begin:end]
        rows = np.arange(int(count.sum())) + np.repeat(self.first[begin:end] - self.start[begin:end], count)
        rows += self.start[begin]
        return rows, np.repeat(np.arange(begin, end), count) - rows

    def chunks(self, num_cells: int) -> list[tuple[int, int]]:
        """Ranges of diagonals with about `num_cells` cells each."""
        marks = np.arange(0, max(1, int(self.start[-1])), num_cells)
        edges = [int(edge) for edge in np.unique(np.searchsorted(self.start[:-1], marks))]
        return list(zip(edges, [*edges[1:], len(self.first)], strict=True))


def soft_dtw_pair(
    x: Float64[np.ndarray, "n D"],
    y: Float64[np.ndarray, "m D"],
    diagonals: Diagonals,
    gamma: float,
    *,
    with_gradients: bool,
) -> tuple[float, tuple[Float64[np.ndarray, "_ D"], ...]]:
    """Soft-DTW with squared Euclidean costs, and optionally the gradients for x and y."""
    columns, reversed_columns = np.ascontiguousarray(x.T), np.ascontiguousarray(y[::-1].T)

    def fill(begin: int, end: int, costs: np.ndarray) -> None:
        _squared_distances(columns, reversed_columns, *_part(diagonals, begin, end), costs)

    if not with_gradients:
        return _Sweep(diagonals, len(x), gamma, fill, None).run(), ()
    for_x, for_y = np.zeros_like(columns), np.zeros_like(reversed_columns)

    def pull(begin: int, end: int, posterior: np.ndarray, live: np.ndarray) -> None:
        part = _part(diagonals, begin, end)
        _add_gradients(columns, reversed_columns, *part, posterior, live, for_x, for_y)

    value = _Sweep(diagonals, len(x), gamma, fill, pull).run()
    return value, (for_x.T, for_y[:, ::-1].T)


def soft_dtw_of_costs(
    costs: Float64[np.ndarray, "n m"], diagonals: Diagonals, gamma: float, *, with_gradients: bool
) -> tuple[float, tuple[Float64[np.ndarray, "n m"], ...]]:
    """Soft-DTW of given costs, and optionally its gradient: each cell's visit probability."""

    def fill(begin: int, end: int, packed: np.ndarray) -> None:
        packed[:] = costs[diagonals.cells(begin, end)]

    if not with_gradients:
        return _Sweep(diagonals, len(costs), gamma, fill, None).run(), ()
    visits = np.zeros_like(costs)

    def pull(begin: int, end: int, posterior: np.ndarray, live: np.ndarray) -> None:
        visits[diagonals.cells(begin, end)] = posterior

    return _Sweep(diagonals, len(costs), gamma, fill, pull).run(), (visits,)


def _part(diagonals: Diagonals, begin: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    return diagonals.first[begin:end], diagonals.count[begin:end], diagonals.start[begin:end], begin


class _Sweep:
    """Forward pass over all chunks and, if `pull` is given, the backward pass from the last chunk.

    `fill` writes the packed costs of a chunk; `pull` receives its packed posterior. The last chunk is still
    in memory when the backward pass starts; earlier ones are recomputed from the state saved at their start.
    """

    def __init__(
        self, diagonals: Diagonals, num_rows: int, gamma: float, fill: Fill, pull: Pull | None
    ) -> None:
        self.diagonals, self.num_rows, self.gamma = diagonals, num_rows, gamma
        self.fill, self.pull = fill, pull
        # Larger for very long series, so that the rings kept between chunks take no more room than a chunk.
        self.chunks = diagonals.chunks(max(CHUNK_CELLS, int(diagonals.start[-1] ** 0.75)))
        most = max(int(diagonals.start[end] - diagonals.start[begin]) for begin, end in self.chunks)
        self.costs = np.empty(most)
        self.shares = np.empty((3, num_rows if pull is None else most))
        self.ring = np.full((3, num_rows + 2), FAR)
        self.ring[1, 0] = 0.0  # before the first row and column, on diagonal -2; see _soften

    def run(self) -> float:
        """The value; `pull` is called on the way."""
        rings = []
        for begin, end in self.chunks:
            rings.append(self.ring.copy() if self.pull is not None else self.ring)
            self._forward(begin, end, keep=self.pull is not None and end == self.chunks[-1][1])
        value = float(self.ring[(len(self.diagonals.first) - 1) % 3, self.num_rows])
        if self.pull is not None:
            self._backward(self.pull, rings)
        return value

    def _forward(self, begin: int, end: int, *, keep: bool) -> None:
        packed, holes = self._packed(begin, end), self.diagonals.holes
        self.fill(begin, end, packed)
        here = slice(*np.searchsorted(holes, self.diagonals.start[[begin, end]]))
        packed[holes[here] - self.diagonals.start[begin]] = FAR
        _soften(*_part(self.diagonals, begin, end), packed, self.gamma, self.ring, self.shares, keep)

    def _backward(self, pull: Pull, rings: list[np.ndarray]) -> None:
        last = self.num_rows - 1
        mass, span = np.zeros((3, 3, self.num_rows + 2)), np.array([[last, last], [last, last]])
        mass[len(self.diagonals.first) % 3, 2, last + 1] = 1.0  # enters the last cell as if from its right
        for place in reversed(range(len(self.chunks))):
            begin, end = self.chunks[place]
            if place < len(self.chunks) - 1:
                self.ring[:] = rings[place]
                self._forward(begin, end, keep=True)
            live, posterior = np.empty((end - begin, 2), np.int64), self._packed(begin, end)
            _retrace(*_part(self.diagonals, begin, end), self.shares, mass, span, posterior, live)
            pull(begin, end, posterior, live)

    def _packed(self, begin: int, end: int) -> np.ndarray:
        return self.costs[: self.diagonals.start[end] - self.diagonals.start[begin]]


def _fit(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int) -> list[float]:
    """Coefficients, highest power first, of a polynomial within a few 1e-16 of `function`."""
    series = Chebyshev.interpolate(function, degree, domain=[low, high])
    return [float(number) for number in series.convert(kind=Polynomial).coef[::-1]]


def _log_ratio(square: np.ndarray) -> np.ndarray:
    """log((1 + z) / (1 - z)) / z as a function of z squared; even in z, 2 at 0."""
    z = np.sqrt(np.maximum(square, 1e-18))
    return np.where(square < 1e-18, 2.0, 2.0 * np.arctanh(z) / z)


# 2^f for |f| <= 1/2; log s for 1 <= s <= 3 as log sqrt(3) + z r(z^2), z = (s - sqrt 3) / (s + sqrt 3).
_ROOT = math.sqrt(3.0)
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10 = _fit(np.exp2, -0.5, 0.5, 10)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = _fit(_log_ratio, 0.0, ((_ROOT - 1) / (_ROOT + 1)) ** 2, 8)
_LOG_ROOT = math.log(3.0) / 2
_SHIFTER = 2.0**52  # added to a number in [0, 2^51], leaves its nearest integer in the lowest bits


@_compiled
def _half_to_the(s):  # type: ignore[no-untyped-def]
    """2^-s for s >= 0, as 2^f 2^-k with k the nearest integer; 0 where k would be 1023 or more."""
    s = min(s, 1023.0)
    shifted = s + _SHIFTER
    f = (shifted - _SHIFTER) - s
    p = ((((_E0 * f + _E1) * f + _E2) * f + _E3) * f + _E4) * f + _E5
    p = ((((p * f + _E6) * f + _E7) * f + _E8) * f + _E9) * f + _E10
    exponent = (np.int64(1023) << 52) - (np.float64(shifted).view(np.int64) << 52)
    return p * np.int64(exponent).view(np.float64)


@_compiled
def _soften_diagonal(cost, both, above, left, gamma, total, share_both, share_above, share_left):  # type: ignore[no-untyped-def]
    """R = cost - gamma log(sum of exp(-R' / gamma)) over the three predecessors, and their probabilities."""
    scale = 1.0 / (gamma * math.log(2.0))
    for q in range(cost.shape[0]):
        least = min(both[q], min(above[q], left[q]))
        e_both = _half_to_the((both[q] - least) * scale)
        e_above = _half_to_the((above[q] - least) * scale)
        e_left = _half_to_the((left[q] - least) * scale)
        s = e_both + e_above + e_left
        inverse = 1.0 / (s * (s + _ROOT))
        z = (s - _ROOT) * (inverse * s)
        w = z * z
        r = ((((_L0 * w + _L1) * w + _L2) * w + _L3) * w + _L4) * w + _L5
        r = ((r * w + _L6) * w + _L7) * w + _L8
        total[q] = cost[q] + (least - gamma * (_LOG_ROOT + z * r))
        probability = inverse * (s + _ROOT)
        share_both[q] = e_both * probability
        share_above[q] = e_above * probability
        share_left[q] = e_left * probability


@_compiled
def _soften(first, count, start, begin, costs, gamma, ring, shares, keep):  # type: ignore[no-untyped-def]
    """Run the recurrence over a chunk of diagonals.

    ring[d % 3, i + 1] is R of row i on diagonal d, between two cells that are FAR.
    """
    for here in range(first.shape[0]):
        d, low, k = begin + here, first[here], count[here]
        now, last, older = ring[d % 3], ring[(d - 1) % 3], ring[(d - 2) % 3]
        at = start[here] - start[0]
        p = at if keep else 0
        both, above, left = older[low : low + k], last[low : low + k], last[low + 1 : low + 1 + k]
        total, share_both = now[low + 1 : low + 1 + k], shares[0, p : p + k]  # contiguous, each of them
        share_above, share_left = shares[1, p : p + k], shares[2, p : p + k]
        cost = costs[at : at + k]
        _soften_diagonal(cost, both, above, left, gamma, total, share_both, share_above, share_left)
        now[low] = FAR
        now[low + k + 1] = FAR
        if d == 0:
            older[0] = FAR


@_compiled
def _retrace(first, count, start, begin, shares, mass, span, posterior, live):  # type: ignore[no-untyped-def]
    """Backward pass over a chunk: the probability that the path visits each cell.

    mass[d % 3, :, i + 1] is the probability mass that row i of diagonal d passes to its predecessors (both,
    above, left). End rows with mass below 1e-30 are skipped; `span` and `live` hold the remaining rows.
    """
    for here in range(first.shape[0] - 1, -1, -1):
        d = begin + here
        low = max(min(span[0, 0], span[1, 0]) - 1, first[here])
        high = min(max(span[0, 1], span[1, 1] - 1), first[here] + count[here] - 1)
        k = max(high - low + 1, 0)
        at = start[here] - start[0]
        posterior[at : at + count[here]] = 0.0
        at += low - first[here]
        e = posterior[at : at + k]
        both = mass[(d + 2) % 3, 0, low + 2 : low + 2 + k]
        above, left = mass[(d + 1) % 3, 1, low + 2 : low + 2 + k], mass[(d + 1) % 3, 2, low + 1 : low + 1 + k]
        for q in range(k):
            e[q] = both[q] + above[q] + left[q]
        from_low, to_high = 0, k - 1
        while from_low < k and e[from_low] < 1e-30:
            from_low += 1
        while to_high > from_low and e[to_high] < 1e-30:
            to_high -= 1
        now = mass[d % 3]
        for way in range(3):
            now[way, low : low + k + 2] = 0.0
            handed, share = now[way, low + 1 : low + 1 + k], shares[way, at : at + k]
            for q in range(from_low, to_high + 1):
                handed[q] = e[q] * share[q]
        span[1] = span[0]
        span[0, 0], span[0, 1] = low + from_low, low + to_high
        live[here] = span[0]


@_compiled
def _squared_distances(columns, reversed_columns, first, count, start, begin, costs):  # type: ignore[no-untyped-def]
    """Packed costs from differences, not from a product: no digits cancel, equal frames cost exactly 0."""
    num_columns = reversed_columns.shape[1]
    for here in range(first.shape[0]):
        low, k = first[here], count[here]
        turned = num_columns - 1 - begin - here + low  # place in reversed_columns of the first cell's column
        cost = costs[start[here] - start[0] : start[here] - start[0] + k]
        cost[:] = 0.0
        for f in range(columns.shape[0]):
            a, b = columns[f, low : low + k], reversed_columns[f, turned : turned + k]
            for q in range(k):
                cost[q] += (a[q] - b[q]) * (a[q] - b[q])


@_compiled
def _add_gradients(columns, reversed_columns, first, count, start, begin, posterior, live, for_x, for_y):  # type: ignore[no-untyped-def]
    """Add 2 e (x_i - y_j) to the gradient of x_i, and take it from that of y_j, for each live cell."""
    num_columns = reversed_columns.shape[1]
    for here in range(first.shape[0]):
        low, k = live[here, 0], live[here, 1] - live[here, 0] + 1
        turned = num_columns - 1 - begin - here + low
        at = start[here] - start[0] + low - first[here]
        e = posterior[at : at + k]
        for f in range(columns.shape[0]):
            a, b = columns[f, low : low + k], reversed_columns[f, turned : turned + k]
            to_a, to_b = for_x[f, low : low + k], for_y[f, turned : turned + k]
            for q in range(k):
                step = 2.0 * e[q] * (a[q] - b[q])
                to_a[q] += step
                to_b[q] -= step
