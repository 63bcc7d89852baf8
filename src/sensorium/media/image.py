"""Still images by Pillow: one plugin, chosen by content, never Pillow's own guess (which knows EPS and more).

In: an open file and its format. Out: `Image`, upright, RGB, transparency laid onto white. Where a small
picture is enough (`target_px`), JPEG is decoded at 1/2, 1/4 or 1/8 scale in the DCT domain, and RGB, grey
and CMYK pictures are averaged over whole blocks, always to at least twice the target, as
`PIL.Image.thumbnail(reducing_gap=2)` does. Colour profiles (ICC) are not applied.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from sensorium.core.errors import MediaError
from sensorium.media.boxes import icon_sizes, webp_canvas
from sensorium.media.limits import Limits
from sensorium.media.orientation import UPRIGHT, Orientation, from_exif
from sensorium.media.pixels import fill_rgb
from sensorium.media.silence import quiet_libtiff, silence
from sensorium.media.source import Source
from sensorium.media.types import Header, Image

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

PLUGINS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "avif": ("AvifImagePlugin", "AvifImageFile"),
        "bmp": ("BmpImagePlugin", "BmpImageFile"),
        "gif": ("GifImagePlugin", "GifImageFile"),
        "ico": ("IcoImagePlugin", "IcoImageFile"),
        "jpeg": ("JpegImagePlugin", "JpegImageFile"),
        "jpeg2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
        "png": ("PngImagePlugin", "PngImageFile"),
        "ppm": ("PpmImagePlugin", "PpmImageFile"),
        "qoi": ("QoiImagePlugin", "QoiImageFile"),
        "tiff": ("TiffImagePlugin", "TiffImageFile"),
        "webp": ("WebPImagePlugin", "WebPImageFile"),
    }
)
"""Every image format that is read, and Pillow's module and class for it."""

_REDUCING_GAP = 2
_ORIENTATION_TAG = 274
# A progressive JPEG repeats the whole picture in each scan; ordinary ones have about ten.
_MAX_JPEG_SCANS = 100


def read_header(source: Source, format_name: str, limits: Limits) -> Header:
    """Read the size of an image.

    Raises:
        MediaError: If the header is damaged.
        LimitError: If there are too many pixels.
    """
    with silence:
        picture = open_plugin(source, format_name, limits)
        width, height = _stored_orientation(picture, format_name).size(*picture.size)
    return Header("image", format_name, source.num_bytes, width, height, num_frames=1)


def decode(source: Source, format_name: str, limits: Limits, target_px: int | None = None) -> Image:
    """Decode an image.

    Args:
        source: The open file.
        format_name: A key of `PLUGINS`.
        limits: Bounds; pixels are checked before decoding.
        target_px: Short side that will be enough; the result is whole or at least twice that.

    Raises:
        MediaError: If the content is damaged or truncated.
        LimitError: If it is beyond `limits`.
    """
    with silence:
        picture = open_plugin(source, format_name, limits)
        if target_px is not None and format_name == "jpeg":
            picture.draft(None, _enough(picture.size, target_px))
        limits.check("decoded_bytes", picture.size[0] * picture.size[1] * 3, source.name)
        if format_name == "jpeg":
            _check_scans(source)
        # TIFF turns itself upright while loading and PNG may hold its EXIF after the pixels: load, then ask.
        picture.load()
        orientation = _orientation(picture)
        pixels = upright_rgb(_reduced(picture, target_px), orientation)
    return Image(pixels, source.uri)


def open_plugin(source: Source, format_name: str, limits: Limits) -> ImageFile:
    """Read an image's header by the one Pillow class for its format and check the number of pixels.

    The class is called directly because `PIL.Image.open` warns or raises at a limit of its own.
    """
    module_name, class_name = PLUGINS[format_name]
    plugin = getattr(importlib.import_module(f"PIL.{module_name}"), class_name)
    _check_inner_sizes(source, format_name, limits)
    if format_name == "tiff":
        quiet_libtiff()
    source.file.seek(0)
    picture: ImageFile = plugin(source.file)
    width, height = picture.size
    if width < 1 or height < 1:
        raise MediaError(f"{source.name}: {format_name} of {width}x{height}, no pixels")
    limits.check("pixels", width * height, f"{source.name}: {format_name} of {width}x{height}")
    return picture


def _check_inner_sizes(source: Source, format_name: str, limits: Limits) -> None:
    """Sizes that Pillow or its libraries would act on before telling them."""
    sizes: list[tuple[int, int]] = []
    if format_name == "webp":
        sizes = [webp_canvas(source.head())]
    elif format_name == "ico":
        sizes = list(icon_sizes(source.content()))
    for width, height in sizes:
        limits.check("pixels", width * height, f"{source.name}: {format_name} of {width}x{height}")


def upright_rgb(picture: object, orientation: Orientation = UPRIGHT) -> np.ndarray:
    """Convert a loaded Pillow image of any mode to upright RGB pixels (H, W, 3)."""
    width, height = picture.size  # type: ignore[attr-defined]
    upright_width, upright_height = orientation.size(width, height)
    pixels = np.empty((upright_height, upright_width, 3), np.uint8)
    fill_rgb(picture, orientation.stored_view(pixels))  # type: ignore[arg-type]
    return pixels


def _enough(size: tuple[int, int], target_px: int) -> tuple[int, int]:
    """Size with the same aspect whose short side is twice the target."""
    scale = _REDUCING_GAP * target_px / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(picture: ImageFile, target_px: int | None) -> object:
    factor = 1 if target_px is None else min(picture.size) // (_REDUCING_GAP * target_px)
    # Palettes and colours under transparency must not be averaged.
    if factor < 2 or picture.mode not in ("RGB", "L", "CMYK") or "transparency" in picture.info:
        return picture
    return picture.reduce(factor)


def _stored_orientation(picture: ImageFile, format_name: str) -> Orientation:
    """Orientation by the header alone: PNG may hold EXIF after its pixels, TIFF tells its size turned."""
    if format_name == "tiff" or (format_name == "png" and "exif" not in picture.info):
        return UPRIGHT
    return _orientation(picture)


def _orientation(picture: ImageFile) -> Orientation:
    try:
        return from_exif(picture.getexif().get(_ORIENTATION_TAG))
    except Exception:
        # Damaged EXIF raises whatever it likes (SyntaxError, struct.error); the pixels are still good.
        return UPRIGHT


def _check_scans(source: Source) -> None:
    scans = source.content().count(b"\xff\xda")
    if scans > _MAX_JPEG_SCANS:
        raise MediaError(
            f"{source.name}: JPEG of {scans} scans, made to be slow; expected at most {_MAX_JPEG_SCANS}"
        )
