"""Where a short series occurs in a long one: the k best places, none overlapping another.

In: a query and a series. Out: `Match`es, best first. The best place is the cheapest path that uses all of the
query and any stretch of the series (both ends open). What is left of the series on either side is searched
again, so that every further match is the best among those that share no element with the ones before it.
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
from sensorium.dtw.costs import Part
from sensorium.dtw.exact import Problem
from sensorium.dtw.metrics import Metric, Series, as_costs
from sensorium.dtw.steps import StepPattern, step_pattern
from sensorium.dtw.warping import MAX_PATH_MIB, device_of, solve_on
from sensorium.dtw.windows import ranges


@dataclass(frozen=True, eq=False)
class Match:
    """An occurrence of the query.

    Attributes:
        start: First element of the series that it uses.
        end: One past the last.
        distance: Cost of the path.
        path: Pairs (i of the query, j of the series).
    """

    start: int
    end: int
    distance: float
    path: Int64[np.ndarray, "L 2"]


_Piece: TypeAlias = tuple[float, int, int, Match]
"""Distance of the best match in it, first element, one past the last, the match."""


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
    """The k best occurrences of a query in a series.

    >>> subsequence([1.0, 2.0], [0.0, 1.0, 2.0, 0.0, 1.0, 2.5], k=2)[1].start
    4

    Args:
        query: (n,) or (n, D); costs (n, m) if precomputed.
        series: (m,) or (m, D).
        k: Most matches wanted; fewer are given if the rest of the series holds no more.
        metric: As in `dtw`.
        step: As in `dtw`; `asymmetric` keeps a match's length within 0 to 2 times the query's.
        max_distance: Matches that cost more are left out.
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
        part = Part(costs, first, last)
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
