"""Streams the frames and audio of a video of any length, in constant memory.

Input: a video file. Output: iterators that hold one frame or audio block at a time. Times come from
presentation timestamps, not from frame numbers, on the file's timeline (`clock`). Frames that do not decode
are skipped; a truncated file ends early. `open` returns a few frames as an array; this module returns all, or
those at given times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from sensorium.core.errors import MediaError
from sensorium.media import video
from sensorium.media.audio_track import timed_blocks
from sensorium.media.clock import is_joinable
from sensorium.media.container import opened_container, sound_stream
from sensorium.media.limits import Limits
from sensorium.media.orientation import Orientation
from sensorium.media.sniff import identify
from sensorium.media.source import Source, SourceLike, opened
from sensorium.media.video import Movie, frame_orientation, list_packets, shown_size

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

STREAM_LIMITS = Limits(file_bytes=1 << 40, frames=20_000_000, seconds=48 * 3600)
"""Bounds on streamed videos: two days, because frames are not kept."""

_ROUNDING_S = 1e-6


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video, upright, (H, W, 3), 0 to 255.

    It is displayed from `time_s` to `end_s` after the file's first timestamp, as far as the file declares it.
    """

    time_s: float
    end_s: float
    pixels: UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, eq=False)
class Block:
    """A mono block (T,) of an audio track; `time_s` counts from the file's first timestamp."""

    time_s: float
    samples: Float32[np.ndarray, " T"]


@contextmanager
def opened_movie(
    source: SourceLike, limits: Limits = STREAM_LIMITS, *, will_seek: bool = False
) -> Iterator[Movie]:
    """Open a video for streaming.

    `will_seek` tells that `Movie.can_seek` will be asked; some formats are read through for it.

    Raises:
        NotFoundError: If the path does not exist.
        MediaError: If it is not a video, or damaged from the start.
        LimitError: If its header is beyond `limits`.
    """
    with opened(source, limits) as found:
        format_, found = identify(found)
        if format_.reader != "container":
            raise MediaError(
                f"{found.name}: {format_.name}, not a video; expected MP4, MKV, WebM, AVI, MOV, TS"
            )
        can_seek = not will_seek or _has_one_count(found, format_.name, limits)
        with opened_container(found, format_.name, limits) as container:
            yield replace(_movie_of(container, found, format_.name, limits), can_seek=can_seek)


def _movie_of(container: InputContainer, source: Source, format_name: str, limits: Limits) -> Movie:
    movie = video.movie_of(container, source, format_name, limits)
    if movie is None:
        raise MediaError(f"{source.name}: sound without a moving picture; expected a video")
    return movie


def _has_one_count(source: Source, format_name: str, limits: Limits) -> bool:
    """Whether stamps run through the whole file."""
    with opened_container(source, format_name, limits) as container:
        if not is_joinable(container):
            return True
        return len(list_packets(_movie_of(container, source, format_name, limits)).stamps) > 0


def frames(
    source: SourceLike,
    *,
    size: tuple[int, int] | None = None,
    target_px: int | None = None,
    limits: Limits = STREAM_LIMITS,
) -> Iterator[Frame]:
    """Yield every frame that decodes, in order of time.

    Frames are resized to width and height `size`, ignoring the aspect ratio, or to a short side of at most
    `target_px`.

    Raises:
        MediaError: If it is not a video, or no frame decodes.
        LimitError: If it is beyond `limits`.
    """
    with opened_movie(source, limits) as movie:
        paint = Painter(movie.aspect, size, target_px)
        is_empty = True
        for time_s, end_s, frame in timed_frames(movie):
            is_empty = False
            yield Frame(time_s, end_s, paint(frame))
        if is_empty:
            raise MediaError(f"{movie.source.name}: not one frame could be decoded")


def frames_at(
    source: SourceLike,
    times_s: Sequence[float],
    *,
    target_px: int | None = None,
    limits: Limits = STREAM_LIMITS,
) -> Iterator[Frame]:
    """Yield the frames shown at some times (seconds, in any order), by seeking; each once, in order of time.

    A frame that does not decode is replaced by the next one that does, or skipped at the end. The short side
    has at most `target_px`.

    Raises:
        MediaError: If it is not a video.
        LimitError: If it is beyond `limits`.
    """
    with opened_movie(source, limits) as movie:
        packets = list_packets(movie)
    with opened_movie(source, limits) as movie:
        paint = Painter(movie.aspect, None, target_px)
        wanted_s = np.asarray(times_s, np.float64)
        places = np.searchsorted(packets.times_s, wanted_s + _ROUNDING_S, side="right") - 1
        numbers = np.unique(places.clip(0))
        for time_s, frame in video.chosen_frames(movie, packets, numbers):
            yield Frame(time_s, time_s + movie.frame_s, paint(frame))


def sound(source: SourceLike, *, rate_hz: int = 16_000, limits: Limits = STREAM_LIMITS) -> Iterator[Block]:
    """Yield the first audio track of a video as mono blocks of some milliseconds; nothing if it has none.

    Gaps are filled with silence, so that the blocks are contiguous. MediaError if it is not a video.
    """
    with opened_movie(source, limits) as movie:
        track = sound_stream(movie.container)
        if track is None:
            return
        for time_s, block in timed_blocks(movie.container, track, rate_hz, "mono"):
            yield Block(time_s, np.nan_to_num(block[:, 0]))


def timed_frames(movie: Movie, *, is_sought: bool = False) -> Iterator[tuple[float, float, VideoFrame]]:
    """Start time, end time and frame, for each frame that decodes; see `video.timed_frames`."""
    shown = video.timed_frames(movie, is_sought=is_sought)
    for number, (time_s, duration_s, frame) in enumerate(shown, start=1):
        movie.limits.check("frames", number, movie.source.name)
        movie.limits.check("seconds", time_s, movie.source.name)
        yield time_s, time_s + duration_s, frame


class Painter:
    """Converts decoded frames to upright RGB of one size.

    The FFmpeg scaler is reused between frames, because creating it takes twice the time of everything else.
    `aspect` is the pixel aspect ratio, width by height. `size` is the output width and height; without it,
    the short side has at most `target_px`.
    """

    def __init__(
        self, aspect: float = 1.0, size: tuple[int, int] | None = None, target_px: int | None = None
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self._aspect, self._size, self._target_px = aspect, size, target_px
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """Scale, convert and turn one frame."""
        orientation = frame_orientation(frame)
        width, height = self._stored_size(frame, orientation)
        scaled = self._scaler.reformat(frame, width, height, "rgb24", interpolation="AREA")
        return orientation.apply(scaled.to_ndarray())

    def _stored_size(self, frame: VideoFrame, orientation: Orientation) -> tuple[int, int]:
        if self._size is None:
            return shown_size(frame, self._aspect, self._target_px)
        return orientation.size(*self._size)
