"""Still images: every mode, orientation and shape comes out as it is meant to be seen."""

import io
import warnings

import numpy as np
import pytest
import specimens
from PIL import Image as Pillow
from PIL import ImageOps

from sensorium import media
from sensorium.core.errors import LimitError, MediaError
from sensorium.media.orientation import from_exif

PHOTO = specimens.photo(53, 41)


def opened(picture: Pillow.Image, name: str = "PNG", **options):
    return media.open(specimens.encode(picture, name, **options)).pixels


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "PPM", "QOI", "WEBP", "JPEG2000"])
def test_lossless_formats_give_the_same_pixels(name):
    options = {"lossless": True} if name == "WEBP" else {}
    np.testing.assert_array_equal(opened(Pillow.fromarray(PHOTO), name, **options), PHOTO)


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_come_close(name):
    assert np.abs(opened(Pillow.fromarray(PHOTO), name, quality=95).astype(int) - PHOTO).mean() < 6


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(name, orientation):
    exif = Pillow.Exif()
    exif[274] = orientation
    options = {"lossless": True} if name == "WEBP" else {}
    data = specimens.encode(Pillow.fromarray(PHOTO), name, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))).convert("RGB"))
    pixels = media.open(data).pixels
    np.testing.assert_array_equal(pixels, expected)
    header = media.probe(data)
    assert (header.height_px, header.width_px) == pixels.shape[:2]


@pytest.mark.parametrize("value", [0, 9, 65_535, -1, None, "6", (6,), 6.5])
def test_orientations_that_do_not_exist_are_upright(value):
    assert from_exif(value).apply(PHOTO).shape == PHOTO.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_view_inverts_apply(orientation):
    turn = from_exif(orientation)
    np.testing.assert_array_equal(turn.stored_view(turn.apply(PHOTO)), PHOTO)


def test_exif_after_the_pixels_of_a_png_counts():
    data = specimens.encode(Pillow.fromarray(PHOTO), "PNG")
    exif = Pillow.Exif()
    exif[274] = 6
    turned = specimens.encode(Pillow.fromarray(PHOTO), "PNG", exif=exif)
    start = turned.index(b"eXIf") - 4
    chunk = turned[start : start + 12 + int.from_bytes(turned[start : start + 4], "big")]
    late = data[:-12] + chunk + data[-12:]
    np.testing.assert_array_equal(media.open(late).pixels, np.rot90(PHOTO, -1))


