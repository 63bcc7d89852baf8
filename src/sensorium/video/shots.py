"""Detects shots in a stream of thumbnails: hard cuts, dissolves and fades, without learned weights.

Input: frames of any small size, one after another, with their times. Output: shots that cover the whole
video. All windows are in seconds, so the frame rate may vary. A few numbers a frame are kept.

- A **cut** is a frame whose mean absolute difference (SAD) from the frame before is much larger than that of
  its neighbours within a quarter of a second. The two sides must stay different, which excludes flashes. A
  small change that only shifts the image is a camera jerk, no cut.
- A **dissolve** or fade lasts about a second, and its middle frame is the mean of its two ends. Camera motion
  seldom looks like that. Drifts and changes of brightness keep the image's structure and are excluded.
- **Black** between two scenes is cut once, where it ends.

`transnet` detects shots with a network.
"""

from __future__ import annotations

import itertools
from array import array
from collections import deque
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from sensorium.core.errors import UsageError

THUMBNAIL = (48, 27)
"""Width and height that the thresholds were chosen for."""


@dataclass(frozen=True)
class ShotOptions:
    """Thresholds of the detector.

    Attributes:
        cut_ratio: Least ratio of a cut's SAD to that of its neighbours plus `cut_floor`.
        cut_floor: SAD of noise, of 255.
        cut_change: Least SAD of a cut, of 255; below twice this the image structure must change too.
        fade_change: Least SAD between the two ends of a dissolve, of 255.
        fade_residual: Most SAD between a dissolve's middle and the mean of its ends, as a share of the SAD of
            its ends.
        min_shot_s: Cuts closer than this are merged.
    """

    cut_ratio: float = 1.5
    cut_floor: float = 4.0
    cut_change: float = 6.0
    fade_change: float = 18.0
    fade_residual: float = 0.36
    min_shot_s: float = 0.24


@dataclass(frozen=True)
class Shot:
    """The span from its first frame to that of the next shot, or the end of the video."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


# Neighbours of a frame, for the ratio.
_NEAR_S = 0.25
# How far apart the two sides of a cut are compared, to tell a flash.
_SPAN_S = 0.12
_FLASH_SHARE = 0.6
# Dissolves: samples a second, and lengths of the windows in samples.
_STEP_S = 0.1
_WINDOWS = (4, 6, 8, 12)
_SAME_STRUCTURE = 0.8
_SHIFTS_X, _SHIFTS_Y = range(-6, 7, 2), range(-2, 3, 2)
_FLAT_STD = 4.0
_BLACK = 14.0


@runtime_checkable
class Detector(Protocol):
    """Finds shots in a stream of thumbnails."""

    def add(self, time_s: float, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take the next frame, of size `THUMBNAIL`."""

    def finish(self, end_s: float) -> list[Shot]:
        """Return the shots, which cover the whole video; it ends at `end_s`."""


