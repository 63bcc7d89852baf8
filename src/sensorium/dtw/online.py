"""Online time warping: aligns a live stream with a known reference, frame by frame.

Input: a reference series, then frames of a stream. Output: the reference position of each frame, immediately;
it never decreases. The position is exact: it is the end of the asymmetric warp of all frames so far, with an
open end (`dtw` with `step="asymmetric", open_end=True`), within a window of the reference around the current
position. With this step pattern every path has paid one cost per frame, so path ends are comparable. A
pattern with several reference frames per live frame would run ahead in quiet passages.

It is online time warping as in Dixon 2005 ("Live tracking of musical performances using on-line time
warping", DAFx), without its path weights and its rule for the direction of growth. Time is O(width D) per
frame, memory O(M D + width). Repeated or static passages are ambiguous until they differ.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Int64

from sensorium.core.errors import UsageError
from sensorium.dtw.costs import row_in_units
from sensorium.dtw.metrics import Metric, Series, as_costs, as_series
from sensorium.dtw.scaling import beyond_float64


class OnlineAligner:
    """Aligns a stream with a reference, frame by frame.

    The positions do not depend on how the frames are split into calls.

    Args:
        reference: (M, D) or (M,); the stream starts where it starts.
        metric: As for `dtw`, but not `precomputed`.
        width: Size of the window in reference frames, >= 4, half of it ahead. An error of more than half the
            width is never recovered.
        max_step: Maximum reference frames per stream frame, >= 1. The minimum is 0: the stream may pause.

    Raises:
        UsageError: If the reference is not a finite series, or an option is out of range.

    Example:
        >>> follower = OnlineAligner([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
        >>> follower.push([0.0, 0.1, 1.1]).tolist(), follower.push([2.9, 3.0]).tolist()
        ([0, 0, 1], [3, 3])
        >>> follower.position
        3
    """

    def __init__(
        self, reference: Series, *, metric: Metric = "euclidean", width: int = 512, max_step: int = 2
    ) -> None:
        if width < 4 or max_step < 1:
            raise UsageError(f"width={width}, max_step={max_step}; expected at least 4 and 1")
        if metric == "precomputed":
            raise UsageError("a stream has no precomputed costs; use euclidean, cosine or a function")
        self._reference = as_series("reference", reference)
        as_costs(self._reference, self._reference[:1], metric)  # raises if the metric does not fit
        self._metric = metric
        self._width = min(width, len(self._reference))
        self._max_step = max_step
        self._position = self._low = self._num_frames = 0
        self._spent = 0.0
        self._row = np.full(self._width, np.inf)

    @property
    def position(self) -> int:
        """Reference frame of the last stream frame; 0 before the first."""
        return self._position

    @property
    def num_frames(self) -> int:
        """Number of stream frames so far."""
        return self._num_frames

    @property
    def is_finished(self) -> bool:
        """Whether the position has reached the end of the reference."""
        return self._position == len(self._reference) - 1

    @property
    def mean_cost(self) -> float:
        """Cost per frame of the best path so far; NaN before the first frame."""
        return self._spent / self._num_frames if self._num_frames else float("nan")

    def push(self, frames: Series) -> Int64[np.ndarray, " T"]:
        """Process one or more frames.

        Args:
            frames: (T, D), or (T,) for a one-dimensional stream, in order.

        Returns:
            Reference frame of each, never decreasing.

        Raises:
            UsageError: If the frames have another width than the reference, are not finite, or their cost
                exceeds float64. Then none of them is processed.
        """
        if len(frames) == 0:
            return np.zeros(0, dtype=np.int64)
        heard = as_series("frames", frames)
        if heard.shape[1] != self._reference.shape[1]:
            raise UsageError(
                f"frames have width {heard.shape[1]}, the reference {self._reference.shape[1]}; give the same"
            )
        as_costs(heard, self._reference[:1], self._metric)  # raises if the metric does not fit
        before = self._position, self._low, self._num_frames, self._spent, self._row
        try:
            return np.array([self._hear(frame) for frame in heard], dtype=np.int64)
        except UsageError:
            self._position, self._low, self._num_frames, self._spent, self._row = before
            raise

    def _hear(self, frame: np.ndarray) -> int:
        low = max(0, min(self._position - self._width // 2, len(self._reference) - self._width))
        costs = as_costs(frame[None], self._reference[low : low + self._width], self._metric)
        best = self._entered(low) + row_in_units(costs)
        least = float(best.min())
        if not math.isfinite(self._spent + least):
            raise beyond_float64()
        self._spent += least
        self._row, self._low = best - least, low  # relative to the best, so that sums stay small
        self._position = max(self._position, low + int(best.argmin()))
        self._num_frames += 1
        return self._position

    def _entered(self, low: int) -> Float64[np.ndarray, " W"]:
        """Least cost of entering each position of the window that starts at `low`."""
        entered = np.full(self._width, np.inf)
        if self._num_frames == 0:
            entered[0] = 0.0
            return entered
        for step in range(self._max_step + 1):
            shift = low - self._low - step  # place p comes from p - step: index in the row before
            new = slice(max(0, -shift), min(self._width, self._width - shift))
            np.minimum(
                entered[new],
                self._row[max(0, shift) : max(0, shift) + new.stop - new.start],
                out=entered[new],
            )
        return entered
