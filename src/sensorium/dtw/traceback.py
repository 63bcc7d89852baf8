"""Traceback: recovers the warping path from the backpointers of the recurrence.

Input: a step pattern, and blocks of backpointers from last to first. Output: the cells of the path and their
weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from sensorium.core.jit import compiled
from sensorium.dtw.path_kernels import TRACE, trace
from sensorium.dtw.steps import StepPattern


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
        self._free = compiled(trace, TRACE, np.dtype(np.float64))(
            *(codes.bytes_, codes.first, codes.start, codes.bits, codes.top, self._cell, table.jumps),
            *(table.cells, table.weights, table.counts, self._path, self._paid, self._free),
        )

    def found(self) -> tuple[Int64[np.ndarray, "L 2"], Float64[np.ndarray, " L"]]:
        """Return the cells of the path in order, and their weights."""
        return self._path[self._free :].copy(), self._paid[self._free :].copy()
