"""Reads audio with libsndfile as float32 blocks.

libsndfile trusts the declared length. A WAV or AU without a valid length gets a repaired header. A FLAC with
a wrong length in STREAMINFO is left to FFmpeg.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32

from sensorium.core.errors import MediaError
from sensorium.media.declared_length import has_correct_length, with_repaired_header
from sensorium.media.limits import Limits
from sensorium.media.source import QuietSeek, Source

if TYPE_CHECKING:
    import soundfile

_BLOCK_FRAMES = 1 << 16
# Resampling enlarges a block of very low sample rate.
_BLOCK_S, _LEAST_FRAMES = 8, 256
# Frame count that libsndfile reports if it is unknown.
_UNKNOWN_FRAMES = 1 << 48


class UnreadableError(Exception):
    """libsndfile cannot read this content; FFmpeg may."""


@contextmanager
def opened_sndfile(source: Source, format_name: str) -> Iterator[soundfile.SoundFile]:
    """Open an audio file with libsndfile; UnreadableError if it fails, also inside the context."""
    import soundfile

    if format_name == "flac" and not has_correct_length(source, format_name):
        raise UnreadableError
    sound = _open(source)
    if sound is None or sound.frames == 0:
        mended = with_repaired_header(source, format_name)
        sound = (_open(mended) if mended is not None else None) or sound
    if sound is None:
        raise UnreadableError
    try:
        with sound:
            if sound.frames > _UNKNOWN_FRAMES:
                raise UnreadableError
            yield sound
    except MediaError:
        raise
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise UnreadableError from error


def samples_of(sound: soundfile.SoundFile) -> Float32[np.ndarray, "T C"]:
    """All samples that decode."""
    # Unwritten pages use no memory, so a header with too many samples is harmless.
    samples = np.empty((sound.frames, sound.channels), np.float32)
    done = 0
    while done < len(samples):
        got = len(sound.read(out=samples[done : done + _BLOCK_FRAMES]))
        if got == 0:
            break
        done += got
    return samples if done == len(samples) else samples[:done].copy()


def blocks_of(sound: soundfile.SoundFile) -> Iterator[Float[np.ndarray, "T C"]]:
    """All samples that decode, in blocks; float64 if the file stores float64."""
    import soundfile

    dtype = "float64" if sound.subtype == "DOUBLE" else "float32"
    size = min(_BLOCK_FRAMES, max(_LEAST_FRAMES, _BLOCK_S * sound.samplerate))
    while True:
        try:
            block = sound.read(size, dtype=dtype, always_2d=True)
        except soundfile.SoundFileError:
            return
        if not len(block):
            return
        yield block


def check_sound(name: str, rate_hz: int, channels: int, duration_s: float, limits: Limits) -> None:
    """Refuse audio whose header is invalid or beyond `limits`."""
    if rate_hz < 1 or channels < 1:
        raise MediaError(f"{name}: sound of {rate_hz} Hz and {channels} channels")
    limits.check("sample_rate_hz", rate_hz, name)
    limits.check("channels", channels, name)
    limits.check("seconds", duration_s, name)


def _open(source: Source) -> soundfile.SoundFile | None:
    import soundfile

    source.file.seek(0)
    try:
        return soundfile.SoundFile(QuietSeek(source.file))
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError):
        return None
