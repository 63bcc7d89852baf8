"""Extracts features of a video: shots, frame features, motion, sharpness, brightness and sound.

Frames are decoded at thumbnail size and sampled four times a second. Pixels and sound samples are not kept:
memory is some hundred numbers a sample. Scores are computed in `highlights`. The cosine of two frame features
is the visual similarity of two moments; they are grids of colours, edge orientations and motion, without
learned weights. A summary uses them where no embedding model is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32, Float64, UInt8

from sensorium.core.runtime import Progress, quiet
from sensorium.media.frames import frames, opened_movie, sound
from sensorium.media.loudness import RATE_HZ, LoudnessMeter, LoudnessTrack
from sensorium.video.shots import THUMBNAIL, Detector, Shot, ShotDetector

SAMPLE_S = 0.25
_REPORT_S = 5.0
# Colours in 8 x 3 places, edges in 4 directions at 4 x 3 places, motion at 4 x 3 places, for 48 x 27 pixels.
_COLOUR_GRID, _EDGE_GRID = (3, 8), (3, 4)
_NUM_DIRECTIONS = 4
_COLOURS = _COLOUR_GRID[0] * _COLOUR_GRID[1] * 3
_EDGES = _EDGE_GRID[0] * _EDGE_GRID[1] * _NUM_DIRECTIONS
_MOTION = _EDGE_GRID[0] * _EDGE_GRID[1]
DIM = _COLOURS + _EDGES + _MOTION
_WEIGHTS = (1.0, 0.7, 0.3)


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """Features of a video, sampled over time.

    Attributes:
        path: The file.
        duration_s: When its last frame has been shown.
        frame_rate_hz: Frames a second, on average.
        shots: Cover the whole video.
        times_s: When each sample was taken, about four a second.
        vectors: Frame features of each sample (`frame_features`).
        motion: Mean absolute difference between frames since the sample before, 0 to 255.
        sharpness: Of each sample.
        brightness: Of each sample, 0 to 255.
        sound: Level and speech probability over time; None if there is no sound track.
    """

    path: Path
    duration_s: float
    frame_rate_hz: float
    shots: list[Shot]
    times_s: Float64[np.ndarray, " n"]
    vectors: Float16[np.ndarray, "n D"]
    motion: Float32[np.ndarray, " n"]
    sharpness: Float32[np.ndarray, " n"]
    brightness: Float32[np.ndarray, " n"]
    sound: LoudnessTrack | None

    def samples(self, start_s: float, end_s: float) -> slice:
        """Slice of the samples within a time span; the nearest one before if there is none."""
        low, high = np.searchsorted(self.times_s, [start_s - 1e-6, end_s - 1e-6]).tolist()
        return slice(low, high) if high > low else slice(max(low - 1, 0), max(low, 1))


class _FrameSampler:
    """Collects features of the sampled frames."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.vectors: list[np.ndarray] = []
        self.numbers: list[tuple[float, float, float]] = []
        self.num_frames = 0
        self._before: np.ndarray | None = None
        self._moved: list[float] = []

    def add(self, time_s: float, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take the next frame."""
        before = pixels if self._before is None else self._before
        self.num_frames += 1
        self._moved.append(float(np.abs(pixels.astype(np.int16) - before).mean()))
        if not self.times_s or time_s - self.times_s[-1] >= SAMPLE_S - 1e-6:
            self.times_s.append(time_s)
            self.vectors.append(frame_features(pixels, before).astype(np.float16))
            # The median leaves out the cut itself.
            self.numbers.append((float(np.median(self._moved)), sharpness(pixels), float(pixels.mean())))
            self._moved = []
        self._before = pixels


def extract_features(
    path: Path, *, detector: Detector | None = None, progress: Progress = quiet
) -> VideoFeatures:
    """Extract the features of a video, frames first, then sound.

    Shots are found by `detector`, or `ShotDetector`; `progress` reports seconds of the video.

    Raises:
        NotFoundError: If there is no such file.
        MediaError: If it is not a video, or not one frame decodes.
        LimitError: If it is longer than two days.
    """
    with opened_movie(path) as movie:
        stream = movie.stream
        known_s = float((stream.duration or 0) * (stream.time_base or 0)) or None
    detector = detector or ShotDetector()
    sampler, end_s, reported_s = _FrameSampler(), 0.0, 0.0
    for frame in frames(path, size=THUMBNAIL):
        detector.add(frame.time_s, frame.pixels)
        sampler.add(frame.time_s, frame.pixels)
        end_s = frame.end_s
        if end_s - reported_s >= _REPORT_S:
            reported_s = end_s
            progress(
                int(end_s), None if known_s is None else max(int(known_s), int(end_s)), "watching (seconds)"
            )
    numbers = np.array(sampler.numbers, np.float32)
    return VideoFeatures(
        path=path,
        duration_s=end_s,
        frame_rate_hz=sampler.num_frames / end_s if end_s else 25.0,
        shots=detector.finish(end_s),
        times_s=np.array(sampler.times_s),
        vectors=np.stack(sampler.vectors),
        motion=numbers[:, 0],
        sharpness=numbers[:, 1],
        brightness=numbers[:, 2],
        sound=_sound_track(path, end_s, progress),
    )


def _sound_track(path: Path, duration_s: float, progress: Progress) -> LoudnessTrack | None:
    listener, is_silent, reported_s = LoudnessMeter(), True, 0.0
    for block in sound(path, rate_hz=RATE_HZ):
        listener.add(block.samples)
        is_silent = False
        if block.time_s - reported_s >= _REPORT_S * 20:
            reported_s = block.time_s
            progress(min(int(reported_s), int(duration_s)), int(duration_s), "listening (seconds)")
    return None if is_silent else listener.finish()


def frame_features(
    pixels: UInt8[np.ndarray, "27 48 3"], before: UInt8[np.ndarray, "27 48 3"]
) -> Float32[np.ndarray, " D"]:
    """Compute the features of a frame; motion is the change from the frame before.

    Returns:
        Three concatenated blocks (colours, edges, motion), each of unit norm times its weight; an empty block
        is zero.

    Example:
        >>> frame_features(np.zeros((27, 48, 3), np.uint8), np.zeros((27, 48, 3), np.uint8)).shape == (DIM,)
        True
    """
    picture = pixels.astype(np.float32) / 255
    grey = picture.mean(axis=2)
    down, right = np.gradient(grey)
    strength = np.hypot(right, down)
    angle = np.arctan2(down, right) % np.pi
    direction = np.minimum((angle * (_NUM_DIRECTIONS / np.pi)).astype(int), _NUM_DIRECTIONS - 1)
    edges = np.stack([strength * (direction == one) for one in range(_NUM_DIRECTIONS)], axis=2)
    moved = np.abs(grey - before.astype(np.float32).mean(axis=2) / 255)[..., None]
    colours = _grid(picture, _COLOUR_GRID) - 0.5
    blocks = [colours, _grid(edges, _EDGE_GRID), _grid(moved, _EDGE_GRID)]
    return np.concatenate([weight * _unit(part) for weight, part in zip(_WEIGHTS, blocks, strict=True)])


def sharpness(pixels: UInt8[np.ndarray, "H W 3"]) -> float:
    """Mean gradient magnitude, 0 to 255; low for blurred or empty frames."""
    grey = pixels.astype(np.float32).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def _grid(values: Float32[np.ndarray, "H W C"], grid: tuple[int, int]) -> Float32[np.ndarray, " n"]:
    """Mean of each cell of a grid."""
    height, width = values.shape[:2]
    rows, columns = (
        np.arange(count) * side // count for count, side in zip(grid, (height, width), strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    sizes = np.diff([*rows, height])[:, None, None] * np.diff([*columns, width])[None, :, None]
    means: np.ndarray = (sums / sizes).astype(np.float32).reshape(-1)
    return means


def _unit(values: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    length = float(np.linalg.norm(values))
    return values / np.float32(length) if length > 1e-4 else np.zeros_like(values)
