"""`open` decodes a media file; `probe` reads its header.

Input: a path, bytes, file object or data URI. Output: decoded media or a header. Any failure of a decoder
becomes one `SensoriumError` with a reason.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from sensorium.core.errors import LimitError, MediaError, SensoriumError, UsageError
from sensorium.media.limits import Limits
from sensorium.media.sniff import Format, identify
from sensorium.media.source import Source, SourceLike, opened
from sensorium.media.types import Audio, Header, Image, Text, Video

_DEFAULT = Limits()


def open(
    source: SourceLike, *, limits: Limits = _DEFAULT, isolate: bool = False, target_px: int | None = None
) -> Image | Audio | Video | Text:
    """Open an image, sound, video or text.

    Args:
        source: A path, bytes, a binary file object, or a `data:` URI. Its content determines the format.
        limits: Bounds; checked against headers before decoding.
        isolate: Decode in a subprocess that is killed beyond `limits.memory_bytes` or `limits.timeout_s`, for
            untrusted files. Takes some milliseconds once the first call has started a worker.
        target_px: Sufficient short side in pixels. Images are full size or at least twice as large (several
            times faster for JPEG); video frames have at most this short side.

    Raises:
        NotFoundError: If the path does not exist.
        MediaError: If the content is damaged, unsupported or of no known kind.
        LimitError: If it is beyond `limits`.
        UsageError: If `source` is nothing that can be opened, such as a URL.

    Example:
        >>> open("data:,a%20frog").text
        'a frog'
    """
    if target_px is not None and target_px < 1:
        raise UsageError(f"target_px={target_px}: expected a positive number of pixels")
    with opened(source, limits) as found:
        if isolate:
            from sensorium.media.sandbox import decode_isolated

            return decode_isolated(found, limits, target_px)
        return decode(found, limits, target_px)


def probe(source: SourceLike, *, limits: Limits = _DEFAULT) -> Header:
    """Read the header of a file, without decoding.

    Args:
        source: As for `open`.
        limits: Bounds; a header beyond them is refused as `open` would.

    Raises:
        NotFoundError: If the path does not exist.
        MediaError: If the header is damaged, unsupported or of no known kind.
        LimitError: If it is beyond `limits`.

    Example:
        >>> probe(b"a frog").kind
        'text'
    """
    with opened(source, limits) as found:
        try:
            format_, behind = identify(found)
            return replace(_read_header(behind, format_, limits), num_bytes=found.num_bytes)
        except Exception as error:
            raise _explained(error, found) from error


def decode(source: Source, limits: Limits, target_px: int | None) -> Image | Audio | Video | Text:
    """Decode in this process; any exception of a decoder becomes one `MediaError` or `LimitError`."""
    try:
        format_, behind = identify(source)
        return _decode(behind, format_, limits, target_px)
    except Exception as error:
        raise _explained(error, source) from error


def _read_header(source: Source, found: Format, limits: Limits) -> Header:
    # Readers load their libraries, so each is imported when it is needed.
    if found.reader == "text":
        from sensorium.media import text

        return text.read_header(source, limits)
    if found.reader == "pillow":
        from sensorium.media import image

        return image.read_header(source, found.name, limits)
    if found.reader == "animation":
        from sensorium.media import animation

        return animation.read_header(source, found.name, limits)
    if found.reader == "soundfile":
        from sensorium.media import audio

        return audio.read_header(source, found.name, found.reader, limits)
    from sensorium.media import video

    return video.read_header(source, found.name, limits)


def _decode(
    source: Source, found: Format, limits: Limits, target_px: int | None
) -> Image | Audio | Video | Text:
    if found.reader == "text":
        from sensorium.media import text

        return text.decode(source, limits)
    if found.reader == "pillow":
        from sensorium.media import image

        return image.decode(source, found.name, limits, target_px)
    if found.reader == "animation":
        from sensorium.media import animation

        return animation.decode(source, found.name, limits, target_px)
    if found.reader == "soundfile":
        from sensorium.media import audio

        return audio.decode(source, found.name, found.reader, limits)
    from sensorium.media import video

    return video.decode(source, found.name, limits, target_px)


def _explained(error: Exception, source: Source) -> SensoriumError:
    """Convert an exception of a decoder to one `SensoriumError` with a reason in one line."""
    if isinstance(error, MediaError):
        message = str(error)
        named = message if message.startswith(source.name) else f"{source.name}: {message}"
        return type(error)(named)
    if isinstance(error, MemoryError):
        return LimitError(f"{source.name}: decoding needs more memory than is allowed")
    if isinstance(error, SensoriumError):
        return error
    if type(error).__name__ == "DecompressionBombError":  # Pillow's, not imported here
        return LimitError(f"{source.name}: a frame of too many pixels")
    if isinstance(error, struct.error | IndexError | EOFError):
        return MediaError(f"{source.name}: damaged, or it ends early")
    reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
    return MediaError(f"{source.name}: damaged or unsupported ({reason})")
