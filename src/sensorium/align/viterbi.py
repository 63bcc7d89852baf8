"""Viterbi algorithm over a left-to-right chain of states, in the memory of about sqrt(T) steps.

Input: a score of each time step and state (a log-probability, or a negated distance), in tiles. Output: the
state at each step of the path with the greatest sum. A path starts in one of the first two states and ends in
one of the last two. At each step it stays or advances by one or two states; each move has a score. This is
the graph of CTC (Graves et al. 2006, where every second state is the blank), and that of asymmetric time
warping with optional pauses.

Scores are kept at the first step of each block of about sqrt(T) steps, and back pointers for one block. Then
the blocks are computed again from the last to the first (Hirschberg's algorithm with one level). A band
limits the states of each tile. Sums are in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from sensorium.core.errors import UsageError
from sensorium.core.jit import compiled, unreached

TILE_STEPS = 64
"""Time steps of a tile of scores; a band may move between tiles, not within one."""

_MEMORY_BYTES = 64 << 20
_REACH = 2
_NEVER = -unreached(np.dtype(np.float64))
_LEAST_SCORE = -1e30


@runtime_checkable
class Scores(Protocol):
    """Computes tiles of scores, so that the whole matrix is never in memory."""

    def __call__(self, start: int, stop: int, low: int, high: int) -> Float32[np.ndarray, "steps states"]:
        """Scores of the time steps start..stop-1 in the states low..high-1."""


@dataclass(frozen=True)
class Band:
    """Allowed states of each tile of `TILE_STEPS` steps.

    Attributes:
        lows: First state of each tile, ascending, (ceil(T / TILE_STEPS),).
        width: States in the band, from the first.
    """

    lows: Int64[np.ndarray, " tiles"]
    width: int


@dataclass(frozen=True)
class BestPath:
    """The path found.

    Attributes:
        states: State at each step, (T,), never falling.
        score: Sum of its scores.
    """

    states: Int64[np.ndarray, " T"]
    score: float


def best_path(
    scores: Scores, num_steps: int, moves: Float64[np.ndarray, "S 3"], band: Band | None = None
) -> BestPath:
    """Find the path with the greatest sum of scores (Viterbi).

    Args:
        scores: Computes tiles of scores; called twice for all but the last block of long inputs.
        num_steps: Time steps T.
        moves: Score of staying in each state, of entering it from the one before, and from two before; -inf
            forbids a move.
        band: Windows of states; None: all states at every step.

    Raises:
        UsageError: If there are no steps or states, or no path exists.

    Example:
        >>> table = np.log(np.float32([[0.9, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]]))
        >>> tile = lambda start, stop, low, high: table[start:stop, low:high]
        >>> best_path(tile, 3, np.zeros((3, 3))).states.tolist()
        [0, 1, 1]
    """
    num_states = len(moves)
    if num_steps < 1 or num_states < 1:
        raise UsageError(
            f"a path of {num_steps} steps through {num_states} states; expected at least one each"
        )
    whole = Band(np.zeros(-(-num_steps // TILE_STEPS), np.int64), num_states)
    return _Search(scores, num_steps, moves, band or whole).run()


class _Search:
    """One search: forward over the blocks, keeping the scores at their starts, then back."""

    def __init__(self, scores: Scores, num_steps: int, moves: np.ndarray, band: Band) -> None:
        self.scores, self.num_steps = scores, num_steps
        self.moves = np.maximum(moves.astype(np.float64), _NEVER)
        self.moves[0, 1] = self.moves[1:_REACH, 2] = 0.0  # from the virtual state before the first
        self.width = min(band.width, len(moves))
        self.lows = np.clip(band.lows, 0, len(moves) - self.width)
        self._advance = compiled(_advance, _SIGNATURE, np.dtype(np.float64))
        num_tiles = len(self.lows)
        fits = num_steps * self.width <= _MEMORY_BYTES
        # bytes of a block's back pointers against those of the kept rows: 64 W t against 8 W n / t
        self.tiles_a_block = num_tiles if fits else max(1, round((num_tiles / 8) ** 0.5))
        self.starts = range(0, num_tiles, self.tiles_a_block)

    def run(self) -> BestPath:
        rows, back = [], np.zeros((0, 0), np.uint8)
        row = self._first_row()
        for first_tile in self.starts:
            rows.append(row)
            row, back = self._block(first_tile, row)
        state = self._last_state(row)
        score = float(row[state - self.lows[-1] + _REACH])
        states = np.empty(self.num_steps, np.int64)
        for place in reversed(range(len(self.starts))):
            if place < len(self.starts) - 1:
                _, back = self._block(self.starts[place], rows[place])
            state = self._trace(self.starts[place], back, state, states)
        return BestPath(states, score)

    def _first_row(self) -> np.ndarray:
        """Scores of a virtual step before the first, in a virtual state before the first."""
        row = np.full(self.width + _REACH, _NEVER)
        row[_REACH - 1] = 0.0 if self.lows[0] == 0 else _NEVER
        return row

    def _block(self, first_tile: int, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Advance over a block's tiles; returns the scores after it and its back pointers."""
        last_tile = min(first_tile + self.tiles_a_block, len(self.lows))
        begin, end = first_tile * TILE_STEPS, min(last_tile * TILE_STEPS, self.num_steps)
        back = np.empty((end - begin, self.width), np.uint8)
        for tile in range(first_tile, last_tile):
            start, stop = tile * TILE_STEPS, min((tile + 1) * TILE_STEPS, self.num_steps)
            low = int(self.lows[tile])
            row = _moved(row, low - int(self.lows[tile - 1]) if tile else 0)
            scores = np.maximum(self.scores(start, stop, low, low + self.width), np.float32(_LEAST_SCORE))
            panel = np.ascontiguousarray(scores, dtype=np.float32)
            moves = np.ascontiguousarray(self.moves[low : low + self.width].T)
            row = self._advance(row, panel, moves, back[start - begin : stop - begin])
        return row, back

    def _last_state(self, row: np.ndarray) -> int:
        num_states, low = len(self.moves), int(self.lows[-1])
        ends = [state for state in (num_states - 1, num_states - 2) if low <= state < low + self.width]
        best = max(ends, key=lambda state: row[state - low + _REACH], default=-1)
        if best < 0 or row[best - low + _REACH] < _NEVER / 2:
            raise UsageError(
                f"no path leads through {num_states} states in {self.num_steps} steps; "
                "the text is longer than the sound has room for"
            )
        return best

    def _trace(self, first_tile: int, back: np.ndarray, state: int, states: np.ndarray) -> int:
        """Follow back pointers through a block; returns the state before its first step."""
        begin = first_tile * TILE_STEPS
        for step in reversed(range(len(back))):
            states[begin + step] = state
            state -= int(back[step, state - self.lows[(begin + step) // TILE_STEPS]])
        return state


def _moved(row: np.ndarray, shift: int) -> np.ndarray:
    """Shift the scores to a band that advanced by `shift` states."""
    if shift == 0:
        return row
    moved = np.full_like(row, _NEVER)
    kept = max(0, len(row) - _REACH - shift)
    moved[: kept + _REACH] = row[shift : shift + kept + _REACH] if kept else _NEVER
    return moved


_SIGNATURE = "f[::1](f[::1], float32[:, ::1], f[:, ::1], uint8[:, ::1])"


def _advance(
    row: Float64[np.ndarray, " W2"],
    panel: Float32[np.ndarray, "steps W"],
    moves: Float64[np.ndarray, "3 W"],
    back: UInt8[np.ndarray, "steps W"],
) -> Float64[np.ndarray, " W2"]:
    """Run the recurrence over a tile; rows begin with two cells for the states before the band."""
    steps, width = panel.shape
    old, new = row.copy(), row.copy()
    stays, ones, twos = moves[0], moves[1], moves[2]
    never = -1e300
    for step in range(steps):
        for state in range(width):
            stay = old[state + 2] + stays[state]
            one = old[state + 1] + ones[state]
            two = old[state] + twos[state]
            best = max(stay, one)
            new[state + 2] = max(best, two) + panel[step, state]
            back[step, state] = 2 if two > best else (1 if one > stay else 0)
        new[0] = new[1] = never
        old, new = new, old
    return old