def test_grey_and_one_bit():
    grey = Pillow.fromarray(PHOTO).convert("L")
    np.testing.assert_array_equal(opened(grey), np.repeat(np.asarray(grey)[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(opened(grey.convert("1"))[:, :, 0], np.asarray(grey.convert("1")) * 255)


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_keeps_its_ramp(name):
    """Pillow's own conversion clips at 255 and turns nearly all of it white."""
    ramp = np.linspace(0, 65_535, 53 * 41).astype(np.uint16).reshape(41, 53)
    expected = np.round(ramp / 257).astype(int)
    pixels = opened(Pillow.fromarray(ramp), name)
    np.testing.assert_array_equal(pixels, np.repeat(expected[:, :, None], 3, axis=2))


def test_sixteen_bit_colour_png():
    import struct
    import zlib

    wide = np.random.default_rng(2).integers(0, 65_536, (5, 7, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    from hostile import _chunk

    header = struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )
    assert np.abs(media.open(data).pixels - wide / 257).max() <= 1


def test_transparency_is_laid_onto_white():
    alpha = np.linspace(0, 255, 53 * 41).astype(np.uint8).reshape(41, 53, 1)
    rgba = np.concatenate([PHOTO, alpha], axis=2)
    expected = np.round(PHOTO * (alpha / 255) + 255 * (1 - alpha / 255))
    for name in ("PNG", "TIFF"):
        assert np.abs(opened(Pillow.fromarray(rgba), name) - expected).max() <= 0.5
    grey = Pillow.fromarray(rgba).convert("LA")
    value, cover = np.moveaxis(np.asarray(grey).astype(float), 2, 0)
    assert np.abs(opened(grey)[:, :, 1] - (value * cover / 255 + 255 - cover)).max() <= 0.51


def test_transparent_palettes_and_colour_keys():
    palette = Pillow.new("P", (3, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.putdata([0, 1, 2])
    np.testing.assert_array_equal(
        opened(palette, transparency=1), [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
    )
    pixels = opened(palette, transparency=bytes([255, 0, 128]))
    assert np.abs(pixels[0, 2].astype(int) - [162, 167, 172]).max() <= 1
    keyed = Pillow.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    np.testing.assert_array_equal(opened(keyed, transparency=(1, 2, 3)), [[[255, 255, 255], [4, 5, 6]]])


def test_cmyk():
    cmyk = Pillow.fromarray(PHOTO).convert("CMYK")
    for name in ("JPEG", "TIFF"):
        pixels = opened(cmyk, name, **({"quality": 100} if name == "JPEG" else {}))
        assert np.abs(pixels.astype(int) - PHOTO).mean() < 3


def test_float_images_are_taken_from_zero_to_one():
    values = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    np.testing.assert_allclose(opened(Pillow.fromarray(values), "TIFF")[:, :, 0], values * 255, atol=0.51)
    with pytest.raises(MediaError, match="expected 0 to 1"):
        opened(Pillow.fromarray(values * 255), "TIFF")


@pytest.mark.parametrize("size", [(1, 1), (65_535, 1), (1, 65_535), (3, 20_011)])
def test_extreme_shapes(size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    for target in (None, 224):
        data = specimens.encode(Pillow.fromarray(pixels), "PNG")
        np.testing.assert_array_equal(media.open(data, target_px=target).pixels, pixels)


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
@pytest.mark.parametrize("target", [7, 31, 64, 100, 101, 240, 1000])
def test_target_gives_at_least_twice_as_much_or_all(name, target):
    data = specimens.encode(Pillow.fromarray(specimens.photo(613, 401)), name, quality=95)
    whole, small = media.open(data).pixels, media.open(data, target_px=target).pixels
    assert min(small.shape[:2]) >= min(2 * target, 401)
    assert min(small.shape[:2]) < 4 * target or name == "JPEG" or target < 13
    reference = np.asarray(Pillow.fromarray(whole).resize((40, 26), Pillow.Resampling.BICUBIC), int)
    ours = np.asarray(Pillow.fromarray(small).resize((40, 26), Pillow.Resampling.BICUBIC), int)
    if target >= 31:
        assert np.abs(reference - ours).mean() < 4


def test_reduced_jpeg_is_turned_too():
    exif = Pillow.Exif()
    exif[274] = 6
    data = specimens.encode(Pillow.fromarray(specimens.photo(800, 400)), "JPEG", exif=exif)
    assert media.open(data, target_px=100).pixels.shape == (400, 200, 3)


def test_limits_are_read_from_the_header():
    data = specimens.picture("png")
    with pytest.raises(LimitError, match=r"53x41.*2,173 pixels, limit 2,172.*Limits\(pixels"):
        media.open(data, limits=media.Limits(pixels=53 * 41 - 1))
    with pytest.raises(LimitError):
        media.probe(data, limits=media.Limits(pixels=53 * 41 - 1))
    with pytest.raises(LimitError, match="decoded"):
        media.open(data, limits=media.Limits(decoded_bytes=53 * 41 * 3 - 1))
    assert media.open(data, limits=media.Limits(pixels=53 * 41)).pixels.shape == (41, 53, 3)


@pytest.mark.slow
def test_a_picture_over_pillows_own_limit_opens_where_ours_allows(recwarn):
    from hostile import png

    side = 9500  # 90 MP: Pillow would warn
    image = media.open(
        png(side, side, bytes((side // 8 + 2) * side)), limits=media.Limits(pixels=10**8, decoded_bytes=10**9)
    )
    assert image.pixels.shape == (side, side, 3)
    assert not recwarn.list


def test_silence_does_not_leak_filters():
    from sensorium.media.pillow_fixes import silence

    before = list(warnings.filters)
    with silence, silence:
        warnings.warn("unheard", UserWarning, stacklevel=1)
    assert warnings.filters == before


def test_to_pillow_round_trip():
    image = media.open(specimens.picture("png"))
    assert image.to_pillow().mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image.to_pillow()), image.pixels)
    assert repr(image) == "Image(53x41)"
