"""Media to files: pictures as PNG, JPEG or WebP, sounds as WAV, FLAC or Ogg.

In: an `Image` or `Audio`. Out: bytes, or a file that is whole or absent; a WAV also piece by piece, for who
listens while it is made. The ending of a name says the format.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import UsageError
from sensorium.core.files import write_atomic
from sensorium.media.types import Audio, Image

PICTURE_FORMATS: Mapping[str, str] = MappingProxyType(
    {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
)
"""Pillow's name by the ending."""
SOUND_FORMATS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
)
"""libsndfile's container and coding by the ending."""
_JPEG_QUALITY = 95
_UNKNOWN_BYTES = 0xFFFFFFFF


def check_target(path: Path, endings: Iterable[str]) -> None:
    """Refuse what could not be written, before anything is made.

    Args:
        path: A file that is to be.
        endings: Those that are known.

    Raises:
        UsageError: If it is a folder, has another ending, or its folder takes no files.
    """
    if path.suffix.lower() not in endings or path.is_dir():
        raise UsageError(f"cannot write '{path}'; give a name that ends in {', '.join(endings)}")
    folder = next((one for one in path.absolute().parents if one.exists()), Path())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write '{path}': {folder} takes no files; choose another place")


def write_medium(medium: Image | Audio, path: Path) -> None:
    """Write a picture or a sound in the format that the name's ending says; whole or not at all.

    Raises:
        UsageError: If the ending is not known.
    """
    endings = PICTURE_FORMATS if isinstance(medium, Image) else SOUND_FORMATS
    check_target(path, endings)
    encode = encode_picture if isinstance(medium, Image) else encode_sound
    write_atomic(path, encode(medium, path.suffix.lower()))  # type: ignore[arg-type]  # chosen by its type


def encode_picture(picture: Image, ending: str) -> bytes:
    """A picture as a file of one of `PICTURE_FORMATS`."""
    buffer = io.BytesIO()
    picture.to_pillow().save(buffer, PICTURE_FORMATS[ending], quality=_JPEG_QUALITY)
    return buffer.getvalue()


def encode_sound(sound: Audio, ending: str) -> bytes:
    """A sound as a file of one of `SOUND_FORMATS`."""
    import soundfile

    buffer = io.BytesIO()
    container, subtype = SOUND_FORMATS[ending]
    soundfile.write(buffer, sound.samples, sound.sample_rate_hz, format=container, subtype=subtype)
    return buffer.getvalue()


def wav_header(rate_hz: int) -> bytes:
    """Head of a WAV of mono 16-bit samples whose length nobody knows yet: players read on to the end.

    Example:
        >>> len(wav_header(16_000))
        44
    """
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return b"".join(
        [
            struct.pack("<4sI4s", b"RIFF", _UNKNOWN_BYTES, b"WAVE"),
            form,
            struct.pack("<4sI", b"data", _UNKNOWN_BYTES),
        ]
    )


def wav_samples(samples: Float32[np.ndarray, "T 1"]) -> bytes:
    """Samples as they follow `wav_header`."""
    return (samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes()
