"""Decodes the audio track of a container to blocks of one sample rate and layout, on the file's timeline.

Input: an open container. Output: contiguous float32 blocks. Packets that do not decode are skipped; a
truncated file ends early. If rate or channels change midway, later blocks are converted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32

from sensorium.media.clock import Clock, is_joinable
from sensorium.media.container import picture_stream, whole_duration_of

if TYPE_CHECKING:
    from av import AudioResampler
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

# A smaller late start is encoder delay; a smaller gap is rounding of timestamps.
_LATE_S, _HOLE_S = 0.03, 0.1
# After a rate change FFmpeg's timestamps run ahead within a packet of several frames.
_CHANGED_HOLE_S = 0.5
# A longer gap must end within the declared length, or within an hour; else the timestamp is damaged.
_FAR_S, _LATEST_S = 60.0, 3600.0
# Formats without presentation timestamps: FFmpeg counts samples.
_UNSTAMPED = frozenset({"mp3", "aac", "flac", "wav", "w64", "aiff", "au", "caf", "amr", "tta", "wv", "ogg"})


def decoded_frames(
    container: InputContainer, stream: Stream, fed: Callable[[Packet[Any]], None] | None = None
) -> Iterator[Any]:
    """Yield every frame of `stream` that decodes; `fed` is called with each packet before decoding."""
    import av

    for packet in packets_of(container, stream):
        if fed is not None:
            fed(packet)
        try:
            yield from packet.decode()
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:  # damaged, or a feature FFmpeg lacks: the next packet may do
            continue


def packets_of(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """Yield every packet of some streams, up to the point where a truncated file ends."""
    import av

    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets, None)
        except IndexError:  # of a track that begins midway, which PyAV does not know
            packets = container.demux(*streams)
            continue
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        yield packet


class AudioConverter:
    """Resamples decoded frames to one rate and channel layout; restarts if the stream changes format.

    Args:
        rate_hz: Output sample rate.
        layout: FFmpeg's name of the output channel layout.
        keeps_level: Mono is copied to several channels, or several are averaged, at the same level; else
            FFmpeg's mix, which preserves power.

    Attributes:
        has_changed: Whether rate, layout or format of the frames have changed.
    """

    def __init__(self, rate_hz: int, layout: str, *, keeps_level: bool = False) -> None:
        self._rate_hz, self._layout, self._keeps_level = rate_hz, layout, keeps_level
        self._channels = channels_of(layout)
        self.has_changed = False
        self._resampler: AudioResampler | None = None
        self._kind: tuple[object, ...] = ()

    def __call__(self, frame: AudioFrame) -> Iterator[Float32[np.ndarray, "T C"]]:
        """Convert the next frame; the resampler may delay some samples."""
        import av

        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind or self._resampler is None:
            yield from self.rest()
            is_mixed = self._keeps_level and 1 in (self._channels, frame.layout.nb_channels)
            layout = frame.layout.name if is_mixed else self._layout
            self._resampler = av.AudioResampler(format="flt", layout=layout, rate=self._rate_hz)
            self.has_changed |= bool(self._kind) and kind != self._kind
            self._kind = kind
        assert self._resampler is not None, "made with the first frame"
        yield from self._blocks(self._resampler.resample(frame))

    def rest(self) -> Iterator[Float32[np.ndarray, "T C"]]:
        """Return the delayed samples."""
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            yield from self._blocks(resampler.resample(None))

    def _blocks(self, frames: list[AudioFrame]) -> Iterator[Float32[np.ndarray, "T C"]]:
        for frame in frames:
            block = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
            if block.shape[1] == self._channels:
                yield block
            elif self._channels == 1:
                yield block.mean(axis=1, keepdims=True, dtype=np.float32)
            else:
                yield np.repeat(block, self._channels, axis=1)


def timed_blocks(
    container: InputContainer, track: AudioStream, rate_hz: int, layout: str, *, keeps_level: bool = False
) -> Iterator[tuple[float, Float32[np.ndarray, "T C"]]]:
    """Yield contiguous blocks from time 0 on, with their start times on the file's timeline.

    Silence fills a late start and gaps. `rate_hz`, `layout` and `keeps_level` are those of `AudioConverter`.
    """
    track.codec_context.thread_count = 1
    clock, convert, count = Clock(container), AudioConverter(rate_hz, layout, keeps_level=keeps_level), 0
    known_s = None if is_joinable(container) else whole_duration_of(container)
    latest_s = known_s or _LATEST_S
    has_stamps = container.format.name not in _UNSTAMPED or picture_stream(container) is not None
    for frame in decoded_frames(container, track):
        if has_stamps:
            time_s = clock(frame.time, frame.samples / max(frame.sample_rate, 1))
            hole_s = time_s - count / rate_hz
            smallest_s = _LATE_S if count == 0 else _CHANGED_HOLE_S if convert.has_changed else _HOLE_S
            is_far = hole_s > _FAR_S and time_s > latest_s
            if smallest_s < hole_s and not is_far:
                silence = _silence(round(hole_s * rate_hz), rate_hz, layout)
                for block in itertools.chain(convert.rest(), silence):
                    yield count / rate_hz, block
                    count += len(block)
        for block in convert(frame):
            yield count / rate_hz, block
            count += len(block)
    for block in convert.rest():
        yield count / rate_hz, block
        count += len(block)


def frame_of(samples: Float[np.ndarray, "T C"], rate_hz: int) -> AudioFrame:
    """Wrap samples in a frame for `AudioConverter`; unknown channel layouts are averaged to mono."""
    import av

    channels = samples.shape[1]
    try:
        layout = layout_of(channels)
    except ValueError:
        samples, layout = samples.mean(axis=1, keepdims=True, dtype=samples.dtype), "mono"
    format_ = "dbl" if samples.dtype == np.float64 else "flt"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), format_, layout)
    frame.sample_rate = rate_hz
    return frame


def layout_of(channels: int) -> str:
    """FFmpeg's name of its usual layout of so many channels; ValueError if it has none."""
    import av

    av.AudioLayout(f"{channels}c")  # raises where there is none
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def channels_of(layout: str) -> int:
    """How many channels a layout has."""
    import av

    return av.AudioLayout(layout).nb_channels


def _silence(length: int, rate_hz: int, layout: str) -> Iterator[Float32[np.ndarray, "T C"]]:
    channels = channels_of(layout)
    for start in range(0, length, rate_hz):
        yield np.zeros((min(rate_hz, length - start), channels), np.float32)
