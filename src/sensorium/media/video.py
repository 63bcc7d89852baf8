"""Decodes videos with FFmpeg (PyAV): a few evenly spaced upright frames, with audio.

Packets are first listed without decoding. That gives frame times (also at variable rates), key frames, and
the true length of truncated files. Then only the selected frames are decoded, with seeking where it saves
work. Frames that do not decode are skipped; if none decodes, the file is refused. Times are on the file's
timeline (`clock`).
"""

from __future__ import annotations

import contextlib
import heapq
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import LimitError, MediaError
from sensorium.media import audio
from sensorium.media.audio_track import decoded_frames, packets_of
from sensorium.media.clock import Clock, is_stamped_in_decoding_order, start_of
from sensorium.media.container import (
    duration_of,
    late_s,
    opened_container,
    picture_stream,
    sound_stream,
    whole_duration_of,
)
from sensorium.media.container_header import movie_orientation
from sensorium.media.limits import Limits
from sensorium.media.orientation import UPRIGHT, Orientation, from_matrix
from sensorium.media.source import Source
from sensorium.media.types import Audio, Header, Video

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# An audio track that exceeds the budget is mixed to mono at the rate of speech models.
_SPEECH_RATE_HZ = 16_000
# A greater pixel aspect ratio is an error or an attack, not anamorphic video.
_MAX_PIXEL_ASPECT = 4
_USUAL_RATE_HZ = 25
# Containers with an index of key frames; elsewhere a seek lands a little before or after.
_EXACT_SEEK = ("mov", "matroska", "avi", "flv")
_MARGIN = 2


@dataclass(frozen=True)
class Movie:
    """An open video file.

    Attributes:
        container: At its start.
        stream: Its video stream.
        source: Its bytes.
        format_name: Name of FFmpeg's demuxer.
        limits: Bounds.
        can_seek: Whether seeking by timestamp works; False if timestamps restart midway.
    """

    container: InputContainer
    stream: VideoStream
    source: Source
    format_name: str
    limits: Limits
    can_seek: bool = True

    @property
    def frame_s(self) -> float:
        """Nominal duration of a frame in seconds."""
        return 1 / float(self.stream.average_rate or _USUAL_RATE_HZ)

    @property
    def aspect(self) -> float:
        """Pixel aspect ratio, width by height; 1 if unknown or implausible."""
        aspect = float(self.stream.sample_aspect_ratio or 1)
        return aspect if 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else 1.0


def movie_of(container: InputContainer, source: Source, format_name: str, limits: Limits) -> Movie | None:
    """The first video stream of an open container, checked by its header; None if it has none."""
    stream = picture_stream(container)
    if stream is None:
        return None
    width, height = stream.codec_context.width, stream.codec_context.height
    if width < 1 or height < 1:
        raise MediaError(f"{source.name}: video of {width}x{height}, no pixels")
    limits.check("pixels", width * height, f"{source.name}: video of {width}x{height}")
    if audio.has_true_length(source, format_name, container):
        limits.check("frames", stream.frames, source.name)
        limits.check("seconds", duration_of(container, stream) or 0.0, source.name)
    stream.codec_context.thread_count = 1
    return Movie(container, stream, source, format_name, limits)


def read_header(source: Source, format_name: str, limits: Limits) -> Header:
    """Read a container's header; without a moving picture it is audio.

    Width and height are as shown: with square pixels, turned as the file says.
    """
    with opened_container(source, format_name, limits) as container:
        movie = movie_of(container, source, format_name, limits)
        if movie is None:
            return audio.container_header(source, format_name, container, limits, is_counted=True)
        track = sound_stream(container)
        duration_s, num_frames = _length(movie)
        limits.check("seconds", duration_s or 0.0, source.name)
        sound = track.codec_context if track is not None else None
        width, height = movie.stream.codec_context.width, movie.stream.codec_context.height
        width = max(1, round(width * movie.aspect))
        if format_name == "mp4":
            width, height = movie_orientation(source.file, source.num_bytes).size(width, height)
        return Header(
            "video",
            format_name,
            source.num_bytes,
            width,
            height,
            num_frames=num_frames or None,
            duration_s=duration_s,
            sample_rate_hz=sound.sample_rate if sound else None,
            num_channels=sound.channels if sound else None,
        )


