"""Occurrences of a query: planted ones are found; each is the best that the ones before it leave."""

import numpy as np
import pytest
from dtaidistance.subsequence.dtw import subsequence_alignment
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.align import dtw, subsequence
from sensorium.core.errors import UsageError


def test_planted_occurrences_are_found() -> None:
    random = np.random.default_rng(0)
    query = random.standard_normal((41, 13)).cumsum(axis=0)
    series = 20 * random.standard_normal((701, 13))
    for start, stretch in ((100, 1), (300, 2), (500, 1)):
        series[start : start + 41 * stretch] = np.repeat(query, stretch, axis=0) + start * 1e-5
    found = subsequence(query, series, k=3)
    # of the stretched one, the first and the last element may be used once only
    assert [(match.start, match.end) for match in found] == [(100, 141), (500, 541), (301, 381)]
    assert all(match.path[0].tolist() == [0, match.start] for match in found)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6),
    st.integers(1, 9),
    st.integers(1, 67),
    st.sampled_from(["symmetric1", "asymmetric"]),
)
def test_each_is_the_best_of_what_is_left(seed: int, n: int, m: int, step: str) -> None:
    random = np.random.default_rng(seed)
    query, series = random.standard_normal(n), random.standard_normal(m)
    found = subsequence(query, series, k=5, step=step)
    free = np.ones(m, dtype=bool)
    for match in found:
        edges = np.flatnonzero(np.diff(np.r_[0, free, 0]))
        least = np.inf
        for low, high in edges.reshape(-1, 2):
            costs = abs(query[:, None] - series[low:high])
            try:
                least = min(
                    least,
                    dtw(costs, metric="precomputed", step=step, open_begin=True, open_end=True).distance,
                )
            except UsageError:  # the stretch is too short for this pattern
                continue
        assert match.distance == pytest.approx(least, rel=1e-12)
        assert free[match.start : match.end].all()
        free[match.start : match.end] = False


def test_the_best_is_that_of_dtaidistance() -> None:
    random = np.random.default_rng(1)
    query, series = random.standard_normal(31).cumsum(), random.standard_normal(503).cumsum()
    theirs = subsequence_alignment(query, series, penalty=0, use_c=False).best_match()
    best = subsequence(query, series, metric="sqeuclidean")[0]
    assert best.distance == pytest.approx(theirs.distance**2, rel=1e-9)
    assert [best.start, best.end - 1] == list(theirs.segment)


def test_limits_on_number_and_cost() -> None:
    series = [0.0, 1.0, 2.0, 0.0, 1.0, 2.5]
    assert len(subsequence([1.0, 2.0], series, k=9, max_distance=0.6)) == 2
    assert subsequence([1.0, 2.0], [50.0, 60.0], max_distance=1.0) == []
    with pytest.raises(UsageError, match="k=0"):
        subsequence([1.0], [1.0], k=0)


def test_precomputed_costs_and_little_memory() -> None:
    random = np.random.default_rng(2)
    query, series = random.standard_normal((17, 3)), random.standard_normal((211, 3))
    costs = np.sqrt(((query[:, None] - series) ** 2).sum(-1))
    for found in (
        subsequence(costs, metric="precomputed", k=3),
        subsequence(query, series, k=3, max_path_mib=0.0),
    ):
        wanted = subsequence(query, series, k=3)
        assert [one.start for one in found] == [one.start for one in wanted]
        assert [one.distance for one in found] == pytest.approx([one.distance for one in wanted])
