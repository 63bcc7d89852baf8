"""Limits on the size, decoded size and decoding time of media files.

Sizes are checked against headers before decoding. `memory_bytes` and `timeout_s` apply only to the subprocess
that decodes untrusted files (`isolate=True`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from sensorium.core.errors import LimitError, UsageError

_MEBI = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds on one file.

    Attributes:
        file_bytes: Size of the file as stored.
        pixels: Width times height of an image or of one frame.
        frames: Frames that a video or animation may hold (not how many are kept).
        video_frames: Frames kept of a video, spread evenly over its time.
        animation_pixels: Frames times pixels of an animated GIF, WebP, PNG or AVIF (decoded only in order).
        seconds: Duration of audio or video.
        decoded_bytes: Size of what `open` returns.
        channels: Audio channels.
        sample_rate_hz: Audio sample rate.
        text_bytes: Size of a text as stored.
        memory_bytes: Memory that an isolated decode may take on top of an idle worker.
        timeout_s: Time that an isolated decode may take.

    Example:
        >>> Limits(video_frames=8).video_frames
        8
        >>> Limits(pixels=0)
        Traceback (most recent call last):
        ...
        sensorium.core.errors.UsageError: Limits(pixels=0): expected a positive number
    """

    file_bytes: int = 256 * _MEBI
    pixels: int = 50_000_000
    frames: int = 1_000_000
    video_frames: int = 32
    animation_pixels: int = 1_000_000_000
    seconds: int | float = 3600
    decoded_bytes: int = 256 * _MEBI
    channels: int = 32
    sample_rate_hz: int = 384_000
    text_bytes: int = 4 * _MEBI
    memory_bytes: int = 512 * _MEBI
    timeout_s: int | float = 10

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not value > 0:
                raise UsageError(f"Limits({entry.name}={value!r}): expected a positive number")

    def check(self, name: str, value: int | float, what: str) -> None:
        """Refuse `value` if it is beyond the limit called `name`.

        Raises:
            LimitError: With what was found, the limit, and how to raise it.

        Example:
            >>> Limits().check("channels", 65, "WAV")
            Traceback (most recent call last):
            ...
            sensorium.core.errors.LimitError: WAV: 65 channels, limit 32; raise Limits(channels=...)
        """
        limit = getattr(self, name)
        if value > limit:
            raise LimitError(
                f"{what}: {_number(value)} {_UNITS[name]}, limit {_number(limit)}; raise Limits({name}=...)"
            )


_UNITS = {
    "file_bytes": "bytes",
    "pixels": "pixels",
    "frames": "frames",
    "animation_pixels": "pixels over all frames",
    "seconds": "seconds",
    "decoded_bytes": "bytes once decoded",
    "channels": "channels",
    "sample_rate_hz": "Hz",
    "text_bytes": "bytes of text",
}


def _number(value: int | float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
