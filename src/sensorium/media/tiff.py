"""TIFF features that Pillow lacks: inverted grey, 8-bit palettes, YCbCr reference values, deep planes.

Reference: TIFF revision 6.0, Adobe 1992.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensorium.core.errors import MediaError
from sensorium.media.pixels import Levels

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR, _COLOR_MAP = 256, 257, 258, 262, 284, 320
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _YCBCR_SUBSAMPLING, _REFERENCE_BLACK_WHITE = 338, 339, 530, 532
_WHITE_IS_ZERO, _SEPARATE, _SIGNED, _ASSOCIATED_ALPHA = 0, 2, 2, 1


def mend(picture: ImageFile) -> None:
    """Correct Pillow's decoder settings before the pixels are loaded.

    Raises:
        MediaError: If no correct setting is known.
    """
    tags, uses_libtiff = picture.tag_v2, picture.use_load_libtiff  # type: ignore[attr-defined]
    if picture.mode in ("P", "PA"):
        _mend_palette(picture, tags)
    is_plain = tags.get(_YCBCR_SUBSAMPLING, (2, 2)) == (1, 1) and _REFERENCE_BLACK_WHITE not in tags
    if picture.mode == "YCbCr" and not is_plain:
        picture._mode = "RGB"
        _use_libtiff(picture, "RGBX")
    elif not uses_libtiff and is_separate(picture) and max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8:
        is_known = picture.mode in ("RGB", "RGBA") and tags.get(_EXTRA_SAMPLES) != (_ASSOCIATED_ALPHA,)
        if not is_known and picture.mode not in ("I;16", "I;16B", "I", "F"):
            raise MediaError("TIFF of separate planes of more than 8 bits; unsupported, store them together")
        if is_known:
            _use_libtiff(picture, f"{picture.mode};16N")


def is_separate(picture: ImageFile) -> bool:
    """Whether each colour is stored in its own plane; for 16 bits Pillow then returns the high bytes only."""
    return bool(picture.tag_v2.get(_PLANAR) == _SEPARATE)  # type: ignore[attr-defined]


def levels(picture: ImageFile) -> Levels | None:
    """Value range of samples with more than 8 bits; None for 8 bits."""
    if picture.mode not in ("I", "I;16", "I;16B", "F"):
        return None
    tags = picture.tag_v2  # type: ignore[attr-defined]
    bits, kind = tags.get(_BITS_PER_SAMPLE, (16,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0]
    top = (1 << bits) - 1
    if picture.mode == "F":
        top = 1
    elif picture.mode == "I" and kind == _SIGNED:
        # Pillow writes its own grey of 16 bits as signed 32.
        top = (1 << 15) - 1 if bits == 16 else 65_535
    return Levels(top, is_inverted=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _mend_palette(picture: ImageFile, tags: Any) -> None:
    from PIL import ImagePalette

    colours = tags[_COLOR_MAP]
    if max(colours) < 256:  # written by programs that take them for 8 bits, as libtiff knows
        picture.palette = ImagePalette.raw("RGB;L", bytes(colours))


def _use_libtiff(picture: ImageFile, raw_mode: str) -> None:
    tags = picture.tag_v2  # type: ignore[attr-defined]
    picture.use_load_libtiff = True  # type: ignore[attr-defined]
    tile = picture.tile[0]
    picture.tile = [
        tile._replace(
            codec_name="libtiff",
            extents=(0, 0, tags[_WIDTH], tags[_HEIGHT]),
            offset=0,
            args=(raw_mode, False, tags.offset),
        )
    ]
