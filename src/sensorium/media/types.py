"""Decoded media types (image, audio, video, text) and the header that `probe` returns.

They are plain arrays with an origin (`uri`), independent of files, tensors and models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8

if TYPE_CHECKING:
    import PIL.Image

Kind = Literal["image", "audio", "video", "text"]


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """An upright RGB image in sRGB-like colours, without transparency.

    Attributes:
        pixels: (H, W, 3), 0 to 255.
        uri: Where it came from; empty if unknown.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    uri: str = ""

    def to_pillow(self) -> PIL.Image.Image:
        """Return a Pillow image of mode RGB."""
        from PIL import Image as Pillow

        return Pillow.fromarray(self.pixels)

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        return f"Image({width}x{height}{_origin(self.uri)})"


@dataclass(frozen=True, eq=False, repr=False)
class Audio:
    """A sound.

    Attributes:
        samples: (T, C); full scale is -1 to 1, floating-point files may go beyond.
        sample_rate_hz: Time steps in a second.
        uri: Where it came from; empty if unknown.
    """

    samples: Float32[np.ndarray, "T C"]
    sample_rate_hz: int
    uri: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def mono(self, rate_hz: int) -> Float32[np.ndarray, " T"]:
        """Mean of the channels at another sample rate, by soxr's high-quality band-limited interpolation.

        Example:
            >>> Audio(np.ones((16_000, 2), np.float32), 16_000).mono(8_000).shape
            (8000,)
        """
        mono: np.ndarray = self.samples.mean(axis=1, dtype=np.float32)
        if rate_hz == self.sample_rate_hz:
            return mono
        import soxr

        resampled: np.ndarray = soxr.resample(mono, self.sample_rate_hz, rate_hz, quality="HQ")
        return resampled.astype(np.float32, copy=False)

    def __repr__(self) -> str:
        channels = self.samples.shape[1]
        return f"Audio({self.duration_s:.2f} s, {self.sample_rate_hz} Hz, {channels} ch{_origin(self.uri)})"


@dataclass(frozen=True, eq=False, repr=False)
class Video:
    """Some frames of a moving picture, and its sound.

    Attributes:
        frames: (T, H, W, 3), 0 to 255, upright.
        times_s: Display time of each frame, (T,), ascending; 0 is the file's first timestamp.
        audio: The sound track, or None.
        uri: Where it came from; empty if unknown.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    times_s: Float64[np.ndarray, " T"]
    audio: Audio | None = None
    uri: str = ""

    def __repr__(self) -> str:
        num_frames, height, width = self.frames.shape[:3]
        sound = "" if self.audio is None else ", with audio"
        return f"Video({num_frames} frames {width}x{height}{sound}{_origin(self.uri)})"


@dataclass(frozen=True)
class Text:
    """A text.

    Attributes:
        text: The characters.
        language: BCP 47 tag, e.g. `en`; empty if unknown, as for files.
        uri: Where it came from; empty if unknown.
    """

    text: str
    language: str = ""
    uri: str = ""


@dataclass(frozen=True)
class Header:
    """Properties that a file declares, read without decoding; None if not declared or not applicable.

    Attributes:
        kind: What `open` would return.
        format: Name of the format, e.g. `jpeg`, `ogg`, `mp4`.
        num_bytes: Size as stored.
        width_px: Width after rotation.
        height_px: Height after rotation.
        num_frames: Frames of a video or animation (estimated if it keeps no count), 1 for an image.
        duration_s: Length in seconds.
        sample_rate_hz: Of the sound.
        num_channels: Of the sound.
    """

    kind: Kind
    format: str
    num_bytes: int
    width_px: int | None = None
    height_px: int | None = None
    num_frames: int | None = None
    duration_s: float | None = None
    sample_rate_hz: int | None = None
    num_channels: int | None = None


Media = Image | Audio | Video | Text


def _origin(uri: str) -> str:
    return f", {uri}" if uri else ""
