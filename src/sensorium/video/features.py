"""A film watched once from beginning to end: its shots, what it looks like, how it moves, what is heard.

In: a video file. Out: a `Film`, some hundred numbers for each quarter of a second; pictures and samples are
let go as soon as they were looked at. What is worth showing is not decided here (`highlights`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32, Float64, UInt8

from sensorium.core.runtime import Progress, quiet
from sensorium.media.frames import frames, opened_movie, sound
from sensorium.media.loudness import RATE_HZ, LoudnessMeter, LoudnessTrack
from sensorium.video.frame_features import appearance, sharpness
from sensorium.video.shots import THUMBNAIL, Detector, Shot, ShotDetector

SAMPLE_S = 0.25
_REPORT_S = 5.0


@dataclass(frozen=True, eq=False)
class Film:
    """What was seen and heard.

    Attributes:
        path: The file.
        duration_s: When its last frame has been shown.
        frame_rate_hz: Frames a second, on average.
        shots: Cover the whole film.
        times_s: When each sample was taken, about four a second.
        features: What each sample looks like (`appearance`).
        motion: Mean absolute difference between frames since the sample before, 0 to 255.
        sharpness: Of each sample.
        brightness: Of each sample, 0 to 255.
        sound: What was heard; None if there is no sound track.
    """

    path: Path
    duration_s: float
    frame_rate_hz: float
    shots: list[Shot]
    times_s: Float64[np.ndarray, " n"]
    features: Float16[np.ndarray, "n D"]
    motion: Float32[np.ndarray, " n"]
    sharpness: Float32[np.ndarray, " n"]
    brightness: Float32[np.ndarray, " n"]
    sound: LoudnessTrack | None

    def samples(self, start_s: float, end_s: float) -> slice:
        """Samples within a stretch; the nearest one before if there is none within."""
        low, high = np.searchsorted(self.times_s, [start_s - 1e-6, end_s - 1e-6]).tolist()
        return slice(low, high) if high > low else slice(max(low - 1, 0), max(low, 1))


class _Viewer:
    """Keeps what is remembered of each frame."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.features: list[np.ndarray] = []
        self.numbers: list[tuple[float, float, float]] = []
        self.num_frames = 0
        self._before: np.ndarray | None = None
        self._moved: list[float] = []

    def see(self, time_s: float, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Look at the next frame."""
        before = pixels if self._before is None else self._before
        self.num_frames += 1
        self._moved.append(float(np.abs(pixels.astype(np.int16) - before).mean()))
        if not self.times_s or time_s - self.times_s[-1] >= SAMPLE_S - 1e-6:
            self.times_s.append(time_s)
            self.features.append(appearance(pixels, before).astype(np.float16))
            # The median leaves out the cut itself.
            self.numbers.append((float(np.median(self._moved)), sharpness(pixels), float(pixels.mean())))
            self._moved = []
        self._before = pixels


def watch(path: Path, *, detector: Detector | None = None, progress: Progress = quiet) -> Film:
    """Watch a film, pictures first, then sound.

    Args:
        path: A video.
        detector: Finds the shots; `ShotDetector` if none is given.
        progress: Told the seconds that were watched.

    Raises:
        NotFoundError: If there is no such file.
        MediaError: If it is not a video, or not one frame decodes.
        LimitError: If it is longer than two days.
    """
    with opened_movie(path) as movie:
        stream = movie.stream
        known_s = float((stream.duration or 0) * (stream.time_base or 0)) or None
    detector = detector or ShotDetector()
    viewer, end_s, reported_s = _Viewer(), 0.0, 0.0
    for frame in frames(path, size=THUMBNAIL):
        detector.add(frame.time_s, frame.pixels)
        viewer.see(frame.time_s, frame.pixels)
        end_s = frame.end_s
        if end_s - reported_s >= _REPORT_S:
            reported_s = end_s
            progress(
                int(end_s), None if known_s is None else max(int(known_s), int(end_s)), "watching (seconds)"
            )
    numbers = np.array(viewer.numbers, np.float32)
    return Film(
        path=path,
        duration_s=end_s,
        frame_rate_hz=viewer.num_frames / end_s if end_s else 25.0,
        shots=detector.finish(end_s),
        times_s=np.array(viewer.times_s),
        features=np.stack(viewer.features),
        motion=numbers[:, 0],
        sharpness=numbers[:, 1],
        brightness=numbers[:, 2],
        sound=_listen(path, end_s, progress),
    )


def _listen(path: Path, duration_s: float, progress: Progress) -> LoudnessTrack | None:
    listener, is_silent, reported_s = LoudnessMeter(), True, 0.0
    for block in sound(path, rate_hz=RATE_HZ):
        listener.add(block.samples)
        is_silent = False
        if block.time_s - reported_s >= _REPORT_S * 20:
            reported_s = block.time_s
            progress(min(int(reported_s), int(duration_s)), int(duration_s), "listening (seconds)")
    return None if is_silent else listener.finish()
