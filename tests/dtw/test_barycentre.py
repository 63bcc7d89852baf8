"""Barycentres against ten lines of NumPy, tslearn's documented values, and what an average must do."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sensorium.align import Slanted, dtw, dtw_barycentre, soft_dtw, soft_dtw_barycentre
from sensorium.core.errors import UsageError


def walks(*lengths: int, width: int = 2, number: int = 0) -> list[np.ndarray]:
    stream = np.random.default_rng(number)
    return [stream.standard_normal((length, width)).cumsum(0) for length in lengths]


def peak(length: int, place: float) -> np.ndarray:
    return np.exp(-(((np.arange(length) - place) / 3) ** 2))


def reference(series: list[np.ndarray], weights: np.ndarray, average: np.ndarray, times: int) -> np.ndarray:
    """DBA as published: gather what is aligned with each frame, average it."""
    for _ in range(times):
        gathered: list[list[tuple[float, np.ndarray]]] = [[] for _ in average]
        for one, weight in zip(series, weights, strict=True):
            for i, j in dtw(average, one, metric="sqeuclidean").path:
                gathered[i].append((weight, one[j]))
        average = np.array(
            [sum(w * frame for w, frame in some) / sum(w for w, _ in some) for some in gathered]
        )
    return average


def mean_cost(average: np.ndarray, series: list[np.ndarray], weights: np.ndarray) -> float:
    costs = [dtw(average, one, metric="sqeuclidean", path=False).distance for one in series]
    return float(weights @ costs / weights.sum())


def test_iterations_are_those_of_the_paper() -> None:
    series, weights = walks(31, 23, 29, 37), np.array([1.0, 2.0, 0.5, 3.0])
    start = walks(19, number=1)[0]
    found = dtw_barycentre(series, weights=weights, init=start, iterations=3, tolerance=0.0)
    np.testing.assert_allclose(found.values, reference(series, weights, start, 3), rtol=1e-12)
    for times, cost in enumerate(found.costs):
        average = reference(series, weights, start, times)
        assert cost == pytest.approx(mean_cost(average, series, weights), rel=1e-10)


@pytest.mark.parametrize(
    ("series", "options", "wanted"),
    [
        ([[1, 2, 3, 4], [1, 2, 4, 5]], {"init": "mean"}, [1, 2, 3.5, 4.5]),
        ([[0, 0, 0], [10, 10, 10]], {"init": "mean", "weights": [0.75, 0.25]}, [2.5, 2.5, 2.5]),
        ([[1, 2, 3, 4], [1, 2, 3, 4, 5]], {"init": [1, 2, 3, 4, 5]}, [1, 2, 3, 4, 4.5]),
    ],
)
def test_values_that_tslearn_documents(series: list[list[float]], options: dict, wanted: list[float]) -> None:
    assert dtw_barycentre(series, **options).values.ravel().tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("init", ["medoid", "mean"])
def test_cost_never_rises_and_the_search_ends(init: str) -> None:
    series = walks(41, 31, 37, 29, 43, number=2)
    found = dtw_barycentre(series, init=init, iterations=50, tolerance=0.0)
    assert found.has_converged
    assert (np.diff(found.costs) <= 1e-9).all()
    assert found.costs[-1] < found.costs[0]
    again = dtw_barycentre(series, init=found.values)
    np.testing.assert_allclose(again.values, found.values)


def test_one_series_or_equal_ones_are_their_own_average() -> None:
    (one,) = walks(17, number=3)
    for found in (
        dtw_barycentre([one]),
        dtw_barycentre([one] * 3),
        soft_dtw_barycentre([one] * 3, gamma=1e-6),
    ):
        np.testing.assert_allclose(found.values, one, atol=1e-4)
        assert found.has_converged


def test_weights_are_shares_and_counts() -> None:
    series = walks(19, 23, 17, number=4)
    start = series[1]
    doubled = dtw_barycentre([series[0], series[0], series[2]], init=start)
    weighted = dtw_barycentre(series, weights=[2.0, 0.0, 1.0], init=start)
    scaled = dtw_barycentre(series, weights=[20.0, 0.0, 10.0], init=start)
    np.testing.assert_allclose(weighted.values, doubled.values)
    np.testing.assert_allclose(weighted.values, scaled.values)


@pytest.mark.parametrize("average", [dtw_barycentre, soft_dtw_barycentre])
def test_a_peak_stays_a_peak(average: Callable) -> None:
    """What a barycentre is for: peaks at different places, whose mean is flat."""
    series = [peak(61, place) for place in (20, 27, 34, 41)]
    options = {"gamma": 0.01} if average is soft_dtw_barycentre else {}
    assert np.mean(series, axis=0).max() < 0.55
    found = average(series, **options).values.ravel()
    assert found.max() > 0.9
    assert (found > 0.5).sum() < 8


def test_soft_costs_are_soft_dtw_and_fall() -> None:
    series = walks(13, 17, 11, number=5)
    found = soft_dtw_barycentre(series, gamma=0.5, weights=[1.0, 2.0, 1.0], iterations=40)
    costs = [
        soft_dtw(torch.tensor(found.values)[None], torch.tensor(one)[None], gamma=0.5).item()
        for one in series
    ]
    assert found.costs[-1] == pytest.approx(np.dot(costs, [0.25, 0.5, 0.25]))
    assert (np.diff(found.costs) <= 1e-9).all()
    assert found.has_converged


def test_soft_with_little_gamma_is_as_good_as_dba() -> None:
    series, weights = walks(23, 19, 29, number=6), np.ones(3)
    hard = dtw_barycentre(series, iterations=100, tolerance=0.0)
    soft = soft_dtw_barycentre(series, gamma=0.05, tolerance=1e-9)
    assert mean_cost(soft.values, series, weights) < 1.02 * hard.costs[-1]


def test_debiased_does_not_flatten() -> None:
    """With a large gamma soft-DTW's minimum is smoothed; the divergence's, for one series, is the series."""
    (one,) = walks(23, number=7)
    biased = soft_dtw_barycentre([one], gamma=30.0, iterations=40).values
    debiased = soft_dtw_barycentre([one], gamma=30.0, iterations=40, debiased=True).values
    assert np.abs(debiased - one).max() < 1e-3
    assert np.abs(np.diff(biased, axis=0)).sum() < 0.8 * np.abs(np.diff(one, axis=0)).sum()


def test_length_and_window() -> None:
    series = walks(31, 29, 37, number=8)
    for average in (dtw_barycentre, soft_dtw_barycentre):
        found = average(series, length=23, window=Slanted(3), iterations=2)
        assert found.values.shape == (23, 2)
    assert dtw_barycentre(series, init="mean", iterations=1).values.shape == (37, 2)
    free = dtw_barycentre(series, length=23, iterations=2)
    assert free.costs[0] <= dtw_barycentre(series, length=23, window=Slanted(1), iterations=2).costs[0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: dtw_barycentre([]), "no series"),
        (lambda: dtw_barycentre([np.ones((3, 2)), np.ones((5, 1))]), "series[1] has width 1"),
        (lambda: dtw_barycentre([[1.0], [float("nan")]]), "series[1][0] is not finite"),
        (lambda: dtw_barycentre([[1.0], [2.0]], weights=[1.0]), "expected 2 numbers"),
        (lambda: dtw_barycentre([[1.0], [2.0]], weights=[1.0, -1.0]), "weights [1.0, -1.0]"),
        (lambda: dtw_barycentre([[1.0], [2.0]], weights=[0.0, 0.0]), "not all of them 0"),
        (lambda: dtw_barycentre([[1.0]], init="median"), "use medoid, mean or a series"),
        (lambda: dtw_barycentre([[1.0]], init=np.ones((3, 2))), "init has width 2"),
        (lambda: dtw_barycentre([[1.0]], length=0), "length=0"),
        (lambda: dtw_barycentre([[1.0]], iterations=0), "iterations=0"),
        (lambda: soft_dtw_barycentre([[1.0]], gamma=-1.0), "gamma=-1.0"),
    ],
)
def test_mistakes_are_told_in_one_line(call: Callable[[], object], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
