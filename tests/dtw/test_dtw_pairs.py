"""Many pairs at once are those pairs one by one, whatever their lengths, threads, bounds and limits."""

import numpy as np
import pytest
from dtaidistance import dtw as dtaidistance
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.align import SakoeChiba, Slanted, dtw, dtw_batch, dtw_matrix, dtw_neighbours
from sensorium.core.errors import UsageError


def walks(seed: int, sizes: list[int], width: int = 0, dtype: str = "float64") -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [
        random.standard_normal((size, width) if width else size).cumsum(axis=0).astype(dtype)
        for size in sizes
    ]


def one_by_one(xs: list[np.ndarray], ys: list[np.ndarray], **options: object) -> np.ndarray:
    return np.array([[dtw(x, y, **options).distance for y in ys] for x in xs])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", ["symmetric1", "symmetric2"])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("sizes", [[53] * 7, [1, 2, 31, 53, 53, 47, 60] * 2 + [7, 60, 53]])
def test_matrix_of_numbers(sizes: list[int], metric: str, step: str, dtype: str) -> None:
    series = walks(1, sizes, dtype=dtype)
    rel = 2e-6 if dtype == "float32" else 1e-12
    for window in (None, SakoeChiba(59)) if len(set(sizes)) > 1 else (None, 0, 5, 52):
        options = {"metric": metric, "step": step, "window": window}
        wanted = one_by_one(series, series, **options)
        for num_threads in (1, 3):
            found = dtw_matrix(series, num_threads=num_threads, **options)
            assert found == pytest.approx(wanted, rel=rel, abs=rel)
        assert dtw_matrix(series[:3], series, **options) == pytest.approx(wanted[:3], rel=rel, abs=rel)


def test_agrees_with_dtaidistance() -> None:
    series = walks(2, [97, 101, 89, 97])
    wanted = dtaidistance.distance_matrix(series, use_c=False) ** 2
    found = dtw_matrix(series, metric="sqeuclidean")
    assert np.triu(found) == pytest.approx(np.triu(wanted), rel=1e-12)
    assert (found == found.T).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 40), min_size=2, max_size=9), st.floats(0.05, 0.95))
def test_a_limit_only_makes_the_rest_infinite(seed: int, sizes: list[int], share: float) -> None:
    series = walks(seed, sizes)
    window = max(sizes) - 1 if seed % 2 else None
    exact = dtw_matrix(series, window=window)
    limit = float(np.quantile(exact, share)) + 1e-3
    found = dtw_matrix(series, window=window, max_distance=limit)
    assert found == pytest.approx(np.where(exact <= limit, exact, np.inf), rel=1e-12)


def test_a_limit_holds_for_vectors_too() -> None:
    series = walks(3, [31, 67, 29, 71], width=3)
    exact = dtw_matrix(series)
    limit = float(np.median(exact[exact > 0]))
    assert dtw_matrix(series, max_distance=limit) == pytest.approx(np.where(exact <= limit, exact, np.inf))


@pytest.mark.parametrize("width", [0, 3, 13])
@pytest.mark.parametrize("step", ["symmetric1", "asymmetric", "rabiner-juang-2c"])
def test_other_pairs_go_one_by_one(step: str, width: int) -> None:
    series = walks(4, [29, 31, 29, 37], width)
    options = {"step": step, "metric": "cityblock", "window": Slanted(15)}
    assert dtw_matrix(series, **options, num_threads=2) == pytest.approx(
        one_by_one(series, series, **options)
    )


def test_a_called_metric_is_not_mirrored() -> None:
    series = walks(5, [7, 11])
    found = dtw_matrix(series, metric=lambda x, y: np.maximum(x - y.T, 0))
    assert found[0, 1] != found[1, 0]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 7), st.sampled_from([None, 0, 3, 20]), st.sampled_from([0, 2]))
def test_neighbours_are_those_of_the_whole_matrix(seed: int, k: int, window: int | None, width: int) -> None:
    queries, series = (
        walks(seed, [31] * 3, width),
        walks(seed + 1, [31] * 101 if not width else [31] * 11, width),
    )
    exact = dtw_matrix(queries, series, window=window)
    found = dtw_neighbours(queries, series, k, window=window)
    assert found.distances == pytest.approx(np.sort(exact, axis=1)[:, :k], rel=1e-9)
    assert np.take_along_axis(exact, found.indices, axis=1) == pytest.approx(found.distances, rel=1e-9)


def test_batch_pairs_by_place() -> None:
    xs, ys = walks(6, [5, 31, 1, 17]), walks(7, [29, 3, 1, 17])
    assert dtw_batch(xs, ys) == pytest.approx([dtw(x, y).distance for x, y in zip(xs, ys, strict=True)])
    assert dtw_batch(np.stack([xs[3], ys[3]]), np.stack([ys[3], xs[3]])).shape == (2,)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dtw_matrix([]), "series is empty"),
        (lambda: dtw_matrix([[1.0], [np.nan]]), r"series\[1\]\[0\] is not finite"),
        (lambda: dtw_matrix([np.zeros(13), np.zeros(7)], window=2), "impossible for lengths 13 and 7"),
        (lambda: dtw_matrix([[1.0], [2.0]], num_threads=0), "num_threads=0"),
        (lambda: dtw_matrix([[1.0]], metric="precomputed"), "compares one pair; use dtw"),
        (lambda: dtw_matrix([[1.0], [2.0]], metric="euclid"), "metric 'euclid' is not known"),
        (lambda: dtw_matrix([np.zeros((3, 2)), np.zeros((3, 5))]), "width"),
        (lambda: dtw_batch([[1.0]], []), "do not make pairs"),
        (lambda: dtw_neighbours([[1.0]], [[1.0]], k=2), "k=2"),
    ],
)
def test_mistakes_are_one_line(call: object, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
