"""Writes a highlight reel: spans of a video concatenated into one MP4 (H.264, AAC) with synchronous sound.

Frames keep their times, so a variable frame rate stays variable. The first frame of a span is the one on
display when it begins. Sound is placed by its time stamps to the sample, gaps are silent. Both tracks use one
clock and cannot drift apart. Frames are stored upright, with square pixels and even sides. One frame and one
block are in memory.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import MediaError, UsageError
from sensorium.core.files import replace_atomic
from sensorium.core.runtime import Progress, quiet
from sensorium.media.frames import Painter, opened_movie
from sensorium.media.orientation import UPRIGHT
from sensorium.media.video import Movie, fit, frame_orientation
from sensorium.video.seek import FrameCursor, SoundCursor

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import OutputContainer
    from av.video.frame import VideoFrame

Span = tuple[float, float]

_CLOCK_HZ = 90_000
_AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_FRAME = 1024
# Sound begins and ends in so many seconds, or a cut would click.
_EDGE_S = 0.005


@dataclass(frozen=True)
class Reel:
    """A written reel: file, duration (sum of the spans), number of frames, and whether it has sound."""

    path: Path
    duration_s: float
    num_frames: int
    has_sound: bool


def write_reel(
    video: Path,
    spans: Sequence[Span],
    path: Path,
    *,
    titles: Sequence[str] = (),
    max_px: int = 720,
    progress: Progress = quiet,
) -> Reel:
    """Concatenate spans of a video; the file is complete or absent.

    Args:
        video: The source.
        spans: Start and end in seconds, ascending and disjoint.
        path: Where the reel goes.
        titles: Chapter titles in it, one for each span.
        max_px: Longest allowed short side.
        progress: Reports seconds of the reel.

    Raises:
        UsageError: If there are no spans, or they are empty or out of order.
        MediaError: If none of their frames decodes.
    """
    if not spans or any(b <= a for a, b in spans) or any(c < b for (_, b), (c, _) in pairwise(spans)):
        raise UsageError(f"stretches {list(spans)[:3]}...: expected start before end, in order and apart")
    if titles and len(titles) != len(spans):
        raise UsageError(f"{len(titles)} titles for {len(spans)} stretches; expected one for each")
    made: list[Reel] = []

    def write(temporary: Path) -> None:
        with opened_movie(video, will_seek=True) as pictures, opened_movie(video) as sounds:
            sounds = replace(sounds, can_seek=pictures.can_seek)
            writer = _Writer(pictures, sounds, temporary, max_px)
            made.append(writer.write(spans, titles, path, progress))

    replace_atomic(path, write)
    return made[0]


class _Writer:
    """Encodes one reel."""

    def __init__(self, pictures: Movie, sounds: Movie, path: Path, max_px: int) -> None:
        self._pictures, self._sounds, self._path = pictures, sounds, path
        self._aspect = pictures.aspect
        self._max_px = max_px
        self._painter = Painter(self._aspect, None, max_px)
        self._last_stamp = -1
        self._num_frames = 0

    def write(self, spans: Sequence[Span], titles: Sequence[str], path: Path, progress: Progress) -> Reel:
        import av

        total_s = sum(end - start for start, end in spans)
        frames = _shown(self._pictures, spans)
        first = next(frames, None)
        if first is None:
            raise MediaError(f"{self._pictures.source.name}: not one picture of the reel could be decoded")
        tracks = [track for track in self._sounds.container.streams.audio if track.codec_context is not None]
        with av.open(str(self._path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
            picture = self._picture_track(out, first[1])
            merged: Iterator[tuple[float, Any]] = self._stamped(first, frames, total_s)
            if tracks:
                own_hz = tracks[0].codec_context.sample_rate
                rate_hz = next((rate for rate in _AAC_RATES_HZ if rate >= own_hz), _AAC_RATES_HZ[-1])
                layout = "mono" if tracks[0].codec_context.channels == 1 else "stereo"
                sound = out.add_stream("aac", rate=rate_hz, layout=layout)
                sound.options = {"aac_coder": "fast"}
                cursor = SoundCursor(self._sounds, tracks[0], rate_hz, layout)
                heard = _sound_blocks(cursor, spans, rate_hz, 1 if layout == "mono" else 2)
                merged = heapq.merge(merged, _audio_frames(heard, rate_hz, layout), key=lambda item: item[0])
            _mark_chapters(out, spans, titles)
            told_s = -1
            for time_s, frame in merged:
                stream = picture if isinstance(frame, av.VideoFrame) else sound
                out.mux(stream.encode(frame))
                if told_s < int(time_s) <= total_s:
                    told_s = int(time_s)
                    progress(told_s, math.ceil(total_s), "writing the reel (seconds)")
            for stream in [picture, sound] if tracks else [picture]:
                out.mux(stream.encode(None))
        return Reel(path, total_s, self._num_frames, bool(tracks))

    def _picture_track(self, out: OutputContainer, first: VideoFrame) -> Any:
        rate = self._pictures.stream.average_rate or Fraction(25)
        track = out.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        stored = fit((max(1, round(first.width * self._aspect)), first.height), self._max_px)
        shown = frame_orientation(first).size(*stored)
        track.width, track.height = (max(2, side // 2 * 2) for side in shown)
        track.pix_fmt = "yuv420p"
        track.options = {"preset": "veryfast", "crf": "21"}
        track.codec_context.time_base = track.time_base = Fraction(1, _CLOCK_HZ)
        self._size = (track.width, track.height)
        return track

    def _stamped(
        self,
        first: tuple[float, VideoFrame, bool],
        rest: Iterator[tuple[float, VideoFrame, bool]],
        total_s: float,
    ) -> Iterator[tuple[float, VideoFrame]]:
        """Frames for the encoder; the last is repeated where the track would end too soon."""
        last = first
        yield from self._one(*first)
        for last in rest:
            yield from self._one(*last)
        end_s = total_s - self._pictures.frame_s
        if end_s - self._last_stamp / _CLOCK_HZ > self._pictures.frame_s / 2:
            yield from self._one(end_s, last[1], False)

    def _one(self, time_s: float, frame: VideoFrame, is_first: bool) -> Iterator[tuple[float, VideoFrame]]:
        from av.video.frame import PictureType

        stamp = round(time_s * _CLOCK_HZ)
        if stamp <= self._last_stamp:
            return
        ready = self._converted(frame)
        ready.pts, ready.time_base = stamp, Fraction(1, _CLOCK_HZ)
        ready.pict_type = PictureType.I if is_first else PictureType.NONE
        self._last_stamp, self._num_frames = stamp, self._num_frames + 1
        yield time_s, ready

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        import av

        width, height = self._size
        if frame_orientation(frame) == UPRIGHT:
            return frame.reformat(width, height, "yuv420p", interpolation="AREA")
        upright = np.ascontiguousarray(self._painter(frame))
        return av.VideoFrame.from_ndarray(upright).reformat(width, height, "yuv420p")


def _shown(movie: Movie, spans: Sequence[Span]) -> Iterator[tuple[float, VideoFrame, bool]]:
    """Yield the time in the reel, the frame, and whether it begins a span."""
    cursor, offset_s = FrameCursor(movie), 0.0
    for start_s, end_s in spans:
        cursor.go_to(start_s)
        is_first = cursor.picture is None
        if cursor.picture is not None:
            yield offset_s, cursor.picture, True
        for time_s, picture in cursor.until(end_s - 1e-6):
            yield offset_s if is_first else offset_s + time_s - start_s, picture, is_first
            is_first = False
        offset_s += end_s - start_s


def _sound_blocks(
    cursor: SoundCursor, spans: Sequence[Span], rate_hz: int, channels: int
) -> Iterator[np.ndarray]:
    """Yield the sound of the spans in blocks (C, T); their total length is exact to the sample."""
    done, offset_s = 0, 0.0
    for start_s, end_s in spans:
        offset_s += end_s - start_s
        length = round(offset_s * rate_hz) - done
        at = 0
        for time_s, block in cursor.between(start_s, end_s):
            place = round((time_s - start_s) * rate_hz)
            yield from _silence(channels, min(place, length) - at, rate_hz)
            at = max(at, min(place, length))
            part = block[:, max(0, at - place) : max(0, length - place)]
            yield part * _edges(at, part.shape[1], length, rate_hz)
            at += part.shape[1]
        yield from _silence(channels, length - at, rate_hz)
        done += length


def _silence(channels: int, length: int, rate_hz: int) -> Iterator[np.ndarray]:
    for start in range(0, max(length, 0), rate_hz):
        yield np.zeros((channels, min(rate_hz, length - start)), np.float32)


def _edges(at: int, count: int, length: int, rate_hz: int) -> Float32[np.ndarray, " T"]:
    """Fade gain of some samples of a span: 1, except in its first and last milliseconds."""
    places = np.arange(at, at + count)
    ramp = max(1.0, _EDGE_S * rate_hz)
    return np.clip(np.minimum(places + 1, length - places) / ramp, 0, 1).astype(np.float32)


def _audio_frames(
    blocks: Iterator[np.ndarray], rate_hz: int, layout: str
) -> Iterator[tuple[float, AudioFrame]]:
    """Frames of `_AAC_FRAME` samples for the encoder; the last may be shorter."""
    import av

    def made(samples: np.ndarray) -> tuple[float, AudioFrame]:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, done, Fraction(1, rate_hz)
        return done / rate_hz, frame

    done = 0
    pending: np.ndarray | None = None
    for block in blocks:
        pending = block if pending is None else np.concatenate([pending, block], axis=1)
        whole = pending.shape[1] // _AAC_FRAME * _AAC_FRAME
        for start in range(0, whole, _AAC_FRAME):
            yield made(pending[:, start : start + _AAC_FRAME])
            done += _AAC_FRAME
        pending = pending[:, whole:]
    if pending is not None and pending.shape[1]:
        yield made(pending)


def _mark_chapters(out: OutputContainer, spans: Sequence[Span], titles: Sequence[str]) -> None:
    start_s = 0.0
    marks: list[Any] = []
    for number, (title, (begin_s, end_s)) in enumerate(zip(titles, spans, strict=False)):
        stop_s = start_s + end_s - begin_s
        marks.append(
            {
                "id": number,
                "start": round(start_s * 1000),
                "end": round(stop_s * 1000),
                "time_base": Fraction(1, 1000),
                "metadata": {"title": title},
            }
        )
        start_s = stop_s
    if marks:
        out.set_chapters(marks)
