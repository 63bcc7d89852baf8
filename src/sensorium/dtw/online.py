"""Following a live stream through a known reference: where in the score or the rehearsal are we now?

In: a reference series, then frames of a stream as they come. Out: for each frame the place in the reference,
at once; it never goes back and never waits. What is computed is exact: the asymmetric time warp of what has
been heard so far, which began where the reference begins and may end anywhere in it (`dtw` with
`step="asymmetric", open_end=True`), kept to a window of the reference around the current place. Every path
has paid one cost for each frame heard, so their ends can be compared; a warp that may use several reference
frames for one live frame would run ahead through quiet passages, where frames cost little. On-line time
warping in the sense of Dixon 2005 ("Live tracking of musical performances using on-line time warping",
DAFx), without its path weights and its rule for which way to grow.

Costs O(width D) time a frame and O(M D + width) memory, however long the stream is. Knows no future: a
passage that occurs twice, or where nothing changes, is told apart only once it differs.
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

    Fed all at once or frame by frame, the places are the same.

    Args:
        reference: (M, D) or (M,); the stream begins where it begins.
        metric: As for `dtw`, but not `precomputed`.
        width: Reference frames around the current place that are looked at, half of them ahead, >= 4; an
            error of more than half of it is never made good.
        max_step: How many reference frames a stream frame may advance by, >= 1: the greatest speed relative
            to the reference. There is no least: the stream may pause.

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
        as_costs(self._reference, self._reference[:1], metric)  # refuses what the metric cannot compare
        self._metric = metric
        self._width = min(width, len(self._reference))
        self._max_step = max_step
        self._position = self._low = self._num_frames = 0
        self._spent = 0.0
        self._row = np.full(self._width, np.inf)

    @property
    def position(self) -> int:
        """Reference frame of the last frame heard; 0 before any."""
        return self._position

    @property
    def num_frames(self) -> int:
        """Frames heard."""
        return self._num_frames

    @property
    def is_finished(self) -> bool:
        """Whether the end of the reference was reached."""
        return self._position == len(self._reference) - 1

    @property
    def mean_cost(self) -> float:
        """Cost a frame of the best path so far; NaN before any frame."""
        return self._spent / self._num_frames if self._num_frames else float("nan")

    def push(self, frames: Series) -> Int64[np.ndarray, " T"]:
        """Hear one frame or more.

        Args:
            frames: (T, D), or (T,) of a one-dimensional stream, in order.

        Returns:
            The reference frame of each, never falling.

        Raises:
            UsageError: If the frames are of another width than the reference, not finite, or so far from it
                that float64 cannot hold their cost. Nothing of them has been heard then.
        """
        if len(frames) == 0:
            return np.zeros(0, dtype=np.int64)
        heard = as_series("frames", frames)
        if heard.shape[1] != self._reference.shape[1]:
            raise UsageError(
                f"frames have width {heard.shape[1]}, the reference {self._reference.shape[1]}; give the same"
            )
        as_costs(heard, self._reference[:1], self._metric)  # refuses what the metric cannot compare
        before = self._position, self._low, self._num_frames, self._spent, self._row
        try:
            return np.array([self._hear(frame) for frame in heard], dtype=np.int64)
        except UsageError:
            self._position, self._low, self._num_frames, self._spent, self._row = before
            raise

    def _hear(self, frame: np.ndarray) -> int:
        low = max(0, min(self._position - self._width // 2, len(self._reference) - self._width))
        best = self._entered(low) + self._costs(frame, low)
        least = float(best.min())
        if not math.isfinite(self._spent + least):
            raise beyond_float64()
        self._spent += least
        self._row, self._low = best - least, low  # relative to the best: sums stay small for ever
        self._position = max(self._position, low + int(best.argmin()))
        self._num_frames += 1
        return self._position

    def _entered(self, low: int) -> Float64[np.ndarray, " W"]:
        """Cheapest way into each place of the window from `low` on."""
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

    def _costs(self, frame: np.ndarray, low: int) -> Float64[np.ndarray, " W"]:
        return row_in_units(as_costs(frame[None], self._reference[low : low + self._width], self._metric))