def _length(movie: Movie) -> tuple[float | None, int]:
    """Seconds to the file's last timestamp, and number of frames, estimated by their rate if need be."""
    container, stream = movie.container, movie.stream
    duration_s = whole_duration_of(container)
    if not duration_s or not audio.has_true_length(movie.source, movie.format_name, container):
        track = sound_stream(container)
        return audio.counted(container, [stream] if track is None else [stream, track])
    shown_s = max(0.0, duration_s - late_s(container, stream))
    return duration_s, stream.frames or round(shown_s * float(stream.average_rate or 0))


def decode(source: Source, format_name: str, limits: Limits, target_px: int | None = None) -> Video | Audio:
    """Decode at most `limits.video_frames` frames; a container without a moving picture gives its sound.

    `target_px` is the maximum of the short side; frames are never enlarged. MediaError if no frame decodes.
    """
    with opened_container(source, format_name, limits) as container:
        listed = movie_of(container, source, format_name, limits)
        if listed is not None:
            packets = list_packets(listed)
            has_sound = sound_stream(container) is not None
    if listed is None:
        return audio.decode(source, format_name, "container", limits)
    with opened_container(source, format_name, limits) as container:
        movie = movie_of(container, source, format_name, limits)
        assert movie is not None, "the container was just listed"
        frames, times_s = _decode_frames(movie, packets, target_px)
    sound = _decode_sound(source, format_name, limits, frames.nbytes) if has_sound else None
    return Video(frames, times_s, sound, source.uri)


def spread(starts_s: np.ndarray, duration_s: float, count: int) -> np.ndarray:
    """Select frames evenly: all if there are at most `count`, else those at the middle of equal time spans.

    Args:
        starts_s: Start time of each frame, (n,), ascending.
        duration_s: End time of the last frame.
        count: Maximum number of frames.

    Returns:
        Ascending frame indices, at least one, at most `count`.

    Example:
        >>> spread(np.arange(10.0), 10.0, 5).tolist()
        [1, 3, 5, 7, 9]
    """
    if len(starts_s) <= count:
        return np.arange(len(starts_s))
    middles = (np.arange(count) + 0.5) * (duration_s - starts_s[0]) / count + starts_s[0]
    return np.unique(np.searchsorted(starts_s, middles, side="right") - 1)


def fit(size: tuple[int, int], target_px: int | None) -> tuple[int, int]:
    """Scale a size so that its short side is at most `target_px`, keeping the aspect ratio.

    Example:
        >>> fit((1920, 1080), 224)
        (398, 224)
    """
    short = min(size)
    if target_px is None or short <= target_px:
        return size
    return max(1, round(size[0] * target_px / short)), max(1, round(size[1] * target_px / short))


@dataclass(frozen=True)
class Packets:
    """When each frame is shown, from the packets' timestamps.

    Attributes:
        stamps: Timestamps in `time_base` in order of presentation; empty where frames cannot be found by
            them, because some have none, or they restart midway.
        keys: Those of packets at which decoding may start, ascending.
        times_s: When each frame is shown, on the file's timeline, ascending.
        count: Packets in the stream.
        end: Timestamp at which the last frame ends.
        end_s: The same on the file's timeline.
    """

    stamps: np.ndarray
    keys: list[int]
    times_s: np.ndarray
    count: int
    end: int
    end_s: float


def list_packets(movie: Movie) -> Packets:
    """Read all packets of a video at its start, decoding none; MediaError if there is none."""
    listing = _Listing(movie)
    for packet in packets_of(movie.container, movie.stream):
        if packet.size:
            listing.add(packet)
            movie.limits.check("frames", listing.count, movie.source.name)
    if listing.count == 0:
        raise MediaError(f"{movie.source.name}: video without a single frame")
    packets = listing.packets()
    movie.limits.check("seconds", packets.end_s - float(packets.times_s[0]), movie.source.name)
    return packets


