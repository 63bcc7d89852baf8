"""Forward-only cursors over the frames or the sound of a video, with seeking.

Times must ascend. Short gaps are decoded, long ones are skipped by a seek. A seek that lands too late is
repeated from farther back; a file that cannot seek is decoded throughout. One frame or block is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sensorium.media.audio_track import AudioConverter, decoded_frames
from sensorium.media.clock import Clock, start_of
from sensorium.media.frames import timed_frames
from sensorium.media.video import Movie

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.stream import Stream
    from av.video.frame import VideoFrame

Timed = TypeVar("Timed", bound=tuple[Any, ...])
"""A frame or block as a tuple that begins with its time."""

_WORTH_SEEKING_S = 4.0
_MARGINS_S = (0.5, 8.0, 60.0)
# Blocks whose stamps are off by less follow each other: stamps are rounded.
_JITTER_S = 0.02
_ROUNDING_S = 1e-6


class FrameCursor:
    """Moves forward over the frames of a movie that nothing else reads; holds the one on display."""

    def __init__(self, movie: Movie) -> None:
        self._movie = movie
        self._frames = timed_frames(movie)
        self._next = next(self._frames, None)
        self.picture: VideoFrame | None = None

    def go_to(self, time_s: float) -> None:
        """Move to the frame on display at a time."""
        is_far = self._next is not None and time_s - self._next[0] > _WORTH_SEEKING_S
        if is_far and self._movie.can_seek and self._next is not None and self._next[2].pts is not None:
            self._seek(time_s)
        for _ in self.until(time_s + _ROUNDING_S):
            pass

    def until(self, end_s: float) -> Iterator[tuple[float, VideoFrame]]:
        """Yield the frames before a time."""
        while self._next is not None and self._next[0] < end_s:
            time_s, _, self.picture = self._next
            self._next = next(self._frames, None)
            yield time_s, self.picture

    def _seek(self, time_s: float) -> None:
        found = _seek_before(
            self._movie, self._movie.stream, time_s, lambda: timed_frames(self._movie, is_sought=True)
        )
        if found is not None:
            self._frames, self._next = found


class SoundCursor:
    """Moves forward over a sound track: blocks (C, T), float32, with their start times.

    The movie is at its start, and nothing else reads it. `layout` is `mono` or `stereo`.
    """

    def __init__(self, movie: Movie, track: AudioStream, rate_hz: int, layout: str) -> None:
        self._movie, self._track, self._rate_hz, self._layout = movie, track, rate_hz, layout
        track.codec_context.thread_count = 1
        self._blocks = self._decoded()
        self._next = next(self._blocks, None)

    def between(self, start_s: float, end_s: float) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the blocks that overlap a time span."""
        is_far = self._next is not None and start_s - self._next[0] > _WORTH_SEEKING_S
        if is_far and self._movie.can_seek:
            self._seek(start_s)
        while self._next is not None and self._next[0] < end_s:
            time_s, block = self._next
            if time_s + block.shape[1] / self._rate_hz > end_s:  # the next span may begin within it
                yield time_s, block
                return
            self._next = next(self._blocks, None)
            yield time_s, block

    def _seek(self, start_s: float) -> None:
        found = _seek_before(self._movie, self._track, start_s, lambda: self._decoded(is_sought=True))
        if found is not None:
            self._blocks, self._next = found

    def _decoded(self, *, is_sought: bool = False) -> Iterator[tuple[float, np.ndarray]]:
        clock, convert = (
            Clock(self._movie.container, is_sought=is_sought),
            AudioConverter(self._rate_hz, self._layout),
        )
        time_s = 0.0
        for frame in decoded_frames(self._movie.container, self._track):
            stamp_s = clock(frame.time, frame.samples / max(frame.sample_rate, 1))
            if frame.time is not None and abs(stamp_s - time_s) > _JITTER_S:
                time_s = stamp_s
            for samples in convert(frame):
                block = np.nan_to_num(samples.T)
                yield time_s, block
                time_s += block.shape[1] / self._rate_hz
        for samples in convert.rest():
            yield time_s, np.nan_to_num(samples.T)


def _seek_before(
    movie: Movie, stream: Stream, time_s: float, read: Callable[[], Iterator[Timed]]
) -> tuple[Iterator[Timed], Timed | None] | None:
    """Seek to an item that begins at a time or before; returns the items from there, and the first.

    None: the file cannot seek, go on in order.
    """
    import av

    found: tuple[Iterator[Timed], Timed | None] | None = None
    step_s = float(stream.time_base or 1e-6)
    for margin_s in (*_MARGINS_S, time_s):
        target_s = max(0.0, time_s - margin_s) + start_of(movie.container)
        try:
            movie.container.seek(int(target_s / step_s), stream=stream)
        except av.error.FFmpegError:
            return found
        items = read()
        first = next(items, None)
        found = items, first
        if first is not None and first[0] <= time_s:
            break
    return found
