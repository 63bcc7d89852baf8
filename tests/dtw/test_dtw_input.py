"""What people bring: lists, whole numbers, tensors, views; and what is refused, in one line."""

import numpy as np
import pytest
import torch

from sensorium.align import dtw
from sensorium.core import jit as kernels
from sensorium.core.errors import UsageError

X = np.random.default_rng(0).standard_normal((23, 3)).cumsum(axis=0)
Y = np.random.default_rng(1).standard_normal((19, 3)).cumsum(axis=0)
WANTED = dtw(X, Y)


@pytest.mark.parametrize(
    "shape",
    [
        lambda a: a.tolist(),
        lambda a: tuple(map(tuple, a)),
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[::-1].copy()[::-1],
        lambda a: a.astype(">f8"),
        lambda a: torch.tensor(a),
        lambda a: torch.tensor(a, requires_grad=True),
        lambda a: torch.tensor(a.T.copy()).T,
    ],
)
def test_the_same_numbers_in_any_form(shape: object) -> None:
    found = dtw(shape(X), shape(Y))  # type: ignore[operator]
    assert found.path is not None
    assert WANTED.path is not None
    assert found.distance == pytest.approx(WANTED.distance, rel=1e-12)
    assert (found.path == WANTED.path).all()


def test_whole_numbers_and_truth_values_are_exact() -> None:
    assert dtw([10**9, 10**9 + 1], np.array([10**9], dtype=np.int64)).distance == 1
    assert dtw(np.array([True, False]), np.array([False])).distance == 1
    assert dtw(np.array([250], dtype=np.uint8), np.array([5], dtype=np.uint8)).distance == 245


def test_single_precision_stays_single_and_half_becomes_single() -> None:
    x = X.astype(np.float32)
    for narrow in (X.astype(np.float16), torch.tensor(X).half(), torch.tensor(X).bfloat16()):
        assert dtw(narrow, x).distance == pytest.approx(dtw(X, x).distance, abs=1.0)
    assert dtw(x, Y).distance == pytest.approx(dtw(x.astype(np.float64), Y).distance, rel=1e-13)


def test_numbers_and_columns_of_one_are_the_same() -> None:
    assert dtw(X[:, 0], Y[:, 0]).distance == dtw(X[:, :1], Y[:, :1]).distance


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        ([], [1.0], {}, r"x has shape \(0,\)"),
        (np.zeros((3, 0)), [1.0], {}, r"x has shape \(3, 0\)"),
        (np.zeros((2, 3, 4)), X, {}, r"x has shape \(2, 3, 4\)"),
        (X, Y[:, :2], {}, "x has elements of width 3, y of width 2"),
        ([1.0, float("nan")], [1.0], {}, r"x\[1\] is not finite"),
        ([1.0], [1.0, 2.0, float("inf")], {}, r"y\[2\] is not finite"),
        ([[1.0], [1.0, 2.0]], [1.0], {}, "x is ragged"),
        (["a", "b"], [1.0], {}, "x holds"),
        (np.array([1j]), [1.0], {}, "x holds complex128"),
        ([1.0], None, {}, "y is missing"),
        ([1.0], [1.0], {"metric": "manhattan"}, "metric 'manhattan' is not known; use one of sqeuclidean"),
        (np.zeros((3, 2)), np.ones((3, 2)), {"metric": "cosine"}, r"x\[0\] is all zeros"),
        (np.ones((3, 2)), np.ones((3, 2)), {"metric": "precomputed"}, "leave y as None"),
        (np.ones(3), None, {"metric": "precomputed"}, "matrix of costs has shape"),
        (-np.ones((3, 2)), None, {"metric": "precomputed"}, "NaN or negative"),
        (np.full((3, 2), np.inf), None, {"metric": "precomputed"}, "no path"),
        (X, Y, {"metric": lambda x, y: np.zeros(3)}, "the metric gave shape"),
        (X, Y, {"metric": lambda x, y: np.full((len(x), len(y)), np.nan)}, "not between 0 and"),
    ],
)
def test_mistakes_are_one_line(x: object, y: object, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        dtw(x, y, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_without_a_path_there_is_nothing_to_be_confident_of() -> None:
    with pytest.raises(UsageError, match="path=True"):
        _ = dtw(X, Y, path=False).confidence


def test_without_numba_pytorch_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("warping", "batched", "pairwise"):
        monkeypatch.setattr(f"sensorium.dtw.{module}.usable", lambda: False)
    monkeypatch.setattr(kernels, "_compiled", lambda *_: pytest.fail("a kernel was compiled"))
    from sensorium.align import dtw_matrix, subsequence, warm_up

    found = dtw(X, Y)
    assert found.distance == pytest.approx(WANTED.distance, rel=1e-12)
    assert found.confidence == pytest.approx(WANTED.confidence, abs=1e-9)
    assert dtw_matrix([X, Y])[0, 1] == pytest.approx(WANTED.distance, rel=1e-12)
    assert dtw_matrix([[1.0, 2.0], [2.0]])[0, 1] == 1
    assert subsequence(X[5:9], X)[0].distance == pytest.approx(0, abs=1e-9)
    assert not warm_up()
    with pytest.raises(UsageError, match="numba does not work here"):
        dtw(X, Y, backend="numba")
