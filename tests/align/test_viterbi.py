"""The best path through a chain, against every path there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.align import viterbi as chain
from sensorium.align.viterbi import TILE_STEPS, Band, Scores, best_path
from sensorium.core.errors import UsageError


def tiles(table: np.ndarray) -> Scores:
    return lambda start, stop, low, high: table[start:stop, low:high]


def sum_of(table: np.ndarray, moves: np.ndarray, states: tuple[int, ...]) -> float:
    steps = [after - before for before, after in itertools.pairwise(states)]
    if any(step not in (0, 1, 2) for step in steps):
        return -np.inf
    moved = sum(moves[state, step] for state, step in zip(states[1:], steps, strict=True))
    return float(sum(table[time, state] for time, state in enumerate(states)) + moved)


def best_of_all(table: np.ndarray, moves: np.ndarray) -> float:
    num_steps, num_states = table.shape
    paths = itertools.product(range(num_states), repeat=num_steps)
    allowed = (path for path in paths if path[0] <= 1 and path[-1] >= num_states - 2)
    return max((sum_of(table, moves, path) for path in allowed), default=-np.inf)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_equals_the_best_of_all_paths(num_steps: int, num_states: int, number: int) -> None:
    rng = np.random.default_rng(number)
    table = rng.standard_normal((num_steps, num_states)).astype(np.float32)
    moves = np.where(rng.random((num_states, 3)) < 0.8, rng.standard_normal((num_states, 3)), -np.inf)
    wanted = best_of_all(table, moves)
    if np.isneginf(wanted):
        with pytest.raises(UsageError, match="no path"):
            best_path(tiles(table), num_steps, moves)
        return
    found = best_path(tiles(table), num_steps, moves)
    assert found.score == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    assert sum_of(table, moves, tuple(found.states.tolist())) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def long_case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    moves = np.where(rng.random((211, 3)) < 0.9, rng.standard_normal((211, 3)), -np.inf)
    moves[:, 0] = 0
    return rng.standard_normal((1511, 211)).astype(np.float32), moves


def test_blocks_that_are_run_again_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table, moves = long_case()
    whole = best_path(tiles(table), len(table), moves)
    monkeypatch.setattr(chain, "_MEMORY_BYTES", 1)
    blocks = best_path(tiles(table), len(table), moves)
    assert blocks.score == whole.score
    np.testing.assert_array_equal(blocks.states, whole.states)


def test_a_band_around_the_path_changes_nothing_and_one_beside_it_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, moves = long_case()
    whole = best_path(tiles(table), len(table), moves)
    firsts = whole.states[::TILE_STEPS]
    width = max(
        int(whole.states[min(start + TILE_STEPS, len(table)) - 1] - whole.states[start])
        for start in range(0, len(table), TILE_STEPS)
    )
    around = Band(firsts - 2, width + 5)
    assert best_path(tiles(table), len(table), moves, around).score == whole.score
    monkeypatch.setattr(chain, "_MEMORY_BYTES", 1)
    np.testing.assert_array_equal(best_path(tiles(table), len(table), moves, around).states, whole.states)
    straight = Band(np.linspace(0, 211 - 60, len(firsts)).astype(np.int64), 60)
    assert best_path(tiles(table), len(table), moves, straight).score < whole.score


def test_memory_is_for_the_root_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    empty = np.empty

    def watched(shape: tuple[int, ...] | int, dtype: type) -> np.ndarray:
        if dtype is np.uint8:
            made.append(shape)
        return empty(shape, dtype)

    monkeypatch.setattr(chain.np, "empty", watched)
    monkeypatch.setattr(chain, "_MEMORY_BYTES", 1)
    zeros = np.zeros((TILE_STEPS, 7), np.float32)
    best_path(lambda start, stop, low, high: zeros[:, low:high], TILE_STEPS * 800, np.zeros((7, 3)))
    assert set(made) == {(10 * TILE_STEPS, 7)}  # of 800 tiles, sqrt(800 / 8) at a time


def test_nothing_to_walk_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        best_path(tiles(np.zeros((0, 3), np.float32)), 0, np.zeros((3, 3)))


@pytest.mark.parametrize("shift", [0, 1, 4, 7, 9, 20])
def test_a_band_that_goes_on_keeps_every_state_that_both_places_hold(shift: int) -> None:
    row = np.arange(9.0)  # states -2 to 6 of a band of seven
    moved = chain._moved(row, shift)
    assert len(moved) == 9
    kept = max(0, 9 - shift) if shift < 7 else 0
    np.testing.assert_array_equal(moved[:kept], row[shift : shift + kept])
    assert (moved[kept:] < -1e299).all()
