"""Exact DTW: the recurrence in ten lines is the reference; its laws hold for any series."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.align import Alignment, dtw, warm_up
from sensorium.dtw.steps import step_pattern

RELATIVE = {"float32": 2e-6, "float64": 1e-13}
METRICS = {
    "sqeuclidean": lambda x, y: ((x[:, None] - y) ** 2).sum(-1),
    "euclidean": lambda x, y: np.sqrt(((x[:, None] - y) ** 2).sum(-1)),
    "cityblock": lambda x, y: np.abs(x[:, None] - y).sum(-1),
    "cosine": lambda x, y: 1 - (x @ y.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1),
}
any_seed = st.integers(0, 2**32 - 1)
any_length = st.integers(1, 71)


def reference(
    costs: np.ndarray, diagonal: float = 1, open_begin: bool = False, open_end: bool = False
) -> float:
    """The recurrence as it is written."""
    sums = np.full(costs.shape, np.inf)
    for i, j in np.ndindex(costs.shape):
        sums[i, j] = costs[i, j] if i == 0 and (j == 0 or open_begin) else np.inf
        if i and j:
            sums[i, j] = min(sums[i, j], sums[i - 1, j - 1] + diagonal * costs[i, j])
        if i:
            sums[i, j] = min(sums[i, j], sums[i - 1, j] + costs[i, j])
        if j:
            sums[i, j] = min(sums[i, j], sums[i, j - 1] + costs[i, j])
    return float(sums[-1].min() if open_end else sums[-1, -1])


def walks(seed: int, n: int, m: int, width: int, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal((size, width)).cumsum(axis=0).astype(dtype) for size in (n, m))  # type: ignore[return-value]


def paid(found: Alignment, costs: np.ndarray) -> float:
    assert found.path is not None
    assert found.weights is not None
    return float((costs[found.path[:, 0], found.path[:, 1]] * found.weights).sum())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 3, 19])
@pytest.mark.parametrize("metric", METRICS)
def test_distance_and_path_are_those_of_the_recurrence(metric: str, width: int, dtype: str) -> None:
    for n, m in ((1, 1), (1, 7), (5, 1), (67, 131), (130, 61)):
        x, y = walks(n + m, n, m, width, dtype)
        costs = METRICS[metric](x.astype(np.float64), y.astype(np.float64))
        wanted = pytest.approx(reference(costs), rel=RELATIVE[dtype], abs=RELATIVE[dtype])
        assert dtw(x, y, metric=metric, path=False).distance == wanted
        for max_path_mib in (256.0, 0.0):
            found = dtw(x, y, metric=metric, max_path_mib=max_path_mib)
            assert found.distance == wanted
            assert paid(found, costs) == wanted


@pytest.mark.parametrize("step", ["symmetric1", "symmetric2"])
@pytest.mark.parametrize(("open_begin", "open_end"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("width", [1, 11])
def test_open_ends(open_begin: bool, open_end: bool, step: str, width: int) -> None:
    x, y = walks(3, 41, 103, width)
    options = {"open_begin": open_begin, "open_end": open_end, "step": step}
    costs = METRICS["euclidean"](x, y)
    wanted = reference(costs, 2 if step == "symmetric2" else 1, open_begin, open_end)
    found = dtw(x, y, **options)
    assert found.path is not None
    assert [found.distance, dtw(x, y, path=False, **options).distance, paid(found, costs)] == pytest.approx(
        [wanted] * 3, rel=1e-12
    )
    assert found.path[0, 0] == 0
    assert found.path[-1, 0] == len(x) - 1
    assert open_begin or found.path[0, 1] == 0
    assert open_end or found.path[-1, 1] == len(y) - 1


@settings(deadline=None, max_examples=60)
@given(any_seed, any_length, any_length, st.sampled_from([1, 2, 13]), st.sampled_from(sorted(METRICS)))
def test_laws(seed: int, n: int, m: int, width: int, metric: str) -> None:
    x, y = walks(seed, n, m, width)
    found, turned, backward = (
        dtw(x, y, metric=metric),
        dtw(y, x, metric=metric),
        dtw(x[::-1], y[::-1], metric=metric),
    )
    assert found.path is not None
    assert found.distance == pytest.approx(turned.distance, rel=1e-9, abs=1e-9)
    assert found.distance == pytest.approx(backward.distance, rel=1e-9, abs=1e-9)
    assert found.distance == pytest.approx(paid(found, METRICS[metric](x, y)), rel=1e-9, abs=1e-9)
    moves = np.diff(found.path, axis=0)
    assert ((moves >= 0) & (moves <= 1)).all()
    assert (moves.sum(axis=1) > 0).all()
    assert (found.path[[0, -1]] == [[0, 0], [n - 1, m - 1]]).all()
    assert dtw(x, x, metric=metric).distance == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(any_seed, any_length, any_length, st.sampled_from([1, 13]))
def test_repeating_elements_costs_nothing(seed: int, n: int, m: int, width: int) -> None:
    x, y = walks(seed, n, m, width)
    times = np.random.default_rng(seed).integers(1, 4, n)
    assert dtw(np.repeat(x, times, axis=0), x).distance == pytest.approx(0, abs=1e-9)
    assert dtw(x, y).distance <= dtw(np.repeat(x, times, axis=0), y).distance + 1e-9


def test_the_diagonal_wins_ties() -> None:
    found = dtw(np.zeros(7), np.zeros(7))
    assert found.path is not None
    assert found.path.tolist() == [[i, i] for i in range(7)]


def test_a_known_warp_is_found_again() -> None:
    random = np.random.default_rng(0)
    y = random.standard_normal((503, 17)).cumsum(axis=0).astype(np.float32)
    places = np.sort(random.integers(0, 503, 601))
    x = y[places] + np.float32(0.05) * random.standard_normal((601, 17)).astype(np.float32)
    found = dtw(x, y)
    assert found.path is not None
    errors = np.abs(found.path[:, 1] - places[found.path[:, 0]])
    assert np.median(errors) == 0
    assert errors.mean() < 0.5


def test_precomputed_and_called_costs_are_the_same_numbers() -> None:
    x, y = walks(5, 37, 53, 3)
    costs = METRICS["euclidean"](x, y)
    wanted = dtw(x, y)
    assert wanted.path is not None
    for found in (dtw(costs, metric="precomputed"), dtw(x, y, metric=METRICS["euclidean"])):
        assert found.distance == pytest.approx(wanted.distance, rel=1e-12)
        assert found.path is not None
        assert found.path.tolist() == wanted.path.tolist()
        assert found.confidence == pytest.approx(wanted.confidence, abs=1e-9)


def test_infinite_costs_are_never_paid() -> None:
    costs = np.random.default_rng(0).uniform(1, 2, (29, 31))
    costs[:, 7] = np.inf
    costs[11, 7] = 50
    found = dtw(costs, metric="precomputed")
    assert found.path is not None
    assert [11, 7] in found.path.tolist()
    assert np.isfinite(found.distance)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_near_points_far_from_the_origin_keep_their_digits(metric: str, offset: float) -> None:
    """A product in float32 alone is off by 100 % here: the data are centred, near cells computed anew."""
    random = np.random.default_rng(2)
    y = (offset + random.standard_normal((211, 29)).cumsum(axis=0)).astype(np.float32)
    x = y + (1e-2 * random.standard_normal(y.shape)).astype(np.float32)
    wanted = reference(METRICS[metric](x.astype(np.float64), y.astype(np.float64)))
    bound = 5e-4 if metric == "cosine" and offset else 2e-6
    if (
        metric != "cosine" or offset <= 1e3
    ):  # directions of points farther away differ by less than float32 tells
        assert dtw(x, y, metric=metric).distance == pytest.approx(wanted, rel=bound)
    assert dtw(x.astype(np.float64), y.astype(np.float64), metric=metric).distance == pytest.approx(
        wanted, rel=1e-9
    )


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("width", [1, 3, 19])
def test_squares_neither_overflow_nor_vanish(scale: float, width: int) -> None:
    x, y = walks(9, 31, 37, width)
    small, large = ((scale * one).astype(np.float32) for one in (x, y))
    wanted = dtw(x, y, metric="sqeuclidean").distance
    for path in (True, False):
        found = dtw(small, large, metric="sqeuclidean", path=path).distance
        assert found / scale / scale == pytest.approx(wanted, rel=1e-5)


def test_long_walks_stay_within_float32_of_float64() -> None:
    x, y = walks(1, 3001, 2999, 1)
    exact = dtw(x, y, metric="sqeuclidean", path=False).distance
    rough = dtw(x.astype(np.float32), y.astype(np.float32), metric="sqeuclidean", path=False).distance
    assert rough == pytest.approx(exact, rel=5e-6)


def test_confidence_is_high_where_series_agree_and_low_where_they_do_not() -> None:
    random = np.random.default_rng(4)
    y = random.standard_normal((307, 13))
    x = y + 0.1 * random.standard_normal(y.shape)
    x[120:190] = random.standard_normal((70, 13))
    found = dtw(x, y)
    assert found.path is not None
    rows = found.path[:, 0]
    assert found.confidence.shape == (len(found.path),)
    assert found.confidence[(rows < 100) | (rows > 210)].min() > 0.8
    assert found.confidence[(rows > 140) & (rows < 170)].max() < 0.5
    assert dtw(y, y).confidence.min() == 1


def test_confidence_over_segments() -> None:
    y = np.random.default_rng(4).standard_normal((101, 5))
    x = y.copy()
    x[50:] = np.random.default_rng(5).standard_normal((51, 5))
    first, second = dtw(x, y).segment_confidence([0, 47, 101])
    assert first > 0.95
    assert second < 0.6


def test_places_of_x_on_y() -> None:
    assert dtw([0.0, 5.0, 9.0], [0.0, 0.0, 5.0, 5.0, 5.0, 9.0]).places().tolist() == [0.5, 3.0, 5.0]


def test_normalisation_follows_the_step_pattern() -> None:
    x, y = walks(8, 23, 29, 3)
    assert dtw(x, y, step="symmetric2").normalized == dtw(x, y, step="symmetric2").distance / 52
    assert dtw(x, y, step="asymmetric").normalized == dtw(x, y, step="asymmetric").distance / 23
    assert step_pattern("symmetric1").divisor(23, 29) is None


def test_kernels_can_be_compiled_ahead() -> None:
    assert warm_up()
