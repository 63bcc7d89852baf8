"""DTW distances of many pairs of series: distance matrix, given pairs, or nearest neighbours.

Input: lists of series of any lengths. Output: distances, or the indices of the nearest series. Univariate
series are processed 16 pairs at a time, one per SIMD lane (`distance_kernels.many_pairs`); other series pair
by pair. Threads take small chunks of one list of pairs, which balances their load.

With a distance limit, Keogh's lower bound rules out pairs before computation. Other pairs are abandoned as
soon as every path exceeds the limit. Results stay exact.

Reference: Keogh & Ratanamahatana 2005, Exact indexing of dynamic time warping.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.core.jit import usable
from sensorium.dtw.batched import Lanes, fits_lanes
from sensorium.dtw.exact import Problem
from sensorium.dtw.metrics import Metric, Series, as_costs, as_series
from sensorium.dtw.scaling import beyond_float64
from sensorium.dtw.steps import StepPattern, step_pattern
from sensorium.dtw.warping import device_of, dtw, no_path, solve_on
from sensorium.dtw.windows import Window, ranges

SeriesList: TypeAlias = Sequence[Series] | Shaped[np.ndarray, "_ _ ..."] | Shaped[Tensor, "_ _ ..."]
PIECE = 128
"""Pairs per chunk of a thread: eight registers."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Nearest series of each query.

    Attributes:
        indices: (q, k), nearest first.
        distances: (q, k), infinite where there were fewer than k.
    """

    indices: Int64[np.ndarray, "q k"]
    distances: Float64[np.ndarray, "q k"]


def dtw_matrix(
    series: SeriesList,
    others: SeriesList | None = None,
    *,
    metric: Metric = "euclidean",
    window: Window = None,
    step: str | StepPattern = "symmetric1",
    max_distance: float | None = None,
    num_threads: int | None = None,
) -> Float64[np.ndarray, "n k"]:
    """DTW distance of every series to every other.

    >>> dtw_matrix([[0.0, 1.0], [0.0, 0.0, 1.0], [2.0, 3.0]])[0].tolist()
    [0.0, 0.0, 4.0]

    Args:
        series: n series, each (T,) or (T, D), or an array (n, T) or (n, T, D).
        others: k series to compare with; None compares the series with each other.
        metric: As in `dtw`, but not `precomputed`.
        window: As in `dtw`; a mask requires equal lengths.
        step: As in `dtw`.
        max_distance: Distances above it are returned as infinite, which is faster; None computes all.
        num_threads: None uses all cores available to the process.

    Raises:
        UsageError: As `dtw`, and if there are no series.
    """
    if metric == "precomputed":
        raise UsageError("metric='precomputed' compares one pair; use dtw")
    rows = _all_series("series", series)
    columns = rows if others is None else _all_series("others", others)
    pattern = step_pattern(step)
    mirrored = others is None and not callable(metric) and _is_mirrored(pattern, window)
    if mirrored:
        pairs = np.stack(np.triu_indices(len(rows), 1), axis=1)
    else:
        pairs = np.indices((len(rows), len(columns))).reshape(2, -1).T
    limit = math.inf if max_distance is None else max_distance
    found = _distances(rows, columns, pairs, metric, window, pattern, limit, num_threads)
    out = np.zeros((len(rows), len(columns)))
    out[pairs[:, 0], pairs[:, 1]] = found
    if mirrored:
        out[pairs[:, 1], pairs[:, 0]] = found
    return out


def dtw_batch(
    xs: SeriesList,
    ys: SeriesList,
    *,
    metric: Metric = "euclidean",
    window: Window = None,
    step: str | StepPattern = "symmetric1",
    num_threads: int | None = None,
) -> Float64[np.ndarray, " B"]:
    """DTW distance of each of B xs to the y of the same index; options as in `dtw_matrix`.

    >>> dtw_batch([[0.0, 1.0], [5.0]], [[0.0, 1.0, 1.0], [2.0, 3.0]]).tolist()
    [0.0, 5.0]

    Raises:
        UsageError: As `dtw_matrix`, and if the lists differ in length.
    """
    if len(xs) != len(ys):
        raise UsageError(f"{len(xs)} xs and {len(ys)} ys do not make pairs; give as many of both")
    rows, columns = _all_series("xs", xs), _all_series("ys", ys)
    pairs = np.stack([np.arange(len(xs))] * 2, axis=1)
    return _distances(rows, columns, pairs, metric, window, step_pattern(step), math.inf, num_threads)


def dtw_neighbours(
    queries: SeriesList,
    series: SeriesList,
    k: int = 1,
    *,
    metric: Metric = "euclidean",
    window: Window = None,
    step: str | StepPattern = "symmetric1",
) -> Neighbours:
    """Find the k nearest series of each query, exactly; options as in `dtw_matrix`.

    Candidates among univariate series are tried in the order of Keogh's bound, until it exceeds the k-th best
    distance. A narrow window prunes more. Other series are compared with every query.

    Raises:
        UsageError: As `dtw_matrix`, and if k is not from 1 to n, the number of series.
    """
    if not 1 <= k <= len(series):
        raise UsageError(
            f"k={k} neighbours among {len(series)} series cannot be found; give 1 to {len(series)}"
        )
    asked, known = _all_series("queries", queries), _all_series("series", series)
    pattern = step_pattern(step)
    if fits_lanes(asked, known, metric, window, pattern):
        lanes = Lanes(asked, known, metric, window, pattern)
        found = [lanes.nearest(query, k) for query in range(len(asked))]
        return Neighbours(np.stack([one[0] for one in found]), np.stack([one[1] for one in found]))
    matrix = dtw_matrix(queries, series, metric=metric, window=window, step=step)
    order = np.argsort(matrix, axis=1, kind="stable")[:, :k]
    return Neighbours(order, np.take_along_axis(matrix, order, axis=1))


def warm_up() -> bool:
    """Compile the kernels of `dtw` and related functions for float32 and float64, and cache them on disk.

    The first call on a machine takes some seconds. Call it when a server starts or an image is built;
    otherwise each kernel is compiled at its first use.

    Returns:
        True if numba kernels are available; False if PyTorch is used instead.
    """
    if not usable():
        return False
    for dtype in (np.float32, np.float64):
        line, wide = np.arange(7, dtype=dtype), np.arange(91, dtype=dtype).reshape(7, 13)
        for metric in ("sqeuclidean", "cityblock"):
            dtw(wide, wide, metric=metric, window=2, path=False)
        for step in ("symmetric1", "asymmetric"):
            dtw(wide, wide, step=step)
        dtw(line, line, path=False)
        dtw_matrix([line, line], window=2, max_distance=1.0)
    return True


def _all_series(name: str, found: SeriesList) -> list[np.ndarray]:
    if len(found) == 0:
        raise UsageError(f"{name} is empty; give one series at least")
    return [as_series(f"{name}[{place}]", one) for place, one in enumerate(found)]


def _is_mirrored(pattern: StepPattern, window: Window) -> bool:
    """Whether the distance is symmetric in x and y."""
    turned = {tuple((dj, di, weight) for di, dj, weight in moves) for moves in pattern.productions}
    return turned == set(pattern.productions) and not isinstance(window, np.ndarray)


def _distances(
    xs: list[np.ndarray],
    ys: list[np.ndarray],
    pairs: Int64[np.ndarray, "P 2"],
    metric: Metric,
    window: Window,
    pattern: StepPattern,
    limit: float,
    num_threads: int | None,
) -> Float64[np.ndarray, " P"]:
    out = np.full(len(pairs), math.inf)
    if fits_lanes(xs, ys, metric, window, pattern):
        lanes = Lanes(xs, ys, metric, window, pattern)
        places = lanes.possible(pairs, limit)

        def take(piece: Int64[np.ndarray, " p"]) -> None:
            out[piece] = lanes.distances(pairs[piece], limit)
            if math.isinf(limit) and np.isinf(out[piece]).any():
                raise beyond_float64()

    else:
        places = np.arange(len(pairs))

        def take(piece: Int64[np.ndarray, " p"]) -> None:
            for place in piece:
                i, j = pairs[place]
                out[place] = _distance(xs[i], ys[j], metric, window, pattern, limit)

    _in_threads(take, places, num_threads)
    return out


def _distance(
    x: np.ndarray, y: np.ndarray, metric: Metric, window: Window, pattern: StepPattern, limit: float
) -> float:
    costs = as_costs(x, y, metric)
    problem = Problem(costs, ranges(window, *costs.shape), pattern, limit=limit)
    solved, _ = solve_on(device_of(x, y), problem, path=False, cap_bytes=0)
    if math.isinf(solved.distance) and math.isinf(limit):
        raise no_path(window, pattern, *costs.shape)
    return solved.distance


def _in_threads(
    take: Callable[[Int64[np.ndarray, " p"]], None], places: Int64[np.ndarray, " P"], num_threads: int | None
) -> None:
    """Distribute chunks of pairs to threads; kernels release the GIL."""
    number = len(os.sched_getaffinity(0)) if num_threads is None else num_threads
    if number < 1:
        raise UsageError(f"num_threads={number} is not possible; give 1 or more")
    size = max(1, min(PIECE, len(places) // (4 * number)))
    pieces = [places[low : low + size] for low in range(0, len(places), size)]
    if number == 1 or len(pieces) < 2:
        for piece in pieces:
            take(piece)
        return
    with ThreadPoolExecutor(number) as pool:
        for done in [pool.submit(take, piece) for piece in pieces]:
            done.result()
