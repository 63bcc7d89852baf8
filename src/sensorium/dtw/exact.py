"""Exact DTW over panels of rows: the least accumulated cost, and optionally the path.

Input: a `Problem` (costs, ranges, step pattern, open ends). Output: `Solved`. Only one panel of costs is in
memory. The path needs backpointers of 2 bits per cell of the window (4 bits for patterns with more than three
productions). If they exceed the memory cap, only rows of accumulated costs are stored as checkpoints. The
blocks between checkpoints are then computed again during the traceback. Memory then grows as (n + m) sqrt(n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8

from sensorium.core.jit import compiled, unreached
from sensorium.dtw import path_kernels as kernels
from sensorium.dtw.costs import Costs, Differences
from sensorium.dtw.scaling import times_power_of_two
from sensorium.dtw.steps import StepPattern
from sensorium.dtw.windows import Ranges

PANEL = 64
"""Rows of costs that are in memory at a time."""


@dataclass(frozen=True)
class Problem:
    """A DTW problem.

    Attributes:
        costs: Local costs, (n, m).
        ranges: Allowed cells.
        pattern: Step pattern.
        open_begin: The path may begin at any element of y.
        open_end: The path may end at any element of y.
        limit: Distances above it, in the caller's units, may be returned as infinite (early abandoning).
    """

    costs: Costs
    ranges: Ranges
    pattern: StepPattern
    open_begin: bool = False
    open_end: bool = False
    limit: float = math.inf

    @property
    def floor(self) -> float:
        """Sum, in units of the costs, above which no digits are lost by underflow."""
        weights = (weight for moves in self.pattern.productions for _, _, weight in moves)
        return sum(self.costs.shape) * max(1.0, *weights) * self.costs.floor


@dataclass(frozen=True)
class Solved:
    """Solution: least accumulated cost and its path.

    Attributes:
        distance: In units of the costs; infinite if no path exists.
        path: Cells (i, j) in order; None if not requested.
        weights: Weight of each cell's cost.
    """

    distance: float
    path: Int64[np.ndarray, "L 2"] | None = None
    weights: Float64[np.ndarray, " L"] | None = None


def solve(problem: Problem, *, path: bool, cap_bytes: int) -> Solved:
    """Compute the least accumulated cost, and optionally its path.

    Backpointers take at most `cap_bytes`; beyond it, blocks are computed twice.
    """
    n, m = problem.costs.shape
    limit = problem.limit
    if math.isfinite(limit):
        limit = max(times_power_of_two(limit, -problem.costs.exponent), problem.floor)
    if not path and _has_numbers(problem):
        return Solved(_of_numbers(problem))
    sweep = sweep_of(problem)
    state = sweep.begin()
    edges = _blocks(problem.ranges, sweep.bits, cap_bytes) if path else [*range(0, n, PANEL), n]
    checkpoints = []
    codes = None
    for low, high in pairwise(edges):
        if path and high < n:
            checkpoints.append(state.copy())
        codes = empty_codes(problem.ranges, sweep.bits, low, high) if path and high == n else None
        sweep.advance(state, low, high, codes)
        if sweep.least(state) > limit:
            return Solved(math.inf)
    last = sweep.last_row(state)
    end = int(last.argmin()) if problem.open_end else m - 1
    if last[end] >= unreached(problem.costs.dtype) / 2:
        return Solved(math.inf)
    distance = float(last[end])
    if codes is None:
        return Solved(distance)
    tracer = Tracer(problem.pattern, n, m, (n - 1, end))
    tracer.through(codes)
    for (low, high), checkpoint in zip(reversed([*pairwise(edges)][:-1]), reversed(checkpoints), strict=True):
        if tracer.is_done:
            break
        codes = empty_codes(problem.ranges, sweep.bits, low, high)
        sweep.advance(checkpoint, low, high, codes)
        tracer.through(codes)
    return Solved(distance, *tracer.found())


def _has_numbers(problem: Problem) -> bool:
    """Whether the series are univariate, all cells are allowed and moves are (1, 1), (1, 0), (0, 1)."""
    source, weight, m = problem.costs.source, problem.pattern.diagonal_weight, problem.costs.shape[1]
    is_univariate = isinstance(source, Differences) and source.x.shape[1] == 1 and len(source.y) == m
    return is_univariate and weight is not None and weight >= 1 and problem.ranges.is_full(m)


def _of_numbers(problem: Problem) -> float:
    from sensorium.dtw.distance_kernels import ONE_PAIR, one_pair

    source, dtype = problem.costs.source, problem.costs.dtype
    assert isinstance(source, Differences)
    extra = (problem.pattern.diagonal_weight or 1) - 1
    big = unreached(dtype)
    kernel = compiled(one_pair, ONE_PAIR, dtype)
    least = kernel(
        *(source.x[:, 0], source.y[:, 0], source.power, dtype.type(extra), dtype.type(math.sqrt(big))),
        *(dtype.type(big), problem.open_begin, problem.open_end),
    )
    return math.inf if least >= big / 2 else float(least)


def sweep_of(problem: Problem) -> WavefrontSweep | TableSweep:
    """Select the fastest recurrence for a step pattern."""
    weight = problem.pattern.diagonal_weight
    return TableSweep(problem) if weight is None or weight < 1 else WavefrontSweep(problem, weight - 1)


def empty_codes(ranges: Ranges, bits: int, low: int, high: int) -> Codes:
    """Allocate backpointers for rows low..high-1."""
    first, last = _groups(ranges, bits, low, high)
    ends = np.cumsum(last - first)
    return Codes(low, bits, first, last, ends - (last - first), np.empty(int(ends[-1]), np.uint8))


def _groups(
    ranges: Ranges, bits: int, low: int, high: int
) -> tuple[Int64[np.ndarray, " G"], Int64[np.ndarray, " G"]]:
    """First and end column of each group of rows that share backpointer bytes."""
    tops = np.arange(0, high - low, 8 // bits)
    return np.minimum.reduceat(ranges.low[low:high], tops), np.maximum.reduceat(ranges.high[low:high], tops)


def _blocks(ranges: Ranges, bits: int, cap_bytes: int) -> list[int]:
    """Boundaries of row blocks: one block if its backpointers fit, else blocks that minimise memory."""
    n = len(ranges.low)
    first, last = _groups(ranges, bits, 0, n)
    if int((last - first).sum()) <= cap_bytes:
        return [0, n]
    height = PANEL * max(1, round(4 * math.sqrt(n) / PANEL))
    return [*range(0, n, height), n]


class WavefrontSweep:
    """Recurrence for the moves (1, 1), (1, 0), (0, 1); the state is the row above, from column -1.

    A copy of a state is a checkpoint.
    """

    bits = 2

    def __init__(self, problem: Problem, extra: float) -> None:
        self._costs, self._ranges = problem.costs, problem.ranges
        self._is_open = problem.open_begin
        self._dtype = problem.costs.dtype
        self._extra, self._big = self._dtype.type(extra), self._dtype.type(unreached(self._dtype))
        shape = problem.costs.shape
        low, high = problem.ranges.low, problem.ranges.high
        tops = np.arange(0, shape[0], PANEL)
        widths = np.maximum.reduceat(high, tops) - np.minimum.reduceat(low, tops)
        self._room = np.empty(PANEL * int(widths.max()), self._dtype)

    def begin(self) -> Float[np.ndarray, " v"]:
        """Zero where a path may begin, corrected for the diagonal weight of the first cell."""
        state = np.full(self._costs.shape[1] + 1, 0 if self._is_open else self._big, self._dtype)
        if not self._is_open:
            corner = np.empty((1, 1), self._dtype)
            self._costs.panel(slice(0, 1), slice(0, 1), corner)
            state[0] = -self._extra * corner[0, 0]
        return state

    def advance(self, state: Float[np.ndarray, " v"], low: int, high: int, codes: Codes | None) -> None:
        """Process rows low..high-1 (`low` is a multiple of `PANEL`) and update the state in place."""
        place = 0
        for top in range(low, high, PANEL):
            bottom = min(top + PANEL, high)
            first, last = _groups(self._ranges, self.bits, top, bottom)
            left, right = int(first.min()), int(last.max())
            cost = self._room[: (bottom - top) * (right - left)].reshape(bottom - top, right - left)
            self._fill(cost, top, bottom, left, right)
            groups = slice(place, place + len(first))
            place += len(first)
            self._recur(cost, left, first, last, state, codes, groups)

    def last_row(self, state: Float[np.ndarray, " v"]) -> Float[np.ndarray, " m"]:
        """All but column -1."""
        return state[1:]

    def least(self, state: Float[np.ndarray, " v"]) -> float:
        """Minimum of the row: a lower bound on the cost of every path through it."""
        return float(state.min())

    def _fill(self, cost: Float[np.ndarray, "k w"], top: int, bottom: int, left: int, right: int) -> None:
        rows, columns = slice(top, bottom), slice(left, right)
        self._costs.panel(rows, columns, cost)
        low, high = self._ranges.low[rows], self._ranges.high[rows]
        if (low > left).any() or (high < right).any():
            compiled(kernels.fence, kernels.FENCE, self._dtype)(cost, left, low, high, self._big)
        if self._ranges.mask is not None:
            cost[~self._ranges.mask[rows, columns]] = self._big

    def _recur(
        self,
        cost: Float[np.ndarray, "k w"],
        left: int,
        first: Int64[np.ndarray, " G"],
        last: Int64[np.ndarray, " G"],
        state: Float[np.ndarray, " v"],
        codes: Codes | None,
        groups: slice,
    ) -> None:
        whole = len(cost) // 4
        ends = cost[: 4 * whole], left, first[:whole], last[:whole], state, self._extra, self._big
        start = np.zeros(len(first), np.int64) if codes is None else codes.start[groups]
        if codes is None:
            compiled(kernels.wavefront_value, kernels.WAVEFRONT_VALUE, self._dtype)(*ends)
        else:
            kernel = compiled(kernels.wavefront, kernels.WAVEFRONT, self._dtype)
            kernel(*ends, codes.bytes_, start[:whole])
        if len(cost) % 4:
            room = np.empty(int(last[-1] - first[-1]), np.uint8) if codes is None else codes.bytes_
            compiled(kernels.remainder, kernels.REMAINDER, self._dtype)(
                cost[4 * whole :], left, first[-1], last[-1], state, self._extra, self._big, room, start[-1]
            )


class TableSweep:
    """Recurrence for any step pattern; the state holds the last rows of costs and sums."""

    def __init__(self, problem: Problem) -> None:
        self.bits = 2 if len(problem.pattern.productions) <= 3 else 4
        self._costs, self._ranges, self._is_open = problem.costs, problem.ranges, problem.open_begin
        self._table = Table(problem.pattern)
        self._halo = int(self._table.jumps.max())
        self._dtype = problem.costs.dtype
        self._big = self._dtype.type(unreached(self._dtype))

    def begin(self) -> Float[np.ndarray, "two halo w"]:
        """Initial state: every cell is unreachable."""
        return np.full((2, self._halo, self._halo + self._costs.shape[1]), self._big, self._dtype)

    def advance(
        self, state: Float[np.ndarray, "two halo w"], low: int, high: int, codes: Codes | None
    ) -> None:
        """For each panel: compute the costs, then run the recurrence below the halo rows."""
        halo, m = self._halo, self._costs.shape[1]
        share = 8 // self.bits
        weights = self._table.weights.astype(self._dtype)
        for top in range(low, high, PANEL):
            rows = slice(top, min(top + PANEL, high))
            below = halo + rows.stop - top
            cost = np.full((below, halo + m), self._big, self._dtype)
            reached = np.empty_like(cost)
            cost[:halo], reached[:halo] = state
            self._fill(cost[halo:, halo:], rows)
            flags = np.empty((rows.stop - top, m), np.uint8)
            compiled(kernels.rows, kernels.ROWS, self._dtype)(
                *(cost, reached, halo, top, self._ranges.low[rows], self._ranges.high[rows], self._is_open),
                *(self._big, self._table.jumps, self._table.cells, weights, flags),
            )
            state[0], state[1] = cost[-halo:], reached[-halo:]
            if codes is not None:
                groups = slice((top - low) // share, -((low - rows.stop) // share))
                ends = codes.first[groups], codes.last[groups], codes.bytes_, codes.start[groups]
                compiled(kernels.pack, kernels.PACK, self._dtype)(flags, self.bits, *ends)

    def last_row(self, state: Float[np.ndarray, "two halo w"]) -> Float[np.ndarray, " m"]:
        """The row taken last, without the halo."""
        return state[1, -1, self._halo :]

    def least(self, state: Float[np.ndarray, "two halo w"]) -> float:
        """Minimum of the halo rows, which no production can skip."""
        return float(state[1].min())

    def _fill(self, cost: Float[np.ndarray, "k m"], rows: slice) -> None:
        low, high = self._ranges.low[rows], self._ranges.high[rows]
        columns = slice(int(low.min()), int(high.max()))
        found = np.empty((len(low), columns.stop - columns.start), self._dtype)
        self._costs.panel(rows, columns, found)
        places = np.arange(columns.start, columns.stop)
        outside = (places < low[:, None]) | (places >= high[:, None])
        if self._ranges.mask is not None:
            outside |= ~self._ranges.mask[rows, columns]
        found[outside] = self._big
        cost[:, columns] = found


@dataclass(frozen=True)
class Codes:
    """Backpointers of a block of rows; `path_kernels` describes the layout."""

    top: int
    bits: int
    first: Int64[np.ndarray, " G"]
    last: Int64[np.ndarray, " G"]
    start: Int64[np.ndarray, " G"]
    bytes_: UInt8[np.ndarray, " size"]


class Table:
    """A step pattern as arrays: total jump of each production, the cells it enters, and their weights."""

    def __init__(self, pattern: StepPattern) -> None:
        most = max(len(moves) for moves in pattern.productions)
        number = len(pattern.productions)
        self.jumps = np.zeros((number, 2), np.int64)
        self.cells = np.zeros((number, most, 2), np.int64)
        self.weights = np.zeros((number, most))
        self.counts = np.array([len(moves) for moves in pattern.productions], np.int64)
        for p, moves in enumerate(pattern.productions):
            steps = np.array([move[:2] for move in moves])
            self.jumps[p] = steps.sum(axis=0)
            self.cells[p, : len(moves)] = self.jumps[p] - steps.cumsum(axis=0)
            self.weights[p, : len(moves)] = [weight for _, _, weight in moves]


class Tracer:
    """State of a traceback, from the end to the beginning, block by block."""

    def __init__(self, pattern: StepPattern, n: int, m: int, end: tuple[int, int]) -> None:
        self._table = Table(pattern)
        self._cell = np.array(end, np.int64)
        longest = n + m + int(self._table.cells.shape[1])
        self._path = np.empty((longest, 2), np.int64)
        self._paid = np.empty(longest)
        self._free = longest

    @property
    def is_done(self) -> bool:
        """Whether the start of the path has been reached."""
        return bool(self._cell[0] < 0)

    def through(self, codes: Codes) -> None:
        """Trace through a block."""
        table = self._table
        self._free = compiled(kernels.trace, kernels.TRACE, np.dtype(np.float64))(
            *(codes.bytes_, codes.first, codes.start, codes.bits, codes.top, self._cell, table.jumps),
            *(table.cells, table.weights, table.counts, self._path, self._paid, self._free),
        )

    def found(self) -> tuple[Int64[np.ndarray, "L 2"], Float64[np.ndarray, " L"]]:
        """Return the cells of the path in order, and their weights."""
        return self._path[self._free :].copy(), self._paid[self._free :].copy()
