"""Subsequence DTW: finds the k best non-overlapping occurrences of a short series in a long one.

Input: a query and a series. Output: `Match`es, best first. The best match is the cheapest path that uses the
whole query and any interval of the series (both ends open). The remaining intervals on both sides are
searched again, so each further match is the best one that does not overlap earlier ones.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int64

from sensorium.core.errors import UsageError
from sensorium.dtw.exact import Problem
from sensorium.dtw.metrics import Metric, Series, as_costs
from sensorium.dtw.steps import StepPattern, step_pattern
from sensorium.dtw.warping import MAX_PATH_MIB, device_of, solve_on
from sensorium.dtw.windows import ranges


@dataclass(frozen=True, eq=False)
class Match:
    """An occurrence of the query.

    Attributes:
        start: First matched element of the series.
        end: One past the last matched element.
        distance: Cost of the path.
        path: Pairs (i of the query, j of the series).
    """

    start: int
    end: int
    distance: float
    path: Int64[np.ndarray, "L 2"]


_Piece: TypeAlias = tuple[float, int, int, Match]
"""An interval of the series: distance of its best match, start, end, the match."""


def subsequence(
    query: Series,
    series: Series | None = None,
    k: int = 1,
    *,
    metric: Metric = "euclidean",
    step: str | StepPattern = "symmetric1",
    max_distance: float = math.inf,
    max_path_mib: float = MAX_PATH_MIB,
) -> list[Match]:
    """Find the k best occurrences of a query in a series.

    >>> subsequence([1.0, 2.0], [0.0, 1.0, 2.0, 0.0, 1.0, 2.5], k=2)[1].start
    4

    Args:
        query: (n,) or (n, D); costs (n, m) if precomputed.
        series: (m,) or (m, D).
        k: Maximum number of matches; fewer are returned if the rest of the series has none.
        metric: As in `dtw`.
        step: As in `dtw`; with `asymmetric` a match has 0 to 2 times the query's length.
        max_distance: Matches with a greater cost are omitted.
        max_path_mib: As in `dtw`.

    Raises:
        UsageError: As `dtw`, and if k is less than 1.
    """
    if k < 1:
        raise UsageError(f"k={k} matches cannot be found; give 1 or more")
    pattern = step_pattern(step)
    costs = as_costs(query, series, metric)
    n, m = costs.shape
    cap, device = int(max_path_mib * 2**20), device_of(query, series)

    def best_in(first: int, last: int) -> list[_Piece]:
        if first == last:
            return []
        part = costs.part(first, last)
        problem = Problem(part, ranges(None, n, last - first), pattern, True, True, max_distance)
        match = _best(problem, first, device, cap)
        return [] if match is None else [(match.distance, first, last, match)]

    found: list[Match] = []
    waiting = best_in(0, m)
    while waiting and len(found) < k:
        _, first, last, match = heapq.heappop(waiting)
        found.append(match)
        if len(found) == k:
            break
        for piece in (*best_in(first, match.start), *best_in(match.end, last)):
            heapq.heappush(waiting, piece)
    return found


def _best(problem: Problem, first: int, device: torch.device | None, cap_bytes: int) -> Match | None:
    """The best match in a piece of the series that begins at `first`; None if it holds none."""
    solved, _ = solve_on(device, problem, path=True, cap_bytes=cap_bytes)
    if solved.path is None:
        return None
    path = solved.path + np.array([0, first])
    return Match(int(path[0, 1]), int(path[-1, 1]) + 1, solved.distance, path)