class _Listing:
    """Packets of a stream as they are read."""

    def __init__(self, movie: Movie) -> None:
        self._step_s, self._start_s = float(movie.stream.time_base or 0), start_of(movie.container)
        self._frame_s = movie.frame_s
        self._decodes_in_order = is_stamped_in_decoding_order(movie.container)
        self._clock = Clock(movie.container)
        self._stamps: list[int] = []
        self._times_s: list[float] = []
        self._keys: list[int] = []
        self._end, self._end_s = 0, 0.0
        self.count = 0

    def add(self, packet: Packet[Any]) -> None:
        self.count += 1
        stamp = packet.dts if self._decodes_in_order else packet.pts
        if stamp is None:
            return
        duration = packet.duration or 0
        order = stamp if packet.dts is None else packet.dts
        began_s = self._clock(order * self._step_s, duration * self._step_s)
        self._stamps.append(stamp)
        self._times_s.append(began_s + (stamp - order) * self._step_s)
        self._end = max(self._end, stamp + duration)
        self._end_s = max(self._end_s, self._times_s[-1] + duration * self._step_s)
        if packet.is_keyframe:
            self._keys.append(stamp)

    def packets(self) -> Packets:
        none = np.empty(0, np.int64)
        if len(self._stamps) < self.count:
            times_s = np.arange(self.count) * self._frame_s
            return Packets(none, [], times_s, self.count, 0, self.count * self._frame_s)
        if self._clock.is_broken:
            times_s = np.unique(np.maximum(self._times_s, 0.0))
            return Packets(none, [], times_s, self.count, 0, self._end_s)
        unique = np.unique(np.array(self._stamps, np.int64))
        end = max(self._end, int(unique[-1]) + 1)
        times_s = np.maximum(unique * self._step_s - self._start_s, 0.0)
        is_later = np.diff(times_s, prepend=-1.0) > 0
        unique, times_s = unique[is_later], times_s[is_later]
        end_s = end * self._step_s - self._start_s
        return Packets(unique, sorted(self._keys), times_s, self.count, end, end_s)


def _decode_frames(movie: Movie, packets: Packets, target_px: int | None) -> tuple[np.ndarray, np.ndarray]:
    limits, name = movie.limits, movie.source.name
    if len(packets.stamps):
        numbers = spread(packets.stamps.astype(np.float64), float(packets.end), limits.video_frames)
    else:
        numbers = spread(packets.times_s, packets.end_s, limits.video_frames)
    frames: np.ndarray | None = None
    times_s: list[float] = []
    for time_s, frame in chosen_frames(movie, packets, numbers):
        if frames is None:
            orientation, size = frame_orientation(frame), shown_size(frame, movie.aspect, target_px)
            width, height = orientation.size(*size)
            advice = name if target_px is not None else f"{name} (give target_px for smaller frames)"
            limits.check("decoded_bytes", len(numbers) * width * height * 3, advice)
            frames = np.empty((len(numbers), height, width, 3), np.uint8)
        limits.check("pixels", frame.width * frame.height, name)
        rgb = frame.reformat(*size, "rgb24", interpolation="AREA").to_ndarray()
        frames[len(times_s)] = orientation.apply(rgb)
        times_s.append(time_s)
        if len(times_s) == len(frames):
            break
    if frames is None:
        raise MediaError(f"{name}: not one frame could be decoded")
    return frames[: len(times_s)], np.array(times_s)


def chosen_frames(movie: Movie, packets: Packets, numbers: np.ndarray) -> Iterator[tuple[float, VideoFrame]]:
    """Frames by ascending number, or the next that decode, and when each is shown."""
    if len(packets.stamps):
        step_s, start_s = float(movie.stream.time_base or 0), start_of(movie.container)
        last_s = -1.0
        for stamp, frame in _shown_at(movie, packets.stamps[numbers].tolist(), packets.keys):
            time_s = max(0.0, stamp * step_s - start_s)
            if time_s > last_s:
                last_s = time_s
                yield time_s, frame
        return
    wanted = set(numbers.tolist())
    for number, (time_s, _, frame) in enumerate(timed_frames(movie)):
        if number in wanted:
            yield time_s, frame


