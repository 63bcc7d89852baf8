"""Numbers of any size: distances are those of unbounded arithmetic, or one error says that float64 ends."""

import os
import warnings
from collections.abc import Callable
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.align import (
    OnlineAligner,
    SakoeChiba,
    Slanted,
    dtw,
    dtw_barycentre,
    dtw_batch,
    dtw_matrix,
    dtw_neighbours,
    subsequence,
)
from sensorium.core.errors import UsageError
from sensorium.dtw.steps import step_pattern
from sensorium.dtw.windows import Window, ranges

EXAMPLES = int(os.environ.get("SENSORIUM_FUZZ_EXAMPLES", "25"))
EXACT = Context(prec=80, Emin=-(10**6), Emax=10**6)
RELATIVE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-11}
SIZES = {
    np.float32: [0, 1e-45, 1e-38, 1e-30, 1e-20, 1e-5, 1, 1e10, 1e19, 9.96921e36, 1e38],
    np.float64: [0, 5e-324, 1e-308, 1e-200, 1e-155, 1e-30, 1, 1e20, 9.96921e36, 1e154, 1e200, 1e300, 8e307],
}
STEPS = ["symmetric1", "symmetric2", "asymmetric", "rabiner-juang-2c", "rabiner-juang-6d"]
settings.register_profile("wide", deadline=None, suppress_health_check=list(HealthCheck))
fuzzed = settings(settings.get_profile("wide"), max_examples=EXAMPLES, derandomize=EXAMPLES == 25)


@st.composite
def series(draw: st.DrawFn, dtype: type, width: int, sizes: list[float] | None = None) -> np.ndarray:
    """Elements of a few magnitudes, so that equal and far elements are both common."""
    length = draw(st.integers(1, 6))
    size = st.sampled_from(SIZES[dtype] if sizes is None else sizes)
    number = st.builds(lambda s, k: s * k, size, st.sampled_from([1.0, 1.0, -1.0, 2.0, 1.5]))
    rows = draw(st.lists(st.lists(number, min_size=width, max_size=width), min_size=length, max_size=length))
    return np.array(rows, dtype)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    width = draw(st.sampled_from([1, 1, 2, 9]))
    sizes = draw(st.lists(st.sampled_from(SIZES[dtype]), min_size=1, max_size=3))
    return draw(series(dtype, width, sizes)), draw(series(dtype, width, sizes))


def exact_costs(x: np.ndarray, y: np.ndarray, metric: str) -> list[list[Decimal]]:
    """Local costs of all pairs."""
    with localcontext(EXACT):
        left, right = ([[Decimal(float(v)) for v in row] for row in rows] for rows in (x, y))
        if metric == "cosine":
            left, right = ([[v / norm(row) for v in row] for row in rows] for rows in (left, right))
            return [[sum((a - b) ** 2 for a, b in zip(r, s, strict=True)) / 2 for s in right] for r in left]
        gaps = [[[a - b for a, b in zip(r, s, strict=True)] for s in right] for r in left]
        of = {
            "sqeuclidean": lambda gap: sum(v * v for v in gap),
            "euclidean": norm,
            "cityblock": lambda gap: sum(map(abs, gap)),
        }
        return [[Decimal(of[metric](gap)) for gap in row] for row in gaps]


def norm(row: list[Decimal]) -> Decimal:
    return sum((v * v for v in row), Decimal(0)).sqrt()


