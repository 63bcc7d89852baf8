"""Encodes images as PNG, JPEG or WebP, and audio as WAV, FLAC or Ogg.

Input: an `Image` or `Audio`. Output: bytes, or a file that is written atomically. A WAV can also be streamed
in chunks. The file extension selects the format.
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
    """Check that an output file can be written, before any work starts.

    Raises:
        UsageError: If it is a folder, has none of the `endings`, or its folder is not writable.
    """
    if path.suffix.lower() not in endings or path.is_dir():
        raise UsageError(f"cannot write '{path}'; give a name that ends in {', '.join(endings)}")
    folder = next((one for one in path.absolute().parents if one.exists()), Path())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write '{path}': {folder} takes no files; choose another place")


def write_medium(medium: Image | Audio, path: Path) -> None:
    """Write an image or audio atomically, in the format of the file extension.

    Raises:
        UsageError: If the extension is not supported.
    """
    endings = PICTURE_FORMATS if isinstance(medium, Image) else SOUND_FORMATS
    check_target(path, endings)
    encode = encode_picture if isinstance(medium, Image) else encode_sound
    write_atomic(path, encode(medium, path.suffix.lower()))  # type: ignore[arg-type]  # chosen by its type


def encode_picture(picture: Image, ending: str) -> bytes:
    """Encode an image in one of `PICTURE_FORMATS`."""
    buffer = io.BytesIO()
    picture.to_pillow().save(buffer, PICTURE_FORMATS[ending], quality=_JPEG_QUALITY)
    return buffer.getvalue()


def encode_sound(sound: Audio, ending: str) -> bytes:
    """Encode audio in one of `SOUND_FORMATS`."""
    import soundfile

    buffer = io.BytesIO()
    container, subtype = SOUND_FORMATS[ending]
    soundfile.write(buffer, sound.samples, sound.sample_rate_hz, format=container, subtype=subtype)
    return buffer.getvalue()


def wav_header(rate_hz: int) -> bytes:
    """Header of a streamed mono 16-bit WAV of unknown length; players read to the end of the stream.

    Example:
        >>> len(wav_header(16_000))
        44
    """
    riff = struct.pack("<4sI4s", b"RIFF", _UNKNOWN_BYTES, b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return riff + form + struct.pack("<4sI", b"data", _UNKNOWN_BYTES)


def wav_samples(samples: Float32[np.ndarray, "T 1"]) -> bytes:
    """Encode samples as the data that follows `wav_header`."""
    return (samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes()
