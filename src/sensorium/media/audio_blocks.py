"""Streams audio of any length as mono blocks, in constant memory.

Input: an audio file, or a video with audio. Output: mono blocks at one sample rate. They follow each other
without a gap from time 0 on the file's timeline (`clock`). Use `open` for short files, which returns one
array. A truncated file ends early, without an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import MediaError
from sensorium.media.audio_track import AudioConverter, frame_of, timed_blocks
from sensorium.media.container import opened_container, sound_stream
from sensorium.media.container_header import links
from sensorium.media.limits import Limits
from sensorium.media.sndfile import UnreadableError, blocks_of, check_sound, opened_sndfile
from sensorium.media.sniff import Format, identify
from sensorium.media.source import Source, SourceLike, opened

HOURS_LIMITS = Limits(file_bytes=1 << 36, seconds=24 * 3600)
"""Bounds on streamed audio: one day, because blocks are not kept."""


def audio_blocks(
    source: SourceLike, *, rate_hz: int = 16_000, limits: Limits = HOURS_LIMITS
) -> Iterator[Float32[np.ndarray, " T"]]:
    """Yield the first audio track, mixed to mono and resampled to `rate_hz`, in blocks of a few seconds.

    Raises:
        NotFoundError: If the path does not exist.
        MediaError: If there is no audio, or none of it decodes.
        LimitError: If it is beyond `limits`.
    """
    with opened(source, limits) as found:
        format_, found = identify(found)
        if format_.reader not in ("soundfile", "container"):
            raise MediaError(
                f"{found.name}: {format_.name}, not a sound; expected WAV, FLAC, Ogg, MP3, MP4 ..."
            )
        total = 0
        for block in _blocks(found, format_, rate_hz, limits):
            total += len(block)
            limits.check("seconds", total / rate_hz, found.name)
            yield np.nan_to_num(block[:, 0])
        if total == 0:
            raise MediaError(f"{found.name}: no samples could be decoded")


def _blocks(
    source: Source, format_: Format, rate_hz: int, limits: Limits
) -> Iterator[Float32[np.ndarray, "T 1"]]:
    found = links(source) if format_.name == "ogg" else [source]
    if len(found) == 1:
        yield from _link_blocks(source, format_, rate_hz, limits, is_chained=False)
        return
    for link in found:
        with contextlib.suppress(MediaError):  # others may be whole
            yield from _link_blocks(link, format_, rate_hz, limits, is_chained=True)


def _link_blocks(
    source: Source, format_: Format, rate_hz: int, limits: Limits, *, is_chained: bool
) -> Iterator[Float32[np.ndarray, "T 1"]]:
    # FFmpeg reads the end of a short Ogg otherwise than libsndfile; in a chain that would add up.
    if format_.reader == "soundfile" and (is_chained or format_.name != "ogg"):
        try:
            with opened_sndfile(source, format_.name) as sound:
                check_sound(source.name, sound.samplerate, sound.channels, 0.0, limits)
                convert = AudioConverter(rate_hz, "mono")
                for samples in blocks_of(sound):
                    yield from convert(frame_of(samples, sound.samplerate))
                yield from convert.rest()
                return
        except UnreadableError:
            pass
    with opened_container(source, format_.name, limits) as container:
        track = sound_stream(container)
        if track is None:
            raise MediaError(f"{source.name}: {format_.name} without sound")
        for _, block in timed_blocks(container, track, rate_hz, "mono"):
            yield block
