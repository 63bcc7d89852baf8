"""Opens audio and video containers with PyAV, without access to other files or the network.

The demuxer is chosen by name and not probed, so that no playlist demuxer can run. Protocols and nested files
are refused. FFmpeg's allocation limits are set from `Limits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sensorium.core.errors import LimitError, MediaError
from sensorium.media.clock import MICROSECONDS, start_of
from sensorium.media.limits import Limits
from sensorium.media.source import QuietSeek, Source

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

# One file seldom has more than a few tracks; each costs a decoder.
_MAX_STREAMS = 64


@contextmanager
def opened_container(source: Source, format_name: str, limits: Limits) -> Iterator[InputContainer]:
    """Open a container from its bytes; FFmpeg's errors are converted, also inside the context.

    `format_name` is the name of FFmpeg's demuxer; `limits.pixels` bounds every decoder.

    Raises:
        MediaError: If it cannot be read.
        LimitError: If FFmpeg exceeds its memory limit.
    """
    import av

    source.file.seek(0)
    options = {
        "protocol_whitelist": "none",
        "format_whitelist": f"{format_name},mov,webm" if format_name in ("mp4", "matroska") else format_name,
        "max_pixels": str(limits.pixels),
        "max_streams": str(_MAX_STREAMS),
    }
    try:
        with av.open(
            QuietSeek(source.file),
            "r",
            format=format_name,
            options=options,
            metadata_errors="replace",
            io_open=_refuse_nested,
        ) as container:
            yield container
    except (MemoryError, av.error.MemoryError) as error:
        raise LimitError(f"{source.name}: decoding needs more memory than is allowed") from error
    except MediaError:
        raise
    except (av.error.FFmpegError, ValueError, EOFError, OSError) as error:
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0][:160].lower()
        raise MediaError(f"{source.name}: damaged {format_name} ({reason})") from error


def picture_stream(container: InputContainer) -> VideoStream | None:
    """Return the first video stream; cover art does not count."""
    from av.stream import Disposition

    for stream in container.streams.video:
        is_cover = bool(stream.disposition & Disposition.attached_pic)
        if not is_cover and stream.codec_context is not None:
            return stream
    return None


def sound_stream(container: InputContainer) -> AudioStream | None:
    """Return the first audio stream that has a decoder."""
    return next((track for track in container.streams.audio if track.codec_context is not None), None)


def duration_of(container: InputContainer, stream: Stream) -> float | None:
    """Seconds from the file's first timestamp to the end of a track, as declared; None if not declared."""
    if stream.duration is not None and stream.time_base is not None:
        return max(0.0, float(stream.duration * stream.time_base) + late_s(container, stream))
    return whole_duration_of(container)


def whole_duration_of(container: InputContainer) -> float | None:
    """Seconds from the file's first to its last timestamp, as declared; None if not declared."""
    if container.duration is None:
        return None
    # Matroska counts from its clock's zero, which may be before the first moment.
    before_s = max(0.0, start_of(container)) if container.format.name.startswith("matroska") else 0.0
    return max(0.0, container.duration / MICROSECONDS - before_s)


def late_s(container: InputContainer, stream: Stream) -> float:
    """Seconds from the file's first timestamp to the start of a track, as declared."""
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return max(0.0, float(stream.start_time * stream.time_base) - start_of(container))


def _refuse_nested(url: str, flags: int, options: dict[str, str]) -> object:
    raise MediaError(f"the file points to another file ({url[:80]}); only what is inside it is read")
