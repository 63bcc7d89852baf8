"""Dynamic time warping: the cheapest monotone alignment of two series.

    D(i, j) = min over productions p of D(i - di_p, j - dj_p) + sum of weight * cost of the cells p enters

Input: two series (n, D) and (m, D), or a cost matrix; metric, window, step pattern, open ends. Output:
`Alignment`. The distance is the sum of local costs along the path, without root or normalisation. With
`metric="sqeuclidean"`, `dtaidistance.distance` is the square root of it, and aeon's distance equals it.

Reference: Sakoe & Chiba 1978; Rabiner & Juang 1993, chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.core.jit import usable
from sensorium.dtw.costs import Costs
from sensorium.dtw.exact import Problem, Solved, solve
from sensorium.dtw.metrics import Metric, Series, as_costs
from sensorium.dtw.scaling import in_units, times_power_of_two
from sensorium.dtw.steps import StepPattern, step_pattern
from sensorium.dtw.windows import Window, impossible, ranges

Backend: TypeAlias = Literal["auto", "numba", "torch"]
SEGMENT = 25
"""Path pairs over which a confidence is averaged."""
BACKGROUND = 64
"""Elements of the other series in the background cost."""
MAX_PATH_MIB = 256.0
"""Memory for backpointers; beyond it, blocks of rows are computed twice."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Alignment of two series.

    Attributes:
        distance: Sum of weight * cost along the path, in units of the metric.
        shape: (n, m), the lengths.
        path: Pairs (i, j) in order, i of x and j of y; None if not requested.
        weights: Weight of each pair's cost; None without a path.
        divisor: Divisor that makes distances of different lengths comparable under this step pattern; None if
            there is none.
    """

    distance: float
    shape: tuple[int, int]
    path: Int64[np.ndarray, "L 2"] | None = field(repr=False)
    weights: Float64[np.ndarray, " L"] | None = field(repr=False)
    divisor: int | None
    _costs: Costs = field(repr=False)

    @property
    def normalized(self) -> float:
        """Distance divided by the step pattern's divisor; UsageError if it has none, such as symmetric1."""
        if self.divisor is None:
            raise UsageError("this step pattern has no normalisation; use symmetric2 or asymmetric")
        return self.distance / self.divisor

    @cached_property
    def confidence(self) -> Float64[np.ndarray, " L"]:
        """Confidence of each pair of the path, 0 to 1: 1 - c / b, clipped.

        c is the mean cost of the `SEGMENT` pairs around. b is the *background* cost of the same elements,
        paired with `BACKGROUND` evenly spaced elements of the other series (the lesser of both directions). 1
        means identical, 0 no better than an arbitrary pairing. Repeated content is not detected.
        """
        path = self._pairs()
        own, other = _smooth(self._own(path)), _smooth(self._background(path))
        return _contrast(own, other)

    def segment_confidence(self, edges: Sequence[int]) -> Float64[np.ndarray, " s"]:
        """Confidence 1 - c / b of whole segments of x, from each edge to the next.

        Args:
            edges: Increasing positions in x, such as the first frames of words and the length of x.
        """
        path = self._pairs()
        places = np.searchsorted(path[:, 0], np.asarray(edges))
        own, other = (
            np.concatenate([[0.0], np.cumsum(values)]) for values in (self._own(path), self._background(path))
        )
        return _contrast(np.diff(own[places]), np.diff(other[places]))

    def places(self) -> Float64[np.ndarray, " n"]:
        """Position of each element of x in y: the mean of its partners."""
        path = self._pairs()
        counts = np.bincount(path[:, 0], minlength=self.shape[0])
        sums = np.bincount(path[:, 0], weights=path[:, 1], minlength=self.shape[0])
        used = np.flatnonzero(counts)
        where: Float64[np.ndarray, " n"] = np.interp(
            np.arange(self.shape[0]), used, sums[used] / counts[used]
        )
        return where

    def _pairs(self) -> Int64[np.ndarray, "L 2"]:
        if self.path is None:
            raise UsageError("this alignment has no path; call dtw with path=True")
        return self.path

    def _own(self, path: Int64[np.ndarray, "L 2"]) -> Float64[np.ndarray, " L"]:
        return self._costs.at(path[:, 0], path[:, 1])

    def _background(self, path: Int64[np.ndarray, "L 2"]) -> Float64[np.ndarray, " L"]:
        n, m = self.shape
        some_x, some_y = _spread(n), _spread(m)
        of_x = self._costs.grid(np.arange(n), some_y).mean(axis=1)
        of_y = self._costs.grid(some_x, np.arange(m)).mean(axis=0)
        lesser: Float64[np.ndarray, " L"] = np.minimum(of_x[path[:, 0]], of_y[path[:, 1]])
        return lesser


