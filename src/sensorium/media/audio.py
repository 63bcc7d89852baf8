"""Decodes audio files: libsndfile (soundfile) for WAV, AIFF, FLAC and Ogg, FFmpeg (PyAV) for other formats.

Input: an open file and its format. Output: `Audio`, float32 (T, C), full scale -1 to 1, or its header. A
truncated file gives the samples that decode. The links of a chained Ogg are decoded separately and joined. If
the declared length is missing or wrong (`declared_length`), samples are counted. Sample rate and channels are
those of the start; later changes are resampled. FFmpeg decodes MP3, because libsndfile's decoder prints to
the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import LimitError, MediaError
from sensorium.media.audio_track import AudioConverter, frame_of, layout_of, packets_of, timed_blocks
from sensorium.media.clock import Clock, is_joinable, is_stamped_in_decoding_order
from sensorium.media.container import duration_of, opened_container, sound_stream
from sensorium.media.container_header import links
from sensorium.media.declared_length import has_correct_length
from sensorium.media.limits import Limits
from sensorium.media.sndfile import UnreadableError, check_sound, opened_sndfile, samples_of
from sensorium.media.source import Source
from sensorium.media.types import Audio, Header

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

T = TypeVar("T")

# Samples beyond the 32-bit integer range are invalid, and their squares overflow.
_LOUDEST = float(1 << 31)
_ADTS_RATES_HZ = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
)  # fmt: skip
# A concatenated transport stream declares the length of its last part; up to this size it is read fully.
_COUNTED_BYTES = 256 << 20


def read_header(source: Source, format_name: str, reader: str, limits: Limits) -> Header:
    """Read sample rate, channels and length, by `reader`: `soundfile` or `container`."""
    headers = _of_links(source, format_name, lambda link: _link_header(link, format_name, reader, limits))
    if len(headers) == 1:
        return headers[0]
    known = [header.duration_s for header in headers if header.duration_s is not None]
    duration_s = sum(known) if len(known) == len(headers) else None
    limits.check("seconds", duration_s or 0.0, source.name)
    first = headers[0]
    return replace(first, num_bytes=source.num_bytes, duration_s=duration_s)


def decode(source: Source, format_name: str, reader: str, limits: Limits) -> Audio:
    """Decode an audio file; MediaError if it is empty or has samples that are not finite."""
    taken_bytes = 0

    def read(link: Source) -> Audio:
        nonlocal taken_bytes
        sound = _decode_link(link, format_name, reader, limits)
        taken_bytes += sound.samples.nbytes
        limits.check("decoded_bytes", taken_bytes, source.name)
        return sound

    sounds = _of_links(source, format_name, read)
    if len(sounds) == 1:
        return sounds[0]
    limits.check("seconds", sum(sound.duration_s for sound in sounds), source.name)
    rate_hz, channels = sounds[0].sample_rate_hz, sounds[0].samples.shape[1]
    samples = np.concatenate([_like(sound, rate_hz, channels) for sound in sounds])
    limits.check("decoded_bytes", samples.nbytes, source.name)
    return Audio(samples, rate_hz, source.uri)


def container_header(
    source: Source, format_name: str, container: InputContainer, limits: Limits, *, is_counted: bool = False
) -> Header:
    """Header of the first audio track of a container at its start.

    `is_counted` reads all packets to find the length where the declared one is unreliable.
    """
    if not container.streams.audio:
        raise MediaError(f"{source.name}: {format_name} without sound or moving picture")
    track = sound_stream(container)
    if track is None:
        raise MediaError(f"{source.name}: no decoder for its sound")
    duration_s = None
    if has_true_length(source, format_name, container):
        duration_s = duration_of(container, track) or None
    if is_counted and duration_s is None:
        duration_s, _ = counted(container, [track])
    rate_hz, channels = track.codec_context.sample_rate, track.codec_context.channels
    check_sound(source.name, rate_hz, channels, duration_s or 0.0, limits)
    return _header(source, format_name, duration_s, rate_hz, channels)


def _header(
    source: Source, format_name: str, duration_s: float | None, rate_hz: int, channels: int
) -> Header:
    rates = {"sample_rate_hz": rate_hz, "num_channels": channels}
    return Header("audio", format_name, source.num_bytes, duration_s=duration_s, **rates)


def has_true_length(source: Source, format_name: str, container: InputContainer) -> bool:
    """Whether the declared length is reliable."""
    is_joined = is_joinable(container) and source.num_bytes <= _COUNTED_BYTES
    return not is_joined and has_correct_length(source, format_name)


def counted(container: InputContainer, tracks: Sequence[Stream]) -> tuple[float | None, int]:
    """Read all packets of a container at its start, without decoding.

    Returns:
        Seconds from the file's first timestamp to the end of the last packet; packets of the first track.
    """
    import av

    clocks = {track.index: Clock(container) for track in tracks}
    ends_s = dict.fromkeys(clocks, 0.0)
    decodes_in_order, num_packets, last, before_s = is_stamped_in_decoding_order(container), 0, None, 0.0
    for packet in packets_of(container, *tracks):
        if packet.size and not packet.is_discard:
            place, step_s = packet.stream_index, float(packet.time_base or 0)
            stamp = packet.dts if packet.pts is None or decodes_in_order else packet.pts
            if container.format.name == "aac":  # FFmpeg's timestamps assume a constant rate
                stamp = None
            duration_s = _adts_s(packet) or (packet.duration or 0) * step_s
            time_s = clocks[place](None if stamp is None else stamp * step_s, duration_s)
            last, before_s, ends_s[place] = packet, ends_s[place], max(ends_s[place], time_s + duration_s)
            num_packets += place == tracks[0].index
    end_s = max(ends_s.values())
    if last is not None and last.stream.codec_context.name == "flac" and len(tracks) == 1:
        try:  # a frame that is cut gives nothing
            last.decode()
        except av.error.FFmpegError:
            end_s = before_s
    return end_s or None, num_packets


def _adts_s(packet: Packet[Stream]) -> float | None:
    """Duration in seconds of an AAC frame with ADTS header (ISO 14496-3 §1.A.2); None for another packet."""
    codec = packet.stream.codec_context
    if codec is None or codec.name != "aac" or packet.size < 7:
        return None
    header = bytes(memoryview(packet)[:7])
    rate = header[2] >> 2 & 15
    if header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or rate >= len(_ADTS_RATES_HZ):
        return None
    return 1024 * (1 + (header[6] & 3)) / _ADTS_RATES_HZ[rate]


def decode_stream(
    container: InputContainer, source: Source, shape: tuple[int, int], budget_bytes: int, limits: Limits
) -> Audio:
    """Decode the first audio track of a container at its start, from the file's first timestamp on.

    Args:
        container: Open.
        source: The file.
        shape: Output sample rate in Hz and channels; 1 channel mixes down.
        budget_bytes: Maximum size of the samples.
        limits: Named in the message if the budget is exceeded.
    """
    rate_hz, channels = shape
    parts: list[np.ndarray] = []
    total, track = 0, sound_stream(container)
    if track is None:
        raise MediaError(f"{source.name}: no decoder for its sound")
    is_own = channels == track.codec_context.channels
    layout = track.codec_context.layout.name if is_own else "mono"
    for time_s, block in timed_blocks(container, track, rate_hz, layout, keeps_level=is_own):
        parts.append(block)
        total += block.nbytes
        if total > budget_bytes:
            limits.check("decoded_bytes", limits.decoded_bytes + total - budget_bytes, source.name)
        limits.check("seconds", time_s, source.name)
    return _finished(np.concatenate(parts) if parts else np.empty((0, channels), np.float32), rate_hz, source)


def _of_links(source: Source, format_name: str, read: Callable[[Source], T]) -> list[T]:
    """Apply `read` to each readable link of a chained Ogg; for other formats, to the file."""
    if format_name != "ogg":
        return [read(source)]
    found: list[T] = []
    failure: MediaError | None = None
    for link in links(source):
        try:
            found.append(read(link))
        except LimitError:
            raise
        except MediaError as error:
            failure = failure or error
    if not found:
        raise failure or MediaError(f"{source.name}: no sound in it")
    return found


def _link_header(source: Source, format_name: str, reader: str, limits: Limits) -> Header:
    if reader == "soundfile":
        try:
            with opened_sndfile(source, format_name) as sound:
                duration_s = sound.frames / max(1, sound.samplerate)
                check_sound(source.name, sound.samplerate, sound.channels, duration_s, limits)
                return _header(source, format_name, duration_s, sound.samplerate, sound.channels)
        except UnreadableError:
            pass
    with opened_container(source, format_name, limits) as container:
        return container_header(source, format_name, container, limits, is_counted=True)


def _decode_link(source: Source, format_name: str, reader: str, limits: Limits) -> Audio:
    shape = None
    if reader == "soundfile":
        try:
            with opened_sndfile(source, format_name) as sound:
                duration_s = sound.frames / max(1, sound.samplerate)
                check_sound(source.name, sound.samplerate, sound.channels, duration_s, limits)
                shape = sound.samplerate, sound.channels
                limits.check("decoded_bytes", sound.frames * sound.channels * 4, source.name)
                return _finished(samples_of(sound), sound.samplerate, source)
        except UnreadableError:
            pass
    with opened_container(source, format_name, limits) as container:
        header = container_header(source, format_name, container, limits)
        own = header.sample_rate_hz or 0, header.num_channels or 0
        return decode_stream(container, source, shape or own, limits.decoded_bytes, limits)


def _like(sound: Audio, rate_hz: int, channels: int) -> Float32[np.ndarray, "T C"]:
    """Resample to another rate and channel count."""
    if (sound.sample_rate_hz, sound.samples.shape[1]) == (rate_hz, channels):
        return sound.samples
    convert = AudioConverter(rate_hz, layout_of(channels), keeps_level=True)
    parts = [*convert(frame_of(sound.samples, sound.sample_rate_hz)), *convert.rest()]
    return np.concatenate(parts) if parts else np.empty((0, channels), np.float32)


def _finished(samples: np.ndarray, rate_hz: int, source: Source) -> Audio:
    if len(samples) == 0:
        raise MediaError(f"{source.name}: no samples could be decoded")
    # One pass without a copy: NaN and infinity spread into both extremes.
    low, high = float(samples.min()), float(samples.max())
    if not (np.isfinite(low) and np.isfinite(high) and -_LOUDEST <= low and high <= _LOUDEST):
        raise MediaError(f"{source.name}: samples that are not finite numbers in range ({low:g} to {high:g})")
    return Audio(samples, rate_hz, source.uri)
