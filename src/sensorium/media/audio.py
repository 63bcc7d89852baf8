"""Sounds: libsndfile (soundfile) for WAV, AIFF, FLAC, Ogg and relatives, FFmpeg (PyAV) for the rest.

In: an open file and its format. Out: `Audio`, float32 (T, C), full scale -1 to 1. A file that ends early
gives what decodes. MP3 goes to FFmpeg because libsndfile's decoder prints to the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import MediaError
from sensorium.media.container import duration_of, opened_container
from sensorium.media.limits import Limits
from sensorium.media.source import Source
from sensorium.media.types import Audio, Header

if TYPE_CHECKING:
    import av.audio.stream
    import av.container
    import av.stream
    import soundfile

_BLOCK_FRAMES = 1 << 16
# Beyond the range of 32-bit integers there is no meaning as sound, and squares overflow.
_LOUDEST = float(1 << 31)
# FFmpeg's demuxer for each format of libsndfile's, for files that only FFmpeg can read.
_DEMUXER = {
    "wav": "wav",
    "w64": "w64",
    "flac": "flac",
    "ogg": "ogg",
    "aiff": "aiff",
    "au": "au",
    "caf": "caf",
}


def read_header(source: Source, format_name: str, reader: str, limits: Limits) -> Header:
    """Read rate, channels and length.

    Args:
        source: The open file.
        format_name: From `sniff`.
        reader: `soundfile` or `container`.
        limits: Bounds.

    Raises:
        MediaError: If the header is damaged, or there is no sound in it.
        LimitError: If it is beyond `limits`.
    """
    if reader == "soundfile":
        try:
            return _sndfile_header(source, format_name, limits)
        except _Unreadable:
            format_name = _DEMUXER[format_name]
    with opened_container(source, format_name, limits) as container:
        return container_header(source, format_name, container, limits)


def decode(source: Source, format_name: str, reader: str, limits: Limits) -> Audio:
    """Decode a sound.

    Raises:
        MediaError: If it is damaged from the start, empty, or holds numbers that are not finite.
        LimitError: If it is beyond `limits`.
    """
    if reader == "soundfile":
        try:
            return _sndfile_decode(source, format_name, limits)
        except _Unreadable:
            format_name = _DEMUXER[format_name]
    with opened_container(source, format_name, limits) as container:
        header = container_header(source, format_name, container, limits)
        rate_hz, channels = header.sample_rate_hz or 0, header.num_channels or 0
        return decode_stream(container, source, (rate_hz, channels), limits.decoded_bytes, limits)


def container_header(
    source: Source, format_name: str, container: av.container.InputContainer, limits: Limits
) -> Header:
    """Header of a container's first sound track."""
    if not container.streams.audio:
        raise MediaError(f"{source.name}: {format_name} without sound or moving picture")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{source.name}: no decoder for its sound")
    duration_s = duration_of(container, stream)
    rate_hz, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    _check(source.name, rate_hz, channels, duration_s or 0.0, limits)
    return Header(
        "audio",
        format_name,
        source.num_bytes,
        duration_s=duration_s,
        sample_rate_hz=rate_hz,
        num_channels=channels,
    )


def decode_stream(
    container: av.container.InputContainer,
    source: Source,
    shape: tuple[int, int],
    budget_bytes: int,
    limits: Limits,
) -> Audio:
    """Decode a container's first sound track.

    Args:
        container: Open, at its start.
        source: Its file.
        shape: Sample rate in Hz and channels to give; 1 channel mixes down.
        budget_bytes: Most that the samples may take.
        limits: Named in the message if the budget is too small.

    Raises:
        MediaError: If not one sample decodes.
        LimitError: If there are more samples than fit.
    """
    rate_hz, channels = shape
    parts: list[np.ndarray] = []
    total = 0
    for block in _blocks(container, rate_hz, channels):
        parts.append(block)
        total += block.nbytes
        if total > budget_bytes:
            limits.check("decoded_bytes", limits.decoded_bytes + total - budget_bytes, source.name)
    return _finished(np.concatenate(parts) if parts else np.empty((0, channels), np.float32), rate_hz, source)


