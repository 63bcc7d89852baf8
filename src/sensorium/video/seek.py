"""Playheads: going forward over the pictures or the sound of a video, with jumps.

In: an open video and times that only grow. Out: the picture that is on screen then and those that follow, or
the blocks of sound. Short gaps are read through, long ones are sought over; where a seek lands too late it
starts farther back, and where a file cannot seek everything is read. One frame or block is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sensorium.media.audio_track import AudioConverter, decoded_frames
from sensorium.media.clock import Clock, start_of
from sensorium.media.frames import Movie, timed_frames

if TYPE_CHECKING:
    import av.audio.stream
    import av.stream
    import av.video.frame

_WORTH_SEEKING_S = 4.0
_MARGINS_S = (0.5, 8.0, 60.0)
# Blocks whose stamps are off by less follow each other: stamps are rounded.
_JITTER_S = 0.02
_ROUNDING_S = 1e-6


class Screen:
    """Goes forward over the pictures of a movie and knows which one is on screen.

    Args:
        movie: Open, at its start; nothing else reads it.
    """

    def __init__(self, movie: Movie) -> None:
        self._movie = movie
        self._frames = timed_frames(movie)
        self._next = next(self._frames, None)
        self.picture: av.video.frame.VideoFrame | None = None

    def go_to(self, time_s: float) -> None:
        """Put on screen what is shown at a time."""
        is_far = self._next is not None and time_s - self._next[0] > _WORTH_SEEKING_S
        if is_far and self._movie.can_seek and self._next is not None and self._next[2].pts is not None:
            self._seek(time_s)
        for _ in self.until(time_s + _ROUNDING_S):
            pass

    def until(self, end_s: float) -> Iterator[tuple[float, av.video.frame.VideoFrame]]:
        """Show what comes before a time."""
        while self._next is not None and self._next[0] < end_s:
            time_s, _, self.picture = self._next
            self._next = next(self._frames, None)
            yield time_s, self.picture

    def _seek(self, time_s: float) -> None:
        import av

        for margin_s in (*_MARGINS_S, time_s):
            try:
                _seek(self._movie, self._movie.stream, max(0.0, time_s - margin_s))
            except av.error.FFmpegError:  # no index: go on in order
                return
            self._frames = timed_frames(self._movie, is_sought=True)
            self._next = next(self._frames, None)
            if self._next is not None and self._next[0] <= time_s:
                return


class Ear:
    """Goes forward over a sound track: blocks (C, T), float32, with the times at which they begin.

    Args:
        movie: Open, at its start; nothing else reads it.
        track: One of its sound tracks.
        rate_hz: Samples a second to give.
        layout: `mono` or `stereo`.
    """

    def __init__(self, movie: Movie, track: av.audio.stream.AudioStream, rate_hz: int, layout: str) -> None:
        self._movie, self._track, self._rate_hz, self._layout = movie, track, rate_hz, layout
        track.codec_context.thread_count = 1
        self._blocks = self._decoded()
        self._next = next(self._blocks, None)

    def between(self, start_s: float, end_s: float) -> Iterator[tuple[float, np.ndarray]]:
        """Blocks that have a part in a stretch."""
        is_far = self._next is not None and start_s - self._next[0] > _WORTH_SEEKING_S
        if is_far and self._movie.can_seek:
            self._seek(start_s)
        while self._next is not None and self._next[0] < end_s:
            time_s, block = self._next
            if time_s + block.shape[1] / self._rate_hz > end_s:  # the next stretch may begin within it
                yield time_s, block
                return
            self._next = next(self._blocks, None)
            yield time_s, block

    def _seek(self, start_s: float) -> None:
        import av

        for margin_s in (*_MARGINS_S, start_s):
            try:
                _seek(self._movie, self._track, max(0.0, start_s - margin_s))
            except av.error.FFmpegError:
                return
            self._blocks = self._decoded(is_sought=True)
            self._next = next(self._blocks, None)
            if self._next is not None and self._next[0] <= start_s:
                return

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


def _seek(movie: Movie, stream: av.stream.Stream, time_s: float) -> None:
    step_s = float(stream.time_base or 1e-6)
    movie.container.seek(int((time_s + start_of(movie.container)) / step_s), stream=stream)
