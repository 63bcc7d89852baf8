"""Step patterns, against dtw-python where it knows them, and the PyTorch path against the numba path."""

import warnings

import numpy as np
import pytest
import torch

from sensorium.align import Slanted, StepPattern, dtw, rabiner_juang
from sensorium.core.errors import UsageError
from sensorium.dtw.steps import step_pattern

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dtw as dtw_python

RABINER_JUANG = [f"rabiner-juang-{kind}{w}{s}" for kind in range(1, 8) for w in "abcd" for s in ("", "s")]
PATTERNS = ["symmetric1", "symmetric2", "asymmetric", *RABINER_JUANG]


def walk(seed: int, size: int, width: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((size, width)).cumsum(axis=0)


def theirs(name: str) -> object:
    if not name.startswith("rabiner"):
        return getattr(dtw_python, name)
    kind, weighting = name.removeprefix("rabiner-juang-")[:2]
    return dtw_python.rabinerJuangStepPattern(int(kind), weighting, name.endswith("s"))


@pytest.mark.parametrize("name", PATTERNS)
def test_distances_are_those_of_dtw_python(name: str) -> None:
    x, y = walk(1, 41), walk(2, 37)
    costs = np.sqrt(((x[:, None] - y) ** 2).sum(-1))
    wanted = dtw_python.dtw(costs, step_pattern=theirs(name))
    found = dtw(x, y, step=name)
    assert found.distance == pytest.approx(wanted.distance, rel=1e-12)
    norm = wanted.normalizedDistance
    assert (found.divisor is None) == bool(np.isnan(norm))
    assert found.divisor is None or found.normalized == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("name", PATTERNS)
def test_the_path_pays_the_distance_and_keeps_to_the_table(name: str) -> None:
    x, y = walk(3, 79), walk(4, 83)
    costs = np.sqrt(((x[:, None] - y) ** 2).sum(-1))
    for options in ({}, {"window": Slanted(11)}, {"open_begin": True, "open_end": True}):
        found = dtw(x, y, step=name, **options)
        lazy = dtw(x, y, step=name, max_path_mib=0.0, **options)
        assert found.path is not None
        assert lazy.path is not None
        assert found.weights is not None
        assert (found.path == lazy.path).all()
        assert found.distance == pytest.approx((costs[tuple(found.path.T)] * found.weights).sum(), rel=1e-12)
        allowed = {move[:2] for moves in step_pattern(name).productions for move in moves}
        assert {tuple(move) for move in np.diff(found.path, axis=0).tolist()} <= allowed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", ["symmetric1", "symmetric2", "asymmetric", "rabiner-juang-1c", "rabiner-juang-5d"]
)
def test_pytorch_gives_the_same_numbers(name: str, dtype: type) -> None:
    x, y, long = (walk(seed, size, 11).astype(dtype) for seed, size in ((5, 31), (6, 29), (7, 61)))
    every = [(y, {}), (y, {"window": Slanted(9)}), (long, {"open_begin": True, "open_end": True})]
    for metric in ("sqeuclidean", "euclidean", "cityblock", "cosine"):
        for other, options in every:
            ours = dtw(x, other, step=name, metric=metric, **options)
            other_way = dtw(
                torch.tensor(x), torch.tensor(other), step=name, metric=metric, backend="torch", **options
            )
            assert ours.path is not None
            assert other_way.path is not None
            assert other_way.distance == pytest.approx(
                ours.distance, rel=2e-6 if dtype == np.float32 else 1e-12
            )
            assert dtype == np.float32 or (other_way.path == ours.path).all()


def test_weights_of_ones_own() -> None:
    slow = StepPattern("slow", (((1, 1, 1.0),), ((1, 0, 3.0),), ((0, 1, 3.0),)))
    x, y = walk(7, 31), walk(8, 29)
    assert dtw(x, y).distance < dtw(x, y, step=slow).distance
    found = dtw([0.0, 1.0], [0.0, 1.0, 1.0], step=slow)
    assert found.distance == 0
    half = StepPattern("half", (((1, 1, 0.5),), ((1, 0, 1.0),), ((0, 1, 1.0),)))
    assert dtw(x, y, step=half).distance == pytest.approx(dtw(x, y, step=half, backend="torch").distance)


def test_patterns_have_names() -> None:
    assert step_pattern("rabiner-juang-4c") == rabiner_juang(4, "c")
    assert rabiner_juang(2, "d", smoothed=True).productions[1] == ((1, 1, 1.5), (1, 0, 1.5))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: step_pattern("symmetric3"), "'symmetric3' is not known; use symmetric1"),
        (lambda: rabiner_juang(8), "types are 1 to 7"),
        (lambda: StepPattern("none", ()), "0 productions"),
        (lambda: StepPattern("still", (((0, 0, 1.0),),)), "must go on"),
        (lambda: StepPattern("back", (((1, -1, 1.0),),)), "must go on"),
        (lambda: dtw([1.0, 2.0], [1.0] * 9, step="asymmetric"), "no path for lengths 2 and 9"),
        (lambda: dtw([1.0], [1.0]).normalized, "no normalisation"),
    ],
)
def test_mistakes_are_one_line(make: object, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
