"""Windows: their meaning for unequal lengths, cell by cell, and what they do to distances."""

import numpy as np
import pytest
from dtaidistance import dtw as dtaidistance
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.align import Itakura, SakoeChiba, Slanted, dtw
from sensorium.core.errors import UsageError
from sensorium.dtw.windows import Ranges, ranges

any_length = st.integers(1, 61)


def cells(window: object, n: int, m: int) -> np.ndarray:
    found = ranges(window, n, m)  # type: ignore[arg-type]
    columns = np.arange(m)
    inside = (columns >= found.low[:, None]) & (columns < found.high[:, None])
    return inside if found.mask is None else inside & found.mask


def walk(seed: int, size: int, width: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((size, width)).cumsum(axis=0)


def test_sakoe_chiba_is_about_times_as_they_stand() -> None:
    i, j = np.indices((13, 11))
    assert (cells(SakoeChiba(3), 13, 11) == (abs(i - j) <= 3)).all()
    assert (cells(3, 13, 11) == cells(SakoeChiba(3), 13, 11)).all()


def test_slanted_follows_the_line_between_the_ends() -> None:
    wanted = [
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1],
    ]
    assert cells(Slanted(1), 7, 5).astype(int).tolist() == wanted
    assert (cells(Slanted(2), 31, 31) == cells(SakoeChiba(2), 31, 31)).all()


def test_itakura_keeps_to_its_slopes_from_both_ends() -> None:
    i, j = np.indices((17, 17))
    exact = (j <= 2 * i) & (2 * j >= i) & (16 - j <= 2 * (16 - i)) & (2 * (16 - j) >= 16 - i)
    assert (cells(Itakura(2.0), 17, 17) == exact).all()


@settings(deadline=None, max_examples=100)
@given(
    any_length,
    any_length,
    st.sampled_from([Slanted(0), Slanted(3), Itakura(1.5), Itakura(3.0), SakoeChiba(60)]),
)
def test_windows_treat_both_series_and_both_directions_alike(n: int, m: int, window: object) -> None:
    inside = cells(window, n, m)
    assert (inside == cells(window, m, n).T).all()
    assert (inside == inside[::-1, ::-1]).all()


@settings(deadline=None, max_examples=100)
@given(any_length, any_length, st.sampled_from([Slanted(0), Slanted(1), Itakura(1.01), Itakura(2.0)]))
def test_slanted_and_itakura_hold_a_path_for_any_lengths(n: int, m: int, window: Slanted | Itakura) -> None:
    x, y = walk(n, n), walk(m + 100, m)
    found = dtw(x, y, window=window)
    assert found.path is not None
    assert cells(window, n, m)[found.path[:, 0], found.path[:, 1]].all()


@pytest.mark.parametrize("width", [1, 11])
@pytest.mark.parametrize("step", ["symmetric1", "symmetric2", "asymmetric", "rabiner-juang-2a"])
def test_a_window_is_worth_its_mask(step: str, width: int) -> None:
    x, y = walk(1, 71, width), walk(2, 67, width)
    for window in (SakoeChiba(9), Slanted(5), Itakura(2.5)):
        band = dtw(x, y, window=window, step=step)
        masked = dtw(x, y, window=cells(window, 71, 67), step=step)
        only = dtw(x, y, window=window, step=step, path=False, max_path_mib=0.0)
        lazy = dtw(x, y, window=window, step=step, max_path_mib=0.0)
        assert band.path is not None
        assert lazy.path is not None
        assert band.distance == masked.distance == lazy.distance
        assert band.distance == pytest.approx(only.distance, rel=1e-12)
        assert (band.path == lazy.path).all()
        costs = np.sqrt(((x[:, None] - y) ** 2).sum(-1))
        barred = np.where(cells(window, 71, 67), costs, np.inf)
        assert dtw(barred, metric="precomputed", step=step).distance == pytest.approx(
            band.distance, rel=1e-12
        )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(2, 60), st.sampled_from([1, 5]))
def test_wider_bands_cost_less_until_they_are_full(seed: int, n: int, width: int) -> None:
    x, y = walk(seed, n, width), walk(seed + 1, n, width)
    costs = [dtw(x, y, window=radius).distance for radius in (0, 1, n // 2, n)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == pytest.approx(np.linalg.norm(x - y, axis=1).sum(), rel=1e-12)
    assert costs[-1] == pytest.approx(dtw(x, y).distance, rel=1e-12)


def test_a_mask_with_holes() -> None:
    x, y = walk(3, 43), walk(4, 47)
    mask = np.random.default_rng(5).uniform(size=(43, 47)) > 0.2
    mask[[0, -1], [0, -1]] = True
    found = dtw(x, y, window=mask)
    assert found.path is not None
    assert mask[found.path[:, 0], found.path[:, 1]].all()
    assert found.distance > dtw(x, y).distance


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["symmetric1", "asymmetric"]), st.sampled_from([1, 11]))
def test_a_mask_that_narrows_and_widens(seed: int, step: str, width: int) -> None:
    random = np.random.default_rng(seed)
    x, y = walk(seed, 61, width), walk(seed + 1, 41, width)
    middle, columns = np.arange(61) * 40 / 60, np.arange(41)
    low, high = (np.repeat(random.uniform(0, 20, 9), 7)[:61] for _ in range(2))
    mask = (columns >= (middle - low - 1)[:, None]) & (columns <= (middle + high + 1)[:, None])
    costs = np.where(mask, np.sqrt(((x[:, None] - y) ** 2).sum(-1)), np.inf)
    wanted = pytest.approx(dtw(costs, metric="precomputed", step=step).distance, rel=1e-12)
    assert dtw(x, y, window=mask, step=step).distance == wanted
    assert dtw(x, y, window=mask, step=step, path=False).distance == wanted


def test_equal_lengths_agree_with_dtaidistance() -> None:
    x, y = walk(6, 101)[:, 0], walk(7, 101)[:, 0]
    for radius in (0, 7, 30):
        theirs = dtaidistance.distance(x, y, window=radius + 1)  # theirs counts the diagonal
        assert dtw(x, y, window=radius, metric="sqeuclidean").distance == pytest.approx(theirs**2, rel=1e-12)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (SakoeChiba(2), "SakoeChiba.*is impossible for lengths 13 and 7.*radius of 6"),
        (-1, "negative radius"),
        (Itakura(1.0), "max_slope must be above 1"),
        (np.ones((3, 3), dtype=bool), "give a bool matrix of \\(13, 7\\)"),
        (np.zeros((13, 7), dtype=bool), "the mask is impossible.*without a partner"),
        (np.eye(13, 7, dtype=bool), "the mask is impossible"),
    ],
)
def test_impossible_windows_are_one_clear_error(window: object, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        dtw(walk(1, 13), walk(2, 7), window=window)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_mask_without_a_way_through_is_impossible() -> None:
    mask = np.ones((13, 7), dtype=bool)
    mask[5, 3:] = mask[6, :4] = False
    mask[5, :4] = True
    mask[6, 4:] = False
    mask[6, 6] = True
    with pytest.raises(UsageError, match="no path through it"):
        dtw(walk(1, 13), walk(2, 7), window=mask)


def test_full_ranges_say_so() -> None:
    assert ranges(None, 3, 5).is_full(5)
    assert not ranges(SakoeChiba(3), 3, 5).is_full(5)
    assert not Ranges(np.zeros(3, np.int64), np.full(3, 5), np.ones((3, 5), dtype=bool)).is_full(5)