def _shown_at(movie: Movie, wanted: list[int], keys: list[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Frames shown at the wanted stamps, or the next that decodes; seeks when key frames lie in between."""
    import av

    container, stream = movie.container, movie.stream
    # Key frames to go back further, where seeking is not exact.
    margin = 0 if container.format.name.split(",")[0] in _EXACT_SEEK else _MARGIN
    if is_stamped_in_decoding_order(container) and stream.codec_context.reorder_depth:
        margin = 1  # frames shown before a key frame may be stored after it
    at, position = 0, keys[0] if keys else wanted[0]
    while at < len(wanted):
        goal = bisect_right(keys, wanted[at]) - 1 - margin
        if goal > bisect_right(keys, position):
            with contextlib.suppress(av.error.FFmpegError):  # no index: go on in order
                container.seek(keys[goal], stream=stream)
        for stamp, frame in stamped_frames(movie):
            if stamp is None or stamp < wanted[at] or frame.is_corrupt:
                continue
            yield stamp, frame
            position = stamp
            at = max(at + 1, bisect_right(wanted, position))
            if at == len(wanted) or bisect_right(keys, wanted[at]) - 1 - margin > bisect_right(
                keys, position
            ):
                break
        else:
            return


def timed_frames(movie: Movie, *, is_sought: bool = False) -> Iterator[tuple[float, float, VideoFrame]]:
    """Each frame that decodes, when it begins and how long it is shown; stamps that go back are left out.

    `is_sought` tells that the container is not at its start.
    """
    clock, last_s = Clock(movie.container, is_sought=is_sought), -1.0
    step_s = float(movie.stream.time_base or 0)
    for stamp, frame in stamped_frames(movie):
        duration_s = float((frame.duration or 0) * (frame.time_base or 0)) or movie.frame_s
        time_s = max(0.0, clock(None if stamp is None else stamp * step_s, duration_s))
        if frame.is_corrupt or time_s <= last_s:
            continue
        last_s = time_s
        yield time_s, duration_s, frame


def stamped_frames(movie: Movie) -> Iterator[tuple[int | None, VideoFrame]]:
    """Yield each frame that decodes in presentation order, with its timestamp in `time_base` or None.

    If packets have decoding timestamps only, frames take these in order. A decoder delays at most as many
    frames as it reorders. Timestamps of packets that wait longer are dropped, because these packets gave no
    frame.
    """
    container, stream = movie.container, movie.stream
    if not is_stamped_in_decoding_order(container):
        for frame in decoded_frames(container, stream):
            yield frame.pts, frame
        return
    waiting: list[int] = []

    def wait(packet: Packet[Any]) -> None:
        if packet.size and packet.dts is not None:
            heapq.heappush(waiting, packet.dts)

    for frame in decoded_frames(container, stream, wait):
        while len(waiting) > 1 + stream.codec_context.reorder_depth:
            heapq.heappop(waiting)
        yield heapq.heappop(waiting) if waiting else None, frame


def frame_orientation(frame: VideoFrame) -> Orientation:
    """Orientation that the file declares for a frame."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if matrix is None else from_matrix(bytes(matrix))  # type: ignore[call-overload]


def shown_size(frame: VideoFrame, aspect: float, target_px: int | None) -> tuple[int, int]:
    """Output width and height before rotation, with square pixels."""
    return fit((max(1, round(frame.width * aspect)), frame.height), target_px)


def _decode_sound(source: Source, format_name: str, limits: Limits, taken_bytes: int) -> Audio | None:
    """The sound at its own rate if it fits beside the frames, else mixed down; None if none of it decodes."""
    with opened_container(source, format_name, limits) as container:
        try:
            header = audio.container_header(source, format_name, container, limits)
            rate_hz, channels = header.sample_rate_hz or 0, header.num_channels or 0
            budget = limits.decoded_bytes - taken_bytes
            if (header.duration_s or 0.0) * rate_hz * channels * 4 > budget:
                rate_hz, channels = min(rate_hz, _SPEECH_RATE_HZ), 1
            return audio.decode_stream(container, source, (rate_hz, channels), budget, limits)
        except LimitError:
            raise
        except MediaError:
            return None
