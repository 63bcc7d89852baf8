"""DTW distances of many pairs of univariate series, computed with SIMD and pruned by Keogh's lower bound.

Series are packed once and scaled by one power of two, that of the largest value. Distances that may have lost
digits through this scaling are recomputed pair by pair. Limits: scalar elements, a plain metric, and no
window or a band.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Float64, Int64

from sensorium.core.jit import compiled, unreached, usable
from sensorium.dtw.exact import Problem
from sensorium.dtw.metrics import Metric, as_costs
from sensorium.dtw.scaling import (
    beyond_float64,
    can_vanish,
    exponent_of,
    floor_of,
    in_units,
    scaled,
    times_power_of_two,
)
from sensorium.dtw.steps import StepPattern
from sensorium.dtw.warping import solve_on
from sensorium.dtw.windows import SakoeChiba, Window, impossible, ranges

POWERS = {"sqeuclidean": 2, "euclidean": 1, "cityblock": 1}
SLACK = 1 + 1e-4
"""Factor on a limit before it is compared with rounded sums."""
TRIED = 64
"""Candidates of the neighbour search that are compared before the limit is updated."""


def fits_lanes(
    xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], metric: Metric, window: Window, pattern: StepPattern
) -> bool:
    """Whether the batched kernels apply: scalar elements, plain metric and pattern, at most a band."""
    plain = isinstance(metric, str) and metric in POWERS
    weight = pattern.diagonal_weight
    band = window is None or isinstance(window, (SakoeChiba, int, np.integer))
    numbers = all(one.shape[1] == 1 for one in (*xs, *ys))
    return usable() and plain and band and numbers and weight is not None and weight >= 1


class Packed:
    """Univariate series, concatenated and scaled."""

    def __init__(self, series: Sequence[np.ndarray], scale: int, dtype: np.dtype[Any]) -> None:
        self.sizes = np.array([len(one) for one in series], np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.values = np.concatenate([one[:, 0] for one in series]).astype(dtype)
        self.values = scaled(self.values, scale)

    def __getitem__(self, place: int) -> Float[np.ndarray, " T"]:
        start = self.starts[place]
        return self.values[start : start + self.sizes[place]]


class Lanes:
    """Distances of pairs (i, j): series i of xs with series j of ys; UsageError if a window has no path."""

    def __init__(
        self,
        xs: Sequence[np.ndarray],
        ys: Sequence[np.ndarray],
        metric: Metric,
        window: Window,
        pattern: StepPattern,
    ) -> None:
        self._dtype = np.result_type(*{one.dtype for one in (*xs, *ys)})
        scale = exponent_of(*(one.astype(self._dtype, copy=False) for one in (*xs, *ys)))
        self._power = POWERS[str(metric)]
        self._exponent = scale * self._power
        self._extra = (pattern.diagonal_weight or 1) - 1
        self._x, self._y = Packed(xs, scale, self._dtype), Packed(ys, scale, self._dtype)
        self._longest = int(max(self._x.sizes.max(), self._y.sizes.max()))
        self._radius = _radius(window, self._x, self._y, self._longest)
        steps = 2 * self._longest * max(1.0, 1 + self._extra)
        self._floor = steps * floor_of(1, self._dtype, root=False)
        self._given = xs, ys, metric, window, pattern

    def distances(self, pairs: Int64[np.ndarray, "P 2"], limit: float) -> Float64[np.ndarray, " P"]:
        """Distances; infinite above the limit, or beyond float64."""
        from sensorium.dtw.distance_kernels import MANY_PAIRS, many_pairs

        number = self._dtype.type
        big = unreached(self._dtype)
        out = np.empty(len(pairs), self._dtype)
        compiled(many_pairs, MANY_PAIRS, self._dtype)(
            *(self._x.values, self._x.starts, self._x.sizes, self._y.values, self._y.starts, self._y.sizes),
            *(np.ascontiguousarray(pairs), self._radius, self._power, number(self._extra)),
            *(number(math.sqrt(big)), number(big), self._least(limit), out),
        )
        found = self._in_units(out)
        small = np.flatnonzero(out < self._floor)
        for place in small if small.size and self._can_vanish else ():
            i, j = pairs[place].tolist()
            found[place] = self._exact(i, j, limit)
        found[(out >= big / 2) | (found > limit)] = math.inf
        for place in np.flatnonzero((found == 0) & (out > 0))[:1]:
            in_units(float(out[place]), self._exponent)  # refuses it
        return found

    def _exact(self, i: int, j: int, limit: float) -> float:
        xs, ys, metric, window, pattern = self._given
        costs = as_costs(xs[i], ys[j], metric)
        problem = Problem(costs, ranges(window, *costs.shape), pattern, limit=limit)
        return solve_on(None, problem, path=False, cap_bytes=0)[0].distance

    @functools.cached_property
    def _can_vanish(self) -> bool:
        series = [one.astype(self._dtype, copy=False) for one in (*self._given[0], *self._given[1])]
        return can_vanish(self._exponent // self._power, self._power, *series)

    def _least(self, limit: float) -> np.floating[Any]:
        """The limit in scaled units, but at least the value below which pairs are recomputed."""
        least = SLACK * times_power_of_two(limit, -self._exponent)
        number: np.floating[Any] = self._dtype.type(min(max(least, self._floor), unreached(self._dtype)))
        return number

    def _in_units(self, out: Float[np.ndarray, " P"]) -> Float64[np.ndarray, " P"]:
        with np.errstate(over="ignore", under="ignore"):
            found: Float64[np.ndarray, " P"] = np.ldexp(out.astype(np.float64), self._exponent)
        return found

    def possible(self, pairs: Int64[np.ndarray, "P 2"], limit: float) -> Int64[np.ndarray, " Q"]:
        """Indices of pairs whose lower bound is within the limit, sorted by length."""
        places = np.arange(len(pairs))
        if math.isfinite(limit):
            places = places[self.bounds(pairs, limit) <= limit * SLACK]
        sizes = self._x.sizes[pairs[places, 0]], self._y.sizes[pairs[places, 1]]
        return places[np.lexsort(sizes)]

    def bounds(self, pairs: Int64[np.ndarray, "P 2"], limit: float) -> Float64[np.ndarray, " P"]:
        """Keogh's lower bound of each pair, the greater of both directions; summation stops at `limit`."""
        from sensorium.dtw.distance_kernels import BOUNDS, bounds

        kernel = compiled(bounds, BOUNDS, self._dtype)
        out = np.zeros(len(pairs), self._dtype)
        least = self._least(limit)
        x, y = (np.ascontiguousarray(pairs[:, side]) for side in (0, 1))
        for one, first, other, second in ((self._x, x, self._y, y), (self._y, y, self._x, x)):
            low, high, place = self._envelopes[other is self._y]
            sizes = one.starts, one.sizes
            kernel(one.values, first, *sizes, second, low, high, place, self._power, least, out)
        return self._in_units(out)

    def nearest(self, query: int, k: int) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
        """The k nearest ys of one x and their distances, tried in the order of their lower bound."""
        everyone = np.arange(len(self._y.sizes))
        pairs = np.stack([np.full_like(everyone, query), everyone], axis=1)
        bounds = self.bounds(pairs, math.inf)
        order = np.argsort(bounds, kind="stable")
        best = np.full(len(everyone), math.inf)
        limit = math.inf
        for low in range(0, len(order), TRIED):
            piece = order[low : low + TRIED]
            piece = piece[bounds[piece] <= limit * SLACK]
            if piece.size == 0:
                break
            best[piece] = self.distances(pairs[piece], limit)
            limit = float(np.partition(best, k - 1)[k - 1])
        chosen = np.argsort(best, kind="stable")[:k]
        if math.isinf(best[chosen[-1]]):
            raise beyond_float64()
        return chosen, best[chosen]

    @functools.cached_property
    def _envelopes(self) -> tuple[_Envelope, _Envelope]:
        """Lower and upper envelopes and their offsets: of the xs, of the ys."""
        return self._envelope(self._x), self._envelope(self._y)

    def _envelope(self, packed: Packed) -> _Envelope:
        from sensorium.dtw.distance_kernels import ENVELOPES, envelopes

        lengths = np.minimum(packed.sizes + self._radius, self._longest)
        places = np.cumsum(lengths) - lengths
        low, high = np.empty((2, int(lengths.sum())), self._dtype)
        compiled(envelopes, ENVELOPES, self._dtype)(
            packed.values, packed.starts, packed.sizes, self._radius, places, lengths, low, high
        )
        return low, high, places


_Envelope: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


def _radius(window: Window, xs: Packed, ys: Packed, longest: int) -> int:
    """Radius of the band; without a window, a radius that allows every cell."""
    if window is None:
        return longest + 1
    for n in set(xs.sizes.tolist()):
        for m in set(ys.sizes.tolist()):
            ranges(window, n, m)
    radius = window.radius if isinstance(window, SakoeChiba) else int(window)  # type: ignore[arg-type]
    if radius < max(xs.sizes.max() - ys.sizes.min(), ys.sizes.max() - xs.sizes.min()):
        raise impossible(window, int(xs.sizes.max()), int(ys.sizes.min()))
    return min(radius, longest + 1)
