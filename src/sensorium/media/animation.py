"""Decodes animated GIF, WebP, PNG and AVIF: one frame becomes an `Image`, more become a `Video`.

Frame count and durations are read from the file structure before decoding. Frames are decoded in order,
because each one builds on the previous. `Limits.animation_pixels` bounds the work.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sensorium.core.errors import MediaError
from sensorium.media import image
from sensorium.media.container import opened_container
from sensorium.media.container_header import chunks
from sensorium.media.limits import Limits
from sensorium.media.pillow_fixes import GifBackground, silence
from sensorium.media.source import Source
from sensorium.media.types import Header, Image, Video
from sensorium.media.video import fit, spread

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# Browsers show frames of 10 ms and less for 100 ms.
_SHORTEST_MS = 10.0
_DEFAULT_MS = 100.0


def read_header(source: Source, format_name: str, limits: Limits) -> Header:
    """Read size, frame count and duration; a file with one frame is an image."""
    durations_ms = _durations(source, format_name, limits)
    if len(durations_ms) < 2:
        return image.read_header(source, format_name, limits)
    with silence:
        width, height = image.open_plugin(source, format_name, limits).size
    return Header(
        "video",
        format_name,
        source.num_bytes,
        width,
        height,
        num_frames=len(durations_ms),
        duration_s=sum(durations_ms) / 1000,
    )


def decode(source: Source, format_name: str, limits: Limits, target_px: int | None = None) -> Image | Video:
    """Decode to an image (one frame) or a video (more); MediaError if no frame decodes."""
    durations_ms = _durations(source, format_name, limits)
    num_frames = len(durations_ms)
    if num_frames < 2:
        return image.decode(source, format_name, limits, target_px)
    with silence:
        picture = image.open_plugin(source, format_name, limits)
        pixels = picture.size[0] * picture.size[1]
        limits.check(
            "animation_pixels", pixels * num_frames, f"{source.name}: {num_frames} frames of {pixels} pixels"
        )
        starts_s = np.concatenate([[0.0], np.cumsum(durations_ms)[:-1]]) / 1000
        wanted = spread(starts_s, sum(durations_ms) / 1000, limits.video_frames)
        width, height = fit(picture.size, target_px)
        limits.check("decoded_bytes", len(wanted) * width * height * 3, source.name)
        frames = np.empty((len(wanted), height, width, 3), np.uint8)
        done = 0
        for into, frame in zip(frames, _frames_at(picture, wanted, limits), strict=False):
            into[:] = _resized(frame, (width, height))
            done += 1
    if done == 0:
        raise MediaError(f"{source.name}: not one frame of the {format_name} animation could be decoded")
    return Video(frames[:done], starts_s[wanted[:done]], None, source.uri)


def _frames_at(picture: ImageFile, wanted: np.ndarray, limits: Limits) -> Iterator[np.ndarray]:
    """RGB pixels of the wanted frames, up to the point where a truncated file ends."""
    # An animated PNG may show another picture where animation is not supported; it is not a frame.
    first = 1 if getattr(picture, "default_image", False) else 0
    background = GifBackground(picture) if picture.format == "GIF" else None
    for number in range(int(wanted[-1]) + 1):
        try:
            picture.seek(first + number)
            limits.check("pixels", picture.size[0] * picture.size[1], "a later frame")  # GIF frames may grow
            picture.load()
        except Exception as error:
            # Pillow raises many kinds for damaged frames; what came before is still good.
            if isinstance(error, MediaError | MemoryError):
                raise
            return
        pixels = image.upright_rgb(picture) if number in wanted else None
        if background is not None:
            background.paint(picture, pixels)
        if pixels is not None:
            yield pixels


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if frame.shape[1::-1] == size:
        return frame
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(frame).resize(size, Pillow.Resampling.BILINEAR, reducing_gap=2))


def _durations(source: Source, format_name: str, limits: Limits) -> list[float]:
    """Display duration of each frame, in milliseconds."""
    read = {"gif": _gif_durations, "webp": _webp_durations, "png": _png_durations, "avif": _avif_durations}[
        format_name
    ]
    durations: list[float] = []
    for duration_ms in read(source):
        durations.append(duration_ms if duration_ms > _SHORTEST_MS else _DEFAULT_MS)
        limits.check("frames", len(durations), source.name)
    limits.check("seconds", sum(durations) / 1000, source.name)
    return durations


def _gif_durations(source: Source) -> Iterator[float]:
    """Walk the blocks of a GIF (GIF89a specification, sections 15 to 26) without decompressing."""
    data = source.content()
    at = 13 + _colour_table_bytes(data[10]) if len(data) > 12 else len(data)
    duration_ms = 0.0
    while at < len(data):
        kind = data[at]
        if kind == 0x21 and data[at + 1 : at + 3] == b"\xf9\x04" and len(data) > at + 7:
            duration_ms = 10.0 * int.from_bytes(data[at + 4 : at + 6], "little")
        if kind == 0x21:
            at = _skip_sub_blocks(data, at + 2)
        elif kind == 0x2C and len(data) > at + 10:
            yield duration_ms
            duration_ms = 0.0
            at = _skip_sub_blocks(data, at + 11 + _colour_table_bytes(data[at + 9]))
        else:
            return


def _colour_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip_sub_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at] != 0:
        at += 1 + data[at]
    return at + 1


def _webp_durations(source: Source) -> Iterator[float]:
    """Durations of the ANMF chunks of a WebP (RIFF container specification, "Animation")."""
    end = min(source.num_bytes, 8 + int.from_bytes(source.head()[4:8], "little"))
    for name, start, size in chunks(source.file, 12, end, "<4sI", padded=True):
        if name == b"ANMF" and size >= 16:
            source.file.seek(start + 12)
            yield float(int.from_bytes(source.file.read(3), "little"))


def _png_durations(source: Source) -> Iterator[float]:
    """Durations of the fcTL chunks of an animated PNG; acTL must come before the pixels, else it is still."""
    is_animated = False
    for name, start, size in chunks(source.file, 8, source.num_bytes, ">I4s", trailer=4):
        is_animated |= name == b"acTL"
        if name == b"IEND" or (name == b"IDAT" and not is_animated):
            return
        if name == b"fcTL" and size >= 26 and is_animated:
            source.file.seek(start + 20)
            above, below = struct.unpack(">HH", source.file.read(4).ljust(4, b"\0"))
            yield 1000.0 * above / (below or 100)


def _avif_durations(source: Source) -> Iterator[float]:
    """Durations of the packets of the longest track: AVIF keeps a sequence as an MP4 does."""
    with opened_container(source, "mp4", Limits()) as container:
        stream = max(container.streams.video, key=lambda track: track.frames, default=None)
        if stream is None or stream.time_base is None:
            return
        for packet in container.demux(stream):
            if packet.size:
                yield 1000 * float((packet.duration or 0) * stream.time_base)