def exact_distance(
    costs: list[list[Decimal]], step: str = "symmetric1", window: Window = None, is_open: bool = False
) -> Decimal:
    """The recurrence as it is written; infinite if no path exists."""
    n, m = len(costs), len(costs[0])
    allowed, pattern = ranges(window, n, m), step_pattern(step)
    far = Decimal("inf")
    sums = [[far] * m for _ in range(n)]
    with localcontext(EXACT):
        for i, j in np.ndindex(n, m):
            if not allowed.low[i] <= j < allowed.high[i]:
                continue
            best = costs[i][j] if i == 0 and (j == 0 or is_open) else far
            for moves in pattern.productions:
                row, column = i - sum(a for a, _, _ in moves), j - sum(b for _, b, _ in moves)
                if row < 0 or column < 0:
                    continue
                total = sums[row][column]
                for down, across, weight in moves:
                    row, column = row + down, column + across
                    inside = allowed.low[row] <= column < allowed.high[row] and costs[row][column] < far
                    total += Decimal(weight) * costs[row][column] if inside else far
                best = min(best, total)
            sums[i][j] = best
    return min(sums[-1]) if is_open else sums[-1][-1]


def check(call: Callable[[], float], wanted: Decimal, dtype: np.dtype) -> None:
    """The value is right; only what float64 cannot hold, or has no path, is refused, in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = call()
        except UsageError as error:
            refused = str(error)
        else:
            refused = None
    if refused is not None:
        assert "\n" not in refused
        is_out = wanted > Decimal("1.79e308") or 0 < wanted < Decimal("5e-324")
        has_path = "no path" not in refused and "impossible" not in refused
        assert is_out if has_path else wanted.is_infinite(), (refused, wanted)
        return
    assert not wanted.is_infinite(), found
    with localcontext(EXACT):
        error = abs(Decimal(found) - wanted)
        assert error <= Decimal(RELATIVE[dtype]) * wanted + Decimal("1e-322"), (found, wanted)
        assert (found == 0) == (wanted == 0)


@fuzzed
@given(
    pairs(), st.sampled_from(["sqeuclidean", "euclidean", "cityblock"]), st.booleans(), st.sampled_from(STEPS)
)
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_pair(
    backend: str, pair: tuple[np.ndarray, np.ndarray], metric: str, is_open: bool, step: str
) -> None:
    x, y = pair
    costs = exact_costs(x, y, metric)
    wanted = exact_distance(costs, step, None, is_open)
    options = {"metric": metric, "step": step, "open_begin": is_open, "open_end": is_open, "backend": backend}
    check(lambda: dtw(x, y, path=False, **options).distance, wanted, x.dtype)

    def paid() -> float:
        found = dtw(x, y, **options)
        assert np.isfinite(found.confidence).all()
        with localcontext(EXACT):
            cells = zip(found.path, found.weights, strict=True)
            return sum((Decimal(float(w)) * costs[i][j] for (i, j), w in cells), Decimal(0))

    check(paid, wanted, x.dtype)


@fuzzed
@given(pairs(), st.sampled_from(["sqeuclidean", "euclidean"]), st.sampled_from([0, 1, 3]), st.booleans())
def test_a_pair_in_a_window(
    pair: tuple[np.ndarray, np.ndarray], metric: str, radius: int, is_slanted: bool
) -> None:
    x, y = pair
    window = Slanted(radius) if is_slanted else SakoeChiba(radius + abs(len(x) - len(y)))
    wanted = exact_distance(exact_costs(x, y, metric), "symmetric2", window)
    check(
        lambda: dtw(x, y, metric=metric, window=window, step="symmetric2", path=False).distance,
        wanted,
        x.dtype,
    )


@fuzzed
@given(pairs())
def test_cosine(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Directions are rounded to their type, so two that differ by less are 0 apart: the error is absolute."""
    x, y = pair
    if not (np.abs(x).max(axis=1).all() and np.abs(y).max(axis=1).all()):
        return
    wanted = float(exact_distance(exact_costs(x, y, "cosine")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = dtw(x, y, metric="cosine").distance
        except UsageError:
            found = 0.0  # below what float64 can hold
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5 if x.dtype == np.float32 else 1e-13)


@fuzzed
@given(st.data(), st.sampled_from([np.float32, np.float64]), st.sampled_from(STEPS), st.booleans())
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_given_costs(backend: str, data: st.DataObject, dtype: type, step: str, is_called: bool) -> None:
    shape = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    sizes = data.draw(st.lists(st.sampled_from([*SIZES[dtype], np.inf]), min_size=1, max_size=3))
    costs = np.array(data.draw(st.lists(st.sampled_from(sizes), min_size=shape[0] * shape[1], max_size=36)))
    costs = np.resize(costs, shape).astype(dtype)
    wanted = exact_distance([[Decimal(float(cost)) for cost in row] for row in costs], step)
    options = {"step": step, "backend": backend}
    check(lambda: dtw(costs, metric="precomputed", **options).distance, wanted, costs.dtype)
    if is_called and float(costs.max()) < 1e290:
        cells = lambda x, y: costs[x[:, 0].astype(int)][:, y[:, 0].astype(int)]  # noqa: E731
        places = (np.arange(size, dtype=dtype) for size in shape)
        check(lambda: dtw(*places, metric=cells, **options).distance, wanted, costs.dtype)


@fuzzed
@given(st.data(), st.sampled_from([np.float32, np.float64]), st.sampled_from([1, 1, 2]), st.booleans())
def test_many_pairs(data: st.DataObject, dtype: type, width: int, is_banded: bool) -> None:
    """Each distance is that of its pair, whatever the magnitudes of the others; with a limit, too."""
    sizes = data.draw(st.lists(st.sampled_from(SIZES[dtype]), min_size=1, max_size=4))
    rows = data.draw(st.lists(series(dtype, width, sizes), min_size=2, max_size=9))
    metric = data.draw(st.sampled_from(["sqeuclidean", "euclidean"]))
    options = {"metric": metric, "window": 6 if is_banded else None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            single = np.array([[dtw(x, y, path=False, **options).distance for y in rows] for x in rows])
        except UsageError:
            with pytest.raises(UsageError, match=r"too (large|small)"):
                dtw_matrix(rows, **options)
            return
        relative = RELATIVE[np.dtype(dtype)]
        assert dtw_matrix(rows, **options) == pytest.approx(single, rel=relative, abs=0)
        assert dtw_batch(rows, rows[::-1], **options) == pytest.approx(
            np.diag(single[:, ::-1]), rel=relative, abs=0
        )
        found = dtw_neighbours(rows[:2], rows, 2, **options)
        assert found.distances == pytest.approx(np.sort(single[:2], axis=1)[:, :2], rel=relative, abs=0)
        limit = float(np.median(single))
        wanted = np.where(single <= limit * (1 - relative), single, np.inf)
        limited = dtw_matrix(rows, max_distance=limit, **options)
        near = np.isclose(single, limit, rtol=3 * relative, atol=0)
        assert limited[~near] == pytest.approx(wanted[~near], rel=relative, abs=0)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
@pytest.mark.parametrize("width", [1, 3, 19])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_power_of_two_goes_through(dtype: type, width: int, metric: str) -> None:
    random = np.random.default_rng(3)
    x, y = (random.standard_normal((size, width)).astype(dtype) for size in (31, 37))
    most = 120 if dtype is np.float32 else 1000
    power = 2 if metric == "sqeuclidean" else 1
    for path in (True, False):
        base = dtw(x, y, metric=metric, path=path).distance
        matrix = dtw_matrix([x, y], metric=metric)[0, 1]
        for exponent in (
            {-most, -most // 3, most // 3, most} if power * most < 1000 else {-500, -300, 300, 500}
        ):
            factor = dtype(2.0**exponent)
            assert dtw(factor * x, factor * y, metric=metric, path=path).distance == base * 2.0 ** (
                power * exponent
            )
            assert dtw_matrix([factor * x, factor * y], metric=metric)[0, 1] == matrix * 2.0 ** (
                power * exponent
            )


@pytest.mark.parametrize(
    "call", [dtw, lambda x, y, **o: dtw_matrix([x, y], **o), lambda x, y, **o: subsequence(x, y, **o)]
)
@pytest.mark.parametrize(("size", "words"), [(1e200, "too large"), (1e-200, "too small")])
def test_what_float64_cannot_hold_is_said(call: Callable[..., object], size: float, words: str) -> None:
    x, y = size * np.array([1.0, 2.0, 1.0]), size * np.array([5.0, 9.0, 7.0])
    with pytest.raises(UsageError, match=words):
        call(x, y, metric="sqeuclidean")
    call(x, y, metric="euclidean")
    call(x, x, metric="sqeuclidean")


def test_many_pairs_too_large_or_small_for_float64() -> None:
    with pytest.raises(UsageError, match="too large"):
        dtw_batch([[1e200]], [[3e200]], metric="sqeuclidean")
    with pytest.raises(UsageError, match="too small"):
        dtw_batch([[1e-200]], [[3e-200]], metric="sqeuclidean")
    many = [np.array([1e-200]), np.array([3e-200]), np.array([1.0])]
    assert dtw_matrix(many)[0].tolist() == [0, pytest.approx(2e-200, rel=1e-15), 1]


def test_every_kind_of_number() -> None:
    for kind in (np.float16, np.int8, np.uint64, np.int64, bool):
        most = np.finfo(kind).max if kind is np.float16 else (1 if kind is bool else np.iinfo(kind).max)
        x, y = np.array([most, 0, most], kind), np.array([0, most], kind)
        assert dtw(x, y, metric="sqeuclidean").distance == float(most) ** 2
    for tensor in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.tensor([torch.finfo(tensor).max / 2, 0.0], dtype=tensor)
        assert dtw(x, -x).distance == pytest.approx(torch.finfo(tensor).max, rel=1e-6)


def test_a_limit_leaves_out_what_is_too_large() -> None:
    huge = [[0.0, 1.0], [0.0, 2.0], [1e200, 3e200]]
    found = dtw_matrix(huge, metric="sqeuclidean", max_distance=5.0)
    assert found[0].tolist() == [0, 1, np.inf]
    assert dtw_neighbours([huge[0]], huge, 2, metric="sqeuclidean").indices.tolist() == [[0, 1]]
    with pytest.raises(UsageError, match="too large"):
        dtw_neighbours([huge[0]], huge, 3, metric="sqeuclidean")
    assert [
        match.start for match in subsequence([0.0], [1e200, 0.0], 2, metric="sqeuclidean", max_distance=9.0)
    ] == [1]


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**-300, 2.0**300, 2.0**900])
def test_a_stream(scale: float) -> None:
    reference = np.random.default_rng(0).standard_normal((53, 3)).cumsum(axis=0)
    heard = reference[::2] + 0.01
    plain, other = OnlineAligner(reference), OnlineAligner(scale * reference)
    assert (plain.push(heard) == other.push(scale * heard)).all()
    assert other.mean_cost == plain.mean_cost * scale
    squared = OnlineAligner(scale * reference, metric="sqeuclidean")
    if scale > 1e100:
        with pytest.raises(UsageError, match="too large"):
            squared.push([[1e308, -1e308, 0.0]])
        assert squared.num_frames == 0


def test_a_stream_of_single_precision_with_a_fill_value() -> None:
    fill = np.float32(9.96921e36)
    reference = np.array([[fill, 0], [fill, 1], [fill, 2], [0, 5]], np.float32)
    assert OnlineAligner(reference).push(reference[[0, 1, 1, 2]]).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**400, 2.0**1022])
def test_averages(scale: float) -> None:
    rows = [[0.0, 0.5, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25, 0.0, 1.0, 0.25]]
    plain = dtw_barycentre(rows)
    large = [(scale * np.array(row)).tolist() for row in rows]
    if scale > 2.0**500:
        with pytest.raises(UsageError, match="too large"):
            dtw_barycentre(large)
        same = dtw_barycentre([large[0]] * 3, init="mean")
        assert same.values[:, 0].tolist() == large[0]
    else:
        found = dtw_barycentre(large)
        assert (found.values == scale * plain.values).all()
        assert found.costs == tuple(cost * scale * scale for cost in plain.costs)