def dtw(
    x: Series,
    y: Series | None = None,
    *,
    metric: Metric = "euclidean",
    window: Window = None,
    step: str | StepPattern = "symmetric1",
    open_begin: bool = False,
    open_end: bool = False,
    path: bool = True,
    max_path_mib: float = MAX_PATH_MIB,
    backend: Backend = "auto",
) -> Alignment:
    """Align two series exactly.

    >>> found = dtw([0.0, 1.0, 2.0], [0.0, 0.0, 1.0, 2.0])
    >>> found.distance, found.path.tolist()
    (0.0, [[0, 0], [0, 1], [1, 2], [2, 3]])

    Args:
        x: Series (n,) or (n, D), or costs (n, m) if precomputed.
        y: Series (m,) or (m, D).
        metric: `sqeuclidean`, `euclidean`, `cityblock`, `cosine`, `precomputed`, or a function from blocks
            (k, D) and (w, D) to costs (k, w).
        window: Allowed pairs: None for all, a radius, `SakoeChiba`, `Slanted`, `Itakura`, or a bool matrix.
        step: Name of a step pattern, or a `StepPattern`.
        open_begin: The path may begin at any element of y.
        open_end: The path may end at any element of y.
        path: False computes the distance only, in memory that grows as n + m.
        max_path_mib: Memory for backpointers (2 bits per cell); beyond it, time doubles and memory stays
            small.
        backend: `numba` (CPU), `torch` (the tensors' device), or `auto`: torch for tensors on an accelerator
            or without numba, else numba.

    Raises:
        UsageError: If the series are not finite or do not match, the window allows no path, or the distance
            exceeds float64.
    """
    pattern = step_pattern(step)
    costs = as_costs(x, y, metric)
    n, m = costs.shape
    problem = Problem(costs, ranges(window, n, m), pattern, open_begin, open_end)
    device = device_of(x, y, backend)
    solved, costs = solve_on(device, problem, path=path, cap_bytes=int(max_path_mib * 2**20))
    if math.isinf(solved.distance):
        raise no_path(window, pattern, n, m)
    return Alignment(solved.distance, (n, m), solved.path, solved.weights, pattern.divisor(n, m), costs)


def device_of(x: Series, y: Series | None, backend: Backend = "auto") -> torch.device | None:
    """Device for PyTorch; None for numba on the CPU. UsageError if the backend is unknown or fails."""
    if backend not in ("auto", "numba", "torch"):
        raise UsageError(f"backend '{backend}' is not known; use auto, numba or torch")
    if backend == "numba" and not usable():
        raise UsageError("numba does not work here; use backend='torch', or mend its installation")
    devices = [series.device for series in (x, y) if isinstance(series, Tensor)]
    away = [device for device in devices if device.type != "cpu"]
    if backend == "numba" or (backend == "auto" and not away and usable()):
        return None
    return away[0] if away else torch.device("cpu")


def solve_on(
    device: torch.device | None, problem: Problem, *, path: bool, cap_bytes: int
) -> tuple[Solved, Costs]:
    """Solve with PyTorch on a device, or with numba if it is None.

    A sum that may have lost digits by underflow is recomputed on the CPU from finer costs.

    Returns:
        The solution, with the distance in the caller's units, and the costs it was computed from.

    Raises:
        UsageError: If the distance exceeds float64, unless the problem's limit is finite and exceeded.
    """
    solved = _solve_once(device, problem, path=path, cap_bytes=cap_bytes)
    while solved.distance < problem.floor and (finer := problem.costs.finer()) is not None:
        problem = replace(problem, costs=finer)
        device = None if usable() else torch.device("cpu")
        solved = _solve_once(device, problem, path=path, cap_bytes=cap_bytes)
    exponent = problem.costs.exponent
    if times_power_of_two(solved.distance, exponent) > problem.limit:
        return Solved(math.inf), problem.costs
    return replace(solved, distance=in_units(solved.distance, exponent)), problem.costs


def _solve_once(device: torch.device | None, problem: Problem, *, path: bool, cap_bytes: int) -> Solved:
    if device is None:
        return solve(problem, path=path, cap_bytes=cap_bytes)
    from sensorium.dtw.torch_backend import solve_by_torch

    return solve_by_torch(problem, path=path, device=device)


def no_path(window: Window, pattern: StepPattern, n: int, m: int) -> UsageError:
    """The error for a window and a step pattern that allow no path."""
    if window is not None:
        return impossible(window, n, m)
    return UsageError(
        f"step pattern '{pattern.name}' has no path for lengths {n} and {m}; "
        "use symmetric1, or open_begin and open_end"
    )


def _spread(count: int) -> Int64[np.ndarray, " s"]:
    return np.unique(np.linspace(0, count - 1, min(count, BACKGROUND)).round().astype(np.int64))


def _smooth(values: Float64[np.ndarray, " L"]) -> Float64[np.ndarray, " L"]:
    """Mean over the `SEGMENT` values around each, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low = np.maximum(places - SEGMENT // 2, 0)
    high = np.minimum(places + SEGMENT // 2 + 1, len(values))
    means: Float64[np.ndarray, " L"] = (sums[high] - sums[low]) / (high - low)
    return means


def _contrast(own: Float64[np.ndarray, " L"], other: Float64[np.ndarray, " L"]) -> Float64[np.ndarray, " L"]:
    ratio = np.divide(own, other, out=np.where(own > 0, 1.0, 0.0), where=other > 0)
    contrast: Float64[np.ndarray, " L"] = np.clip(1 - ratio, 0, 1)
    return contrast