def _blocks(container: av.container.InputContainer, rate_hz: int, channels: int) -> Iterator[np.ndarray]:
    """Interleaved float32 blocks (T, C); damaged packets are stepped over."""
    import av

    stream = container.streams.audio[0]
    stream.codec_context.thread_count = 1
    layout = "mono" if channels == 1 else stream.codec_context.layout
    resampler = av.AudioResampler(format="flt", layout=layout, rate=rate_hz)
    for frame in decoded_frames(container, stream):
        for block in resampler.resample(frame):
            yield block.to_ndarray().reshape(-1, channels)
    for block in resampler.resample(None):
        yield block.to_ndarray().reshape(-1, channels)


def decoded_frames(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[Any]:
    """Every frame of `stream` that decodes, up to where the file breaks off."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:  # damaged, or a feature FFmpeg lacks: the next packet may do
            continue


class _Unreadable(Exception):
    """libsndfile does not know this content; FFmpeg may."""


def _with_sndfile(source: Source, use: Callable[[soundfile.SoundFile], Header | Audio]) -> Header | Audio:
    import soundfile

    source.file.seek(0)
    try:
        with soundfile.SoundFile(source.file) as sound:
            return use(sound)
    except MediaError:
        raise
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise _Unreadable from error


def _sndfile_header(source: Source, format_name: str, limits: Limits) -> Header:
    def read(sound: soundfile.SoundFile) -> Header:
        duration_s = _checked_duration(source, sound, limits)
        return Header(
            "audio",
            format_name,
            source.num_bytes,
            duration_s=duration_s,
            sample_rate_hz=sound.samplerate,
            num_channels=sound.channels,
        )

    return _with_sndfile(source, read)  # type: ignore[return-value]


def _sndfile_decode(source: Source, format_name: str, limits: Limits) -> Audio:
    def read(sound: soundfile.SoundFile) -> Audio:
        _checked_duration(source, sound, limits)
        limits.check("decoded_bytes", sound.frames * sound.channels * 4, source.name)
        # Untouched pages cost nothing, so a header that promises more than there is does no harm.
        samples = np.empty((sound.frames, sound.channels), np.float32)
        done = 0
        while done < len(samples):
            got = len(sound.read(out=samples[done : done + _BLOCK_FRAMES]))
            if got == 0:
                break
            done += got
        whole = samples if done == len(samples) else samples[:done].copy()
        return _finished(whole, sound.samplerate, source)

    return _with_sndfile(source, read)  # type: ignore[return-value]


def _checked_duration(source: Source, sound: soundfile.SoundFile, limits: Limits) -> float:
    duration_s: float = sound.frames / max(1, sound.samplerate)
    _check(source.name, sound.samplerate, sound.channels, duration_s, limits)
    return duration_s


def _check(name: str, rate_hz: int, channels: int, duration_s: float, limits: Limits) -> None:
    if rate_hz < 1 or channels < 1:
        raise MediaError(f"{name}: sound of {rate_hz} Hz and {channels} channels")
    limits.check("sample_rate_hz", rate_hz, name)
    limits.check("channels", channels, name)
    limits.check("seconds", duration_s, name)


def _finished(samples: np.ndarray, rate_hz: int, source: Source) -> Audio:
    if len(samples) == 0:
        raise MediaError(f"{source.name}: no samples could be decoded")
    # One pass without a copy: NaN and infinity spread into both extremes.
    low, high = float(samples.min()), float(samples.max())
    if not (np.isfinite(low) and np.isfinite(high) and -_LOUDEST <= low and high <= _LOUDEST):
        raise MediaError(f"{source.name}: samples that are not finite numbers in range ({low:g} to {high:g})")
    return Audio(samples, rate_hz, source.uri)