class ShotDetector:
    """Takes frames one after another, then returns the shots.

    Args:
        options: Thresholds.

    Example:
        >>> detector = ShotDetector()
        >>> noise = np.random.default_rng(0).integers(0, 256, (2, 27, 48, 3), np.uint8)
        >>> for number in range(50):
        ...     detector.add(number / 25, noise[number // 30])
        >>> [(shot.start_s, shot.end_s) for shot in detector.finish(2.0)]
        [(0.0, 1.2), (1.2, 2.0)]
    """

    def __init__(self, options: ShotOptions | None = None) -> None:
        self.options = options or ShotOptions()
        self._times_s = array("d")
        self._near = array("d")
        self._span = array("d")
        self._span_from = array("d")
        self._black: list[bool] = []
        self._is_weak: list[bool] = []
        self._recent: deque[tuple[float, Float32[np.ndarray, "H W 3"]]] = deque()
        self._samples: deque[tuple[float, Float32[np.ndarray, "H W 3"]]] = deque(maxlen=max(_WINDOWS) + 1)
        self._fades: list[tuple[float, float, float]] = []

    def add(self, time_s: float, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take the next frame.

        Args:
            time_s: When it is shown, later than the one before.
            pixels: Always of one size; `THUMBNAIL` is best.

        Raises:
            UsageError: If it is not later.
        """
        if self._times_s and time_s <= self._times_s[-1]:
            raise UsageError(f"a frame at {time_s} s after one at {self._times_s[-1]} s; give them in order")
        picture = pixels.astype(np.float32)
        self._keep(time_s, picture)
        if not self._samples or time_s - self._samples[-1][0] >= _STEP_S - 1e-6:
            self._samples.append((time_s, picture))
            self._look_for_fades()

    def finish(self, end_s: float) -> list[Shot]:
        """Return the shots.

        Args:
            end_s: When the last frame has been shown.
        """
        if not self._times_s:
            return []
        hard = self._cuts()
        strengths = self._without_black({**self._fade_cuts(hard), **hard})
        inside = _kept(strengths, self.options.min_shot_s)
        start_s, end_s = self._times_s[0], max(end_s, self._times_s[-1])
        short_s = self.options.min_shot_s
        cuts = [cut for cut in inside if start_s + short_s <= cut <= end_s - short_s]
        edges = [start_s, *cuts, end_s]
        return [Shot(a, b) for a, b in itertools.pairwise(edges)]

    def _keep(self, time_s: float, picture: Float32[np.ndarray, "H W 3"]) -> None:
        recent = self._recent
        while len(recent) > 1 and recent[1][0] <= time_s - _SPAN_S:
            recent.popleft()
        near = _sad(recent[-1][1], picture) if recent else 0.0
        self._is_weak.append(bool(recent) and self._is_jerk(near, recent[-1][1], picture))
        self._times_s.append(time_s)
        self._near.append(near)
        self._span.append(_sad(recent[0][1], picture) if recent else 0.0)
        self._span_from.append(recent[0][0] if recent else time_s)
        self._black.append(bool(picture.mean() < _BLACK and picture.std() < _BLACK / 2))
        recent.append((time_s, picture))

    def _is_jerk(
        self, near: float, before: Float32[np.ndarray, "H W 3"], picture: Float32[np.ndarray, "H W 3"]
    ) -> bool:
        """Whether a small change is too small for a cut, or only shifts or brightens the image."""
        if near >= 2 * self.options.cut_change:
            return False
        is_step = near >= self.options.cut_change and near > self.options.cut_ratio * self._near[-1]
        return not is_step or _is_same_structure(before, picture)

    def _cuts(self) -> dict[float, float]:
        """Strength of each hard cut by its time."""
        times_s, near = np.array(self._times_s), np.array(self._near)
        span, span_from = np.array(self._span), np.array(self._span_from)
        ratio = near / (_second_largest_nearby(times_s, near) + self.options.cut_floor)
        found: dict[float, float] = {}
        is_large = (ratio >= self.options.cut_ratio) & ~np.array(self._is_weak)
        for at in np.flatnonzero(is_large).tolist():
            # The first later frame that is compared with one from before the cut, from farthest away.
            after = int(np.searchsorted(span_from, times_s[at - 1], side="right")) - 1
            sides = min(span[at], span[max(after, at)])
            if sides >= _FLASH_SHARE * near[at]:
                found[float(times_s[at])] = float(near[at])
        return found

    def _look_for_fades(self) -> None:
        options, samples = self.options, self._samples
        for window in _WINDOWS:
            if len(samples) <= window:
                return
            (start_s, first), (end_s, last) = samples[-1 - window], samples[-1]
            middle = samples[-1 - window // 2][1]
            if end_s - start_s > 2 * window * _STEP_S:  # frames are too far apart to tell
                continue
            change = _sad(first, last)
            if change < options.fade_change:
                continue
            residual = _sad(middle, (first + last) / 2) / change
            if residual <= options.fade_residual and not _is_same_structure(first, last):
                self._fades.append((start_s, end_s, change * (1 - residual)))

    def _fade_cuts(self, cuts: dict[float, float]) -> dict[float, float]:
        """Strength of each dissolve by its middle: the strongest of overlapping windows without a cut."""
        found: dict[float, float] = {}
        taken: list[tuple[float, float]] = []
        hard = np.array(sorted(cuts))
        for start_s, end_s, strength in sorted(self._fades, key=lambda fade: -fade[2]):
            if any(start_s < b and end_s > a for a, b in taken):
                continue
            place = np.searchsorted(hard, start_s, side="right")
            if place < len(hard) and hard[place] <= end_s:
                continue
            taken.append((start_s, end_s))
            found[(start_s + end_s) / 2] = strength
        return found

    def _without_black(self, strengths: dict[float, float]) -> dict[float, float]:
        """Replace all cuts in and beside a black span by one at its end."""
        black, times_s = np.array([False, *self._black, False]), np.array(self._times_s)
        starts = np.flatnonzero(~black[:-1] & black[1:])
        ends = np.flatnonzero(black[:-1] & ~black[1:])
        for first, stop in zip(starts, ends, strict=True):
            if first == 0 or stop == len(times_s):
                continue
            low, high = times_s[first] - 1.0, times_s[stop] + 1.0
            inside = {cut: value for cut, value in strengths.items() if low <= cut <= high}
            if inside:
                strengths = {cut: value for cut, value in strengths.items() if cut not in inside}
                strengths[float(times_s[stop])] = max(inside.values())
        return strengths


def _sad(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def _is_same_structure(a: Float32[np.ndarray, "H W 3"], b: Float32[np.ndarray, "H W 3"]) -> bool:
    """Whether one is the other shifted, brightened or darkened; flat images have no structure."""
    return any(_correlation(*_overlap(a, b, x, y)) > _SAME_STRUCTURE for y in _SHIFTS_Y for x in _SHIFTS_X)


def _overlap(a: np.ndarray, b: np.ndarray, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops that both show if `b` is `a` shifted right by `x` and down by `y`."""
    height, width = a.shape[:2]
    left, top = max(0, -x), max(0, -y)
    right, bottom = min(width, width - x), min(height, height - y)
    return a[top:bottom, left:right], b[top + y : bottom + y, left + x : right + x]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / spread if spread >= _FLAT_STD**2 * a.size else 0.0


def _second_largest_nearby(
    times_s: Float64[np.ndarray, " n"], values: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Second largest of the other values within `_NEAR_S` around each, since two cuts may be near."""
    lows = np.searchsorted(times_s, times_s - _NEAR_S)
    highs = np.searchsorted(times_s, times_s + _NEAR_S, side="right")
    result = np.zeros(len(values))
    for at, (low, high) in enumerate(zip(lows, highs, strict=True)):
        nearby = np.concatenate([values[max(low, 1) : at], values[at + 1 : high]])
        if len(nearby):
            result[at] = np.partition(nearby, -2)[-2] if len(nearby) > 2 else nearby.min()
    return result


def _kept(strengths: dict[float, float], apart_s: float) -> list[float]:
    """Cuts in order of time; of two that are closer than `apart_s` the stronger is kept."""
    kept: list[float] = []
    for cut in sorted(strengths, key=lambda cut: -strengths[cut]):
        if all(abs(cut - other) >= apart_s for other in kept):
            kept.append(cut)
    return sorted(kept)
