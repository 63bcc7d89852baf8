"""The sound of a file of any length, block after block: what listens to hours needs the memory of seconds.

In: a sound file, or a video with sound. Out: mono blocks at one rate. `open` gives a whole sound as one
array; this is for files that are too long for that. A file that breaks off ends there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import MediaError
from sensorium.media.audio import decoded_frames
from sensorium.media.container import opened_container
from sensorium.media.limits import Limits
from sensorium.media.sniff import sniff
from sensorium.media.source import SourceLike, opened

HOURS_LIMITS = Limits(file_bytes=1 << 36, seconds=24 * 3600)
"""Bounds on files that are heard block by block: a day, since nothing of them is kept."""


def audio_blocks(
    source: SourceLike, *, rate_hz: int = 16_000, limits: Limits = HOURS_LIMITS
) -> Iterator[Float32[np.ndarray, " T"]]:
    """Yield the first sound track, mixed down and resampled, in blocks of some milliseconds.

    Args:
        source: As for `open`.
        rate_hz: Samples a second to give.
        limits: Bounds.

    Raises:
        NotFoundError: If a path leads nowhere.
        MediaError: If there is no sound, or none of it decodes.
        LimitError: If it is beyond `limits`.
    """
    import av

    with opened(source, limits) as found:
        format_ = sniff(found.head(), found.name)
        if format_.reader not in ("soundfile", "container"):
            raise MediaError(
                f"{found.name}: {format_.name}, not a sound; expected WAV, FLAC, Ogg, MP3, MP4 ..."
            )
        with opened_container(found, format_.name, limits) as container:
            tracks = [track for track in container.streams.audio if track.codec_context is not None]
            if not tracks:
                raise MediaError(f"{found.name}: {format_.name} without sound")
            tracks[0].codec_context.thread_count = 1
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
            total = 0
            for frame in itertools.chain(decoded_frames(container, tracks[0]), [None]):
                for part in resampler.resample(frame):
                    samples = np.nan_to_num(part.to_ndarray().reshape(-1))
                    total += len(samples)
                    limits.check("seconds", total / rate_hz, found.name)
                    yield samples
            if total == 0:
                raise MediaError(f"{found.name}: no samples could be decoded")
