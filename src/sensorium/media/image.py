"""Decodes still images with Pillow, or with own readers for Netpbm and BMP.

Input: an open file and its format. Output: `Image`, upright RGB, transparency blended onto white. The plugin
is chosen by the detected format, never by Pillow's own detection, which includes EPS. `pillow_fixes` corrects
what Pillow reads incompletely.

With `target_px`, JPEG is decoded at 1/2, 1/4 or 1/8 scale in the DCT domain. RGB, grey and CMYK images are
averaged over blocks. The result is at least twice the target, as in `PIL.Image.thumbnail(reducing_gap=2)`.
ICC colour profiles are not applied.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import MediaError
from sensorium.media import bmp, netpbm
from sensorium.media import pillow_fixes as fixes
from sensorium.media.container_header import icon_sizes, webp_canvas
from sensorium.media.limits import Limits
from sensorium.media.orientation import UPRIGHT, Orientation, from_exif
from sensorium.media.pillow_fixes import silence
from sensorium.media.pixels import Levels, fill_rgb, fill_wide_rgb
from sensorium.media.source import Source
from sensorium.media.types import Header, Image

if TYPE_CHECKING:
    from PIL import Image as Pillow
    from PIL.ImageFile import ImageFile, _Tile

PLUGINS: Mapping[str, str] = MappingProxyType(
    {
        "avif": "Avif",
        "gif": "Gif",
        "ico": "Ico",
        "jpeg": "Jpeg",
        "jpeg2000": "Jpeg2K",
        "png": "Png",
        "qoi": "Qoi",
        "tiff": "Tiff",
        "webp": "WebP",
    }
)
"""Every image format that Pillow reads, and the prefix of its module and class in Pillow."""

_OWN: Mapping[str, Any] = MappingProxyType({"bmp": bmp, "ppm": netpbm})
_REDUCING_GAP = 2
_ORIENTATION_TAG = 274
# Pillow's raw mode that gives the lower bytes of another; grey with alpha is taken as four bytes.
_SWAPPED = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBX", "RGBA")
    for order, other in (("L", "B"), ("B", "L"), ("N", "B" if sys.byteorder == "little" else "L"))
} | {"LA;16B": "RGBA"}


def read_header(source: Source, format_name: str, limits: Limits) -> Header:
    """Read the size of an image; LimitError if there are too many pixels."""
    if format_name in _OWN:
        own = _OWN[format_name].read_header(source)
        width, height = own.width, own.height
        check_size(source, format_name, (width, height), limits)
    else:
        with silence:
            picture = open_plugin(source, format_name, limits)
            width, height = _stored_orientation(picture, format_name).size(*picture.size)
    return Header("image", format_name, source.num_bytes, width, height, num_frames=1)


def decode(source: Source, format_name: str, limits: Limits, target_px: int | None = None) -> Image:
    """Decode an image; pixels are checked before decoding.

    `target_px` is a sufficient length of the short side: the result is full size or at least twice that.
    """
    with silence:
        if format_name in _OWN:
            return Image(_decode_own(source, format_name, limits, target_px), source.uri)
        picture = open_plugin(source, format_name, limits)
        if target_px is not None and format_name == "jpeg":
            picture.draft(None, _enough(picture.size, target_px))
        limits.check("decoded_bytes", picture.size[0] * picture.size[1] * 3, source.name)
        if format_name == "jpeg":
            fixes.check_scans(source)
        background = fixes.GifBackground(picture) if format_name == "gif" else None
        low = _low_bytes(picture, source, format_name, limits, target_px)
        exif = picture.info.get("exif")
        # TIFF turns itself upright while loading and PNG may hold its texts after the pixels: load, then ask.
        picture = _loaded(picture, source, limits)
        if format_name == "png" and exif is not None:
            picture.info["exif"] = exif  # that of a damaged file may be another by now
        orientation = _orientation(picture)
        if low is None:
            levels = fixes.tiff_levels(picture) if format_name == "tiff" else None
            pixels = upright_rgb(_reduced(picture, target_px), orientation, levels)
            if background is not None:
                background.paint(picture, pixels)
        else:
            pixels = _empty(picture.size, orientation)
            fill_wide_rgb(picture, low, orientation.stored_view(pixels))
    return Image(pixels, source.uri)


def _decode_own(source: Source, format_name: str, limits: Limits, target_px: int | None) -> np.ndarray:
    from PIL import Image as Pillow

    reader = _OWN[format_name]
    header = reader.read_header(source)
    check_size(source, format_name, (header.width, header.height), limits)
    limits.check("decoded_bytes", header.width * header.height * 3, source.name)
    stored: np.ndarray = reader.read_pixels(source, header)
    if stored.ndim == 3 and stored.shape[2] == 3 and _factor(stored.shape[1::-1], target_px) < 2:
        return stored
    return upright_rgb(_reduced(Pillow.fromarray(stored), target_px))


def open_plugin(source: Source, format_name: str, limits: Limits) -> ImageFile:
    """Read an image's header by the one Pillow class for its format and check the number of pixels.

    The class is called directly because `PIL.Image.open` warns or raises at a limit of its own.
    """
    prefix = PLUGINS[format_name]
    plugin = getattr(importlib.import_module(f"PIL.{prefix}ImagePlugin"), f"{prefix}ImageFile")
    _check_inner_sizes(source, format_name, limits)
    if format_name == "tiff":
        fixes.quiet_libtiff()
    elif format_name == "jpeg":
        fixes.check_segments(source)
    layout = fixes.list_chunks(source) if format_name == "png" else []
    file = fixes.without_long_texts(source, layout) if layout else source.file
    file.seek(0)
    picture: ImageFile = plugin(file)
    check_size(source, format_name, picture.size, limits)
    if format_name == "png":
        at = file.tell()
        fixes.mend_png(picture, source, layout)
        file.seek(at)
    elif format_name == "tiff":
        fixes.mend_tiff(picture)
    return picture


def check_size(source: Source, format_name: str, size: tuple[int, int], limits: Limits) -> None:
    """Refuse an image with zero pixels, or with too many."""
    width, height = size
    if width < 1 or height < 1:
        raise MediaError(f"{source.name}: {format_name} of {width}x{height}, no pixels")
    limits.check("pixels", width * height, f"{source.name}: {format_name} of {width}x{height}")


def _check_inner_sizes(source: Source, format_name: str, limits: Limits) -> None:
    """Check sizes that Pillow or its libraries allocate for before they report them."""
    sizes: list[tuple[int, int]] = []
    if format_name == "webp":
        sizes = [webp_canvas(source.head())]
    elif format_name == "ico":
        sizes = list(icon_sizes(source.content()))
    for width, height in sizes:
        limits.check("pixels", width * height, f"{source.name}: {format_name} of {width}x{height}")


def upright_rgb(
    picture: object, orientation: Orientation = UPRIGHT, levels: Levels | None = None
) -> np.ndarray:
    """Convert a loaded Pillow image of any mode to upright RGB pixels (H, W, 3)."""
    pixels = _empty(picture.size, orientation)  # type: ignore[attr-defined]
    fill_rgb(picture, orientation.stored_view(pixels), levels)  # type: ignore[arg-type]
    return pixels


def _empty(stored_size: tuple[int, int], orientation: Orientation) -> np.ndarray:
    width, height = orientation.size(*stored_size)
    return np.empty((height, width, 3), np.uint8)


def _enough(size: tuple[int, int], target_px: int) -> tuple[int, int]:
    """Size with the same aspect ratio whose short side is twice the target."""
    scale = _REDUCING_GAP * target_px / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(picture: Pillow.Image, target_px: int | None) -> Pillow.Image:
    return picture.reduce(_factor(picture.size, target_px)) if _is_averaged(picture, target_px) else picture


def _is_averaged(picture: Pillow.Image, target_px: int | None) -> bool:
    # Palettes and colours under transparency must not be averaged.
    is_plain = picture.mode in ("RGB", "L", "CMYK") and "transparency" not in picture.info
    return is_plain and _factor(picture.size, target_px) > 1


def _factor(size: tuple[int, ...], target_px: int | None) -> int:
    return 1 if target_px is None else min(size) // (_REDUCING_GAP * target_px)


def _loaded(picture: ImageFile, source: Source, limits: Limits) -> ImageFile:
    def reopen(other: Source) -> ImageFile:
        again = open_plugin(other, "jpeg", limits)
        again.tile, again.decoderconfig, again._size = picture.tile, picture.decoderconfig, picture.size
        return again

    try:
        picture.load()
    except OSError:
        whole = fixes.load_without_end(source, reopen) if picture.format == "JPEG" else None
        if whole is None:
            raise
        return whole
    return picture


def _low_bytes(
    picture: ImageFile, source: Source, format_name: str, limits: Limits, target_px: int | None
) -> Pillow.Image | None:
    """Low bytes of 16-bit colours, of which Pillow keeps the high bytes; None if there are none.

    The file is decoded a second time with swapped byte order. Images that are reduced skip this step.
    """
    if format_name not in ("png", "tiff") or _is_averaged(picture, target_px):
        return None
    swapped = {_SWAPPED.get(_raw_mode(tile)) for tile in picture.tile}
    if len(swapped) != 1 or None in swapped or (format_name == "tiff" and fixes.is_separate(picture)):
        return None
    low = open_plugin(source, format_name, limits)
    (raw_mode,) = swapped
    low.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in low.tile
    ]
    low.load()
    if raw_mode != "RGBA":
        return low
    from PIL import Image as Pillow

    _, grey, _, alpha = low.split()
    return Pillow.merge("RGBA", (grey, grey, grey, alpha))


def _raw_mode(tile: _Tile) -> str:
    return tile.args[0] if isinstance(tile.args, tuple) else str(tile.args)


def _stored_orientation(picture: ImageFile, format_name: str) -> Orientation:
    """Orientation without decoding; TIFF reports its rotated size, and Pillow loads a PNG to find EXIF."""
    if format_name == "tiff" or (format_name == "png" and not fixes.tells_orientation(picture)):
        return UPRIGHT
    return _orientation(picture)


def _orientation(picture: ImageFile) -> Orientation:
    try:
        return from_exif(picture.getexif().get(_ORIENTATION_TAG))
    except Exception:
        # Damaged EXIF raises whatever it likes (SyntaxError, struct.error); the pixels are still good.
        return UPRIGHT
