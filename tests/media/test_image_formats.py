"""Pictures of every depth and kind, written from the specifications: each pixel has the value these give."""

import io
import struct
import zlib

import numpy as np
import pytest
import specimens
from PIL import Image as Pillow

import picture_files
from picture_files import chunk, gif_frame, packed
from sensorium import media
from sensorium.core.errors import LimitError, MediaError

WHITE = 255


def grey(data: bytes, **options) -> list[list[int]]:
    """The red channel of what opens alike here and in a worker, where probe says the same size."""
    pixels = agreed(data, **options)
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[:, :, 0].tolist()


def agreed(data: bytes, **options) -> np.ndarray:
    pixels = media.open(data, **options).pixels
    np.testing.assert_array_equal(pixels, media.open(data, isolate=True, **options).pixels)
    header = media.probe(data)
    assert (header.kind, header.height_px, header.width_px) == ("image", *pixels.shape[:2])
    return pixels


def to_8_bits(samples: np.ndarray, top: int) -> np.ndarray:
    """PNG, section 13.12: scaled linearly and rounded."""
    return np.floor(samples.astype(float) * 255 / top + 0.5).astype(int)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("high_bits", [0, 1])
def test_grey_png_with_a_colour_key(depth, high_bits):
    """PNG, section 11.3.2.1: what equals the key is transparent; only its lower `depth` bits count."""
    top = (1 << depth) - 1
    samples = np.array([[0, top, top // 3, top // 3 * 2, 1]], np.uint16)
    key = top // 3
    stored_key = key | (high_bits << depth if depth < 16 else 0)
    data = picture_files.png(samples, depth, 0, before=[(b"tRNS", struct.pack(">H", stored_key))])
    expected = np.where(samples == key, WHITE, to_8_bits(samples, top))
    assert grey(data) == expected.tolist()


@pytest.mark.parametrize("depth", [8, 16])
def test_colour_png_with_a_colour_key(depth):
    top = (1 << depth) - 1
    key = [top // 3, 5, top - 7]
    samples = np.array([key, [top // 3, 5, top - 8], [top // 3, 6, top - 7], [0, 0, 0]], np.uint16)
    data = picture_files.png(samples.reshape(1, -1), depth, 2, before=[(b"tRNS", struct.pack(">3H", *key))])
    expected = to_8_bits(samples, top)
    expected[0] = WHITE
    assert agreed(data)[0].tolist() == expected.tolist()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_png_with_alpha(depth):
    count = min(1 << depth, 4)
    colours = np.arange(3 * count, dtype=np.uint8).reshape(-1, 3) * 9
    alphas = np.array([0, 255, 128, 51], np.uint8)[:count]
    before = [(b"PLTE", colours.tobytes()), (b"tRNS", alphas.tobytes())]
    data = picture_files.png(np.arange(count, dtype=np.uint16)[None], depth, 3, before=before)
    cover = alphas[:, None] / 255
    np.testing.assert_allclose(agreed(data)[0], colours * cover + WHITE * (1 - cover), atol=0.51)


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_sixteen_bits_are_rounded(colour):
    channels = picture_files.PNG_CHANNELS[colour]
    wide = np.random.default_rng(colour).integers(0, 65_536, (13, 17, channels), np.uint16)
    wide[0, :9] = np.array([0, 127, 128, 129, 255, 256, 257, 65_407, 65_535])[:, None]
    pixels = agreed(picture_files.png(wide.reshape(13, -1), 16, colour))
    colours = wide[:, :, : 1 if channels < 3 else 3].astype(float)
    cover = wide[:, :, -1:] / 65_535 if channels in (2, 4) else 1.0
    expected = np.floor((colours * cover + 65_535 * (1 - cover)) * 255 / 65_535 + 0.5)
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected, pixels.shape))


def test_sixteen_bit_colours_made_smaller():
    wide = np.full((800, 900, 3), 30_000, np.uint16)
    pixels = media.open(picture_files.png(wide.reshape(800, -1), 16, 2), target_px=100).pixels
    assert pixels.shape[0] == 200
    assert np.abs(pixels.astype(int) - 117).max() <= 1


def test_png_without_its_end_chunk():
    samples = np.arange(35, dtype=np.uint16).reshape(5, 7)
    data = picture_files.png(samples, 8, 0, is_ended=False)
    assert grey(data) == samples.tolist()
    assert grey(data[:-4]) == samples.tolist()  # nor the checksum of its pixels


def test_exif_after_the_pixels_counts_for_probe_too():
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 1, 6) + bytes(4)
    samples = np.arange(35, dtype=np.uint16).reshape(5, 7)
    data = picture_files.png(samples, 8, 0, after=[(b"eXIf", exif)])
    assert grey(data) == np.rot90(samples, -1).tolist()
    assert grey(
        data.replace(exif, exif[:5] + bytes(len(exif) - 5))[:-12]
    )  # damaged: upright, or refused alike


def grey_tiff(samples, bits, photometric, *, order="<", kind=1, **tags):
    rows = packed(samples, bits, order) if bits != 12 else packed(samples, 12)
    more = {258: ("H", [bits]), 262: ("H", [photometric]), 277: ("H", [1]), 339: ("H", [kind])}
    return picture_files.tiff([b"".join(rows)], samples.shape[1::-1], order=order, tags=more | tags)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_tiff(bits, photometric, order):
    """TIFF 6.0, section 3: PhotometricInterpretation 0 is WhiteIsZero, 1 BlackIsZero."""
    if (bits, photometric, order) == (16, 0, ">"):
        pytest.skip("refused, see test_what_tiff_is_refused")
    top = (1 << bits) - 1
    samples = np.linspace(0, top, 24).round().astype(np.uint16).reshape(3, 8)
    expected = to_8_bits(samples if photometric else top - samples, top)
    data = grey_tiff(samples, bits, photometric, order=order)
    assert grey(data) == expected.tolist()


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_grey_tiff_deflated(bits, photometric):
    top = (1 << bits) - 1
    samples = np.linspace(0, top, 24).round().astype(np.uint16).reshape(3, 8)
    rows = zlib.compress(b"".join(packed(samples, bits, "<")))
    tags = {258: ("H", [bits]), 262: ("H", [photometric]), 277: ("H", [1]), 259: ("H", [8])}
    expected = to_8_bits(samples if photometric else top - samples, top)
    assert grey(picture_files.tiff([rows], (8, 3), tags=tags)) == expected.tolist()


def test_twelve_bit_tiff_reaches_white():
    samples = np.array([[0, 1000, 2048, 4095]], np.uint16)
    assert grey(grey_tiff(samples, 12, 1)) == to_8_bits(samples, 4095).tolist()


def test_tiff_of_32_bits():
    wide = np.array([[0, 1 << 24, 3 << 30, (1 << 32) - 1]], np.uint32)
    assert grey(grey_tiff(wide, 32, 1)) == to_8_bits(wide, (1 << 32) - 1).tolist()
    signed = np.array([[0, 257, 65_535]], np.int32)
    assert grey(grey_tiff(signed, 32, 1, kind=2)) == [[0, 1, 255]]
    for value in (-1, 65_536):
        with pytest.raises(MediaError, match="expected 0 to 65535"):
            media.open(grey_tiff(np.array([[value]], np.int32), 32, 1, kind=2))


def test_signed_tiff_of_16_bits():
    samples = np.array([[0, 16_384, 32_767]], np.uint16)
    assert grey(grey_tiff(samples, 16, 1, kind=2)) == to_8_bits(samples, 32_767).tolist()
    with pytest.raises(MediaError, match="expected 0 to 32767"):
        media.open(grey_tiff(np.array([[40_000]], np.uint16), 16, 1, kind=2))


@pytest.mark.parametrize("photometric", [0, 1])
def test_float_tiff(photometric):
    samples = np.array([[0, 0.25, 0.5, 1]], np.float32)
    expected = to_8_bits(samples if photometric else 1 - samples, 1)
    assert np.abs(np.array(grey(grey_tiff(samples, 32, photometric, kind=3))) - expected).max() <= 1
    for wrong in (np.nan, np.inf, -0.5, 2):
        with pytest.raises(MediaError, match="expected"):
            media.open(grey_tiff(np.full((1, 3), wrong, np.float32), 32, photometric, kind=3))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [1, 2])
def test_colour_tiff(bits, order, planar):
    top = (1 << bits) - 1
    samples = np.random.default_rng(bits).integers(0, top + 1, (5, 7, 3), np.uint16)
    planes = [samples.reshape(5, -1)] if planar == 1 else list(np.moveaxis(samples, 2, 0))
    strips = [b"".join(packed(plane, bits, order)) for plane in planes]
    tags = {258: ("H", [bits] * 3), 262: ("H", [2]), 277: ("H", [3]), 284: ("H", [planar])}
    data = picture_files.tiff(strips, (7, 5), order=order, tags=tags)
    # Of wide planes only the upper bytes are read.
    most = 1 if (bits, planar) == (16, 2) else 0
    np.testing.assert_allclose(agreed(data).astype(int), to_8_bits(samples, top), atol=most)
    data = picture_files.tiff(
        [zlib.compress(strip) for strip in strips], (7, 5), order=order, tags=tags | {259: ("H", [8])}
    )
    np.testing.assert_allclose(agreed(data).astype(int), to_8_bits(samples, top), atol=most)


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_with_alpha(bits):
    top = (1 << bits) - 1
    samples = np.random.default_rng(bits).integers(0, top + 1, (5, 7, 4), np.uint16)
    tags = {258: ("H", [bits] * 4), 262: ("H", [2]), 277: ("H", [4]), 338: ("H", [2])}
    data = picture_files.tiff([b"".join(packed(samples.reshape(5, -1), bits, "<"))], (7, 5), tags=tags)
    cover = samples[:, :, 3:] / top
    expected = (samples[:, :, :3] * cover + top * (1 - cover)) * 255 / top
    np.testing.assert_allclose(agreed(data), expected, atol=0.51)


@pytest.mark.parametrize("scale", [257, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_tiff(bits, scale):
    """ColorMap holds 16 bits a colour; some programs write 8, as libtiff knows."""
    count = 1 << bits
    colours = np.random.default_rng(bits).integers(0, 256, (3, count))
    samples = np.arange(count, dtype=np.uint16)[None]
    tags = {
        258: ("H", [bits]),
        262: ("H", [3]),
        277: ("H", [1]),
        320: ("H", (colours * scale).ravel().tolist()),
    }
    data = picture_files.tiff([b"".join(packed(samples, bits))], (count, 1), tags=tags)
    np.testing.assert_array_equal(agreed(data)[0], colours.T)


def test_cmyk_tiff():
    """TIFF 6.0, section 16: 0 is no ink."""
    inks = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]], np.uint16)
    tags = {258: ("H", [8] * 4), 262: ("H", [5]), 277: ("H", [4])}
    data = picture_files.tiff([inks.astype(np.uint8).tobytes()], (5, 1), tags=tags)
    assert agreed(data)[0].tolist() == [[255] * 3, [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]


def ycbcr_to_rgb(y, cb, cr):
    """ITU-R BT.601, full range."""
    rgb = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    return np.clip(np.stack(rgb, axis=-1), 0, 255)


def test_ycbcr_tiff():
    """TIFF 6.0, section 21: data units of subsampled pictures hold all their Y, then Cb and Cr."""
    y = np.arange(16).reshape(4, 4) * 10 + 50
    cb, cr = np.array([[100, 150], [128, 90]]), np.array([[140, 128], [100, 160]])
    units = [
        [*y[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel(), cb[row, col], cr[row, col]]
        for row in range(2)
        for col in range(2)
    ]
    tags = {258: ("H", [8] * 3), 262: ("H", [6]), 277: ("H", [3]), 530: ("H", [2, 2])}
    data = picture_files.tiff([bytes(int(value) for unit in units for value in unit)], (4, 4), tags=tags)
    double = np.ones((2, 2))
    expected = ycbcr_to_rgb(y, np.kron(cb, double), np.kron(cr, double))
    assert np.abs(agreed(data) - expected).max() <= 2
    pixels = np.stack([y, np.kron(cb, double), np.kron(cr, double)], axis=2).astype(np.uint8)
    data = picture_files.tiff([pixels.tobytes()], (4, 4), tags=tags | {530: ("H", [1, 1])})
    assert np.abs(agreed(data) - expected).max() <= 2


def test_lab_tiff():
    """Greys stay grey, and primaries of sRGB come back (their values at D50, adapted by Bradford)."""
    lab = np.array([[255, 0, 0], [0, 0, 0], [137, 0, 0], [138, 81, 70], [224, -79, 81], [75, 68, -112]])
    tags = {258: ("H", [8] * 3), 262: ("H", [8]), 277: ("H", [3])}
    data = picture_files.tiff([lab.astype(np.uint8).tobytes()], (6, 1), tags=tags)
    expected = [[255] * 3, [0] * 3, [128] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    pixels = agreed(data)[0].astype(int)
    assert np.abs(pixels - expected).max() <= 10  # steps of a and b are coarse for a dark red
    assert np.abs(pixels[:3] - expected[:3]).max() <= 1


@pytest.mark.parametrize(
    "data",
    [
        grey_tiff(np.zeros((1, 3), np.uint16), 16, 0, order=">"),
        grey_tiff(np.zeros((1, 3), np.uint32), 32, 1, order=">"),
        grey_tiff(np.zeros((1, 3), np.float64), 64, 1, kind=3),
    ],
)
def test_what_tiff_is_refused(data):
    with pytest.raises(MediaError, match="unsupported"):
        media.open(data)


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 99, 199)]


@pytest.mark.parametrize("header_bytes", [12, 40, 56, 64, 108, 124])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_bitmap(bits, header_bytes):
    palette = COLOURS[: 1 << bits] if header_bytes > 12 else (COLOURS * 64)[: 1 << bits]
    indices = np.arange(35, dtype=np.uint16).reshape(5, 7) % min(4, 1 << bits)
    rows = packed(indices[::-1], bits)
    data = picture_files.bmp(rows, (7, 5), bits, palette=palette, header_bytes=header_bytes)
    np.testing.assert_array_equal(agreed(data), np.array(COLOURS)[indices])


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_black_and_white_bitmap_of_any_depth(bits):
    indices = np.arange(35, dtype=np.uint16).reshape(5, 7) % 2
    data = picture_files.bmp(packed(indices, bits), (7, -5), bits, palette=[(0, 0, 0), (255, 255, 255)])
    assert grey(data) == (indices * 255).tolist()


def test_grey_palette_of_four_bits():
    indices = np.arange(16, dtype=np.uint16).reshape(2, 8)
    data = picture_files.bmp(packed(indices[::-1], 4), (8, 2), 4, palette=[(i, i, i) for i in range(16)])
    assert grey(data) == indices.tolist()


MASKS = [
    (16, (0x7C00, 0x3E0, 0x1F)),
    (16, (0xF800, 0x7E0, 0x1F)),
    (16, (0xF00, 0xF0, 0xF, 0xF000)),
    (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    (24, (0xFF0000, 0xFF00, 0xFF)),
    (24, (0xFF, 0xFF00, 0xFF0000)),
    (32, (0xFF0000, 0xFF00, 0xFF)),
    (32, (0xFF, 0xFF00, 0xFF0000)),
    (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
]


@pytest.mark.parametrize(("bits", "masks"), MASKS)
def test_bitmap_of_any_colour_masks(bits, masks):
    words = np.random.default_rng(bits).integers(0, 1 << bits, (5, 7), np.uint64)
    rows = [b"".join(int(word).to_bytes(bits // 8, "little") for word in row) for row in words[::-1]]
    samples = [(words & mask) / mask for mask in masks]
    cover = samples[3] if len(masks) == 4 else 1.0
    expected = [(sample * cover + 1 - cover) * 255 for sample in samples[:3]]
    header_bytes = 108 if len(masks) == 4 else 40
    data = picture_files.bmp(rows, (7, 5), bits, compression=3, masks=masks, header_bytes=header_bytes)
    assert np.abs(agreed(data) - np.stack(expected, axis=2)).max() <= 1


def test_bitmap_without_masks_has_no_alpha():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    data = picture_files.bmp([row.tobytes() for row in pixels], (7, -5), 32)
    np.testing.assert_array_equal(agreed(data), pixels[:, :, 2::-1])
    data = picture_files.bmp([row[:, :3].tobytes() for row in pixels[::-1]], (7, 5), 24)
    np.testing.assert_array_equal(agreed(data), pixels[:, :, 2::-1])


def test_run_lengths():
    """Encoded and absolute runs, an empty row, a delta, an end before the last row; what is left out is 0."""
    stream = [bytes([3, 1, 2, 2, 0, 0]), b"\0\0", b"\0\2\1\0" + bytes([0, 3, 1, 2, 3, 0]), b"\0\0\0\1"]
    data = picture_files.bmp(stream, (5, 4), 8, compression=1, palette=COLOURS)
    indices = np.array([[1, 1, 1, 2, 2], [0] * 5, [0, 1, 2, 3, 0], [0] * 5])
    np.testing.assert_array_equal(agreed(data), np.array(COLOURS)[indices[::-1]])
    stream = [bytes([5, 0x12, 0, 0]), bytes([0, 5, 0x12, 0x31, 0x20, 0]), b"\0\1"]
    data = picture_files.bmp(stream, (5, 2), 4, compression=2, palette=COLOURS)
    indices = np.array([[1, 2, 1, 2, 1], [1, 2, 3, 1, 2]])
    np.testing.assert_array_equal(agreed(data), np.array(COLOURS)[indices[::-1]])
    with pytest.raises(MediaError, match="ends early"):
        media.open(data[:-9])


@pytest.mark.parametrize("cut", [1, 4, 30])
def test_bitmaps_that_end_early(cut):
    data = picture_files.bmp([bytes(range(20))] * 5, (5, 5), 32)
    with pytest.raises(MediaError, match="ends early"):
        media.open(data[:-cut])


@pytest.mark.parametrize("maxval", [1, 2, 7, 100, 255, 256, 1000, 65_535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_netpbm_of_any_maximum(kind, maxval):
    channels = 3 if kind in (3, 6) else 1
    samples = np.random.default_rng(maxval).integers(0, maxval + 1, (5, 7 * channels), np.uint16)
    header = b"P%d # made by hand\n7\n# rows\n5 %d\n" % (kind, maxval)
    if kind < 4:
        raster = b"\n".join(b" ".join(b"%d" % sample for sample in row) for row in samples) + b"\n"
    else:
        raster = b"".join(packed(samples, 16 if maxval > 255 else 8))
    expected = np.broadcast_to(np.rint(samples / maxval * 255).reshape(5, 7, channels), (5, 7, 3))
    np.testing.assert_array_equal(agreed(header + raster), expected)
    np.testing.assert_array_equal(agreed(header + raster + b"\nmore"), expected)
    with pytest.raises(MediaError, match="early"):
        media.open((header + raster).rstrip(b"\n0123456789") if kind < 4 else (header + raster)[:-1])


def test_bitmaps_of_netpbm():
    bits = np.random.default_rng(1).integers(0, 2, (5, 11), np.uint16)
    plain = b"P1\n11 5\n" + b"\n".join(b"".join(b"%d" % bit for bit in row) for row in bits)
    assert grey(plain) == ((1 - bits) * 255).tolist()
    assert grey(b"P4\n11 5\n" + b"".join(packed(bits, 1))) == ((1 - bits) * 255).tolist()
    with pytest.raises(MediaError, match="0 and 1"):
        media.open(plain[:-1] + b"2")


def test_netpbm_with_a_long_comment():
    for kind, raster in ((b"P3", b"1 2 3 4 5 6"), (b"P6", bytes(range(1, 7)))):
        data = kind + b"\n#" + b" long" * 5000 + b"\n2 1 255\n" + raster
        assert agreed(data).tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_netpbm_refuses_wrong_numbers():
    for data in (b"P2\n2 1\n9\n3 10", b"P2\n2 1\n0\n0 0", b"P5\n2 1\n70000\nabcd", b"P2\n0 3\n5\n"):
        with pytest.raises(MediaError):
            media.open(data)
    with pytest.raises(LimitError):
        media.open(b"P5\n99999 99999\n255\n")


def test_gif_with_a_frame_smaller_than_its_screen():
    """GIF89a, section 18: the background colour is shown where no image covers the screen."""
    inner = np.array([[1, 2], [3, 1]])
    data = picture_files.gif([gif_frame(inner, 1, 1)], (4, 4), COLOURS, background=2)
    expected = np.full((4, 4), 2)
    expected[1:3, 1:3] = inner
    np.testing.assert_array_equal(agreed(data), np.array(COLOURS)[expected])
    data = picture_files.gif([gif_frame(inner, 1, 1, key=3)], (4, 4), COLOURS, background=2)
    pixels = agreed(data)
    assert (pixels[0] == WHITE).all()
    assert pixels[1, 1:3].tolist() == [list(COLOURS[1]), list(COLOURS[2])]
    assert pixels[2, 1].tolist() == [WHITE] * 3


def test_animated_gif_of_partial_frames():
    frames = [gif_frame(np.full((4, 4), 1)), gif_frame(np.array([[2, 3]]), 1, 2)]
    video = media.open(picture_files.gif(frames, (4, 4), COLOURS))
    second = np.full((4, 4), 1)
    second[2, 1:3] = [2, 3]
    np.testing.assert_array_equal(video.frames, np.array(COLOURS)[[np.full((4, 4), 1), second]])


def test_gif_without_its_trailer():
    whole = picture_files.gif([gif_frame(np.array([[1, 2], [3, 1]]))], (2, 2), COLOURS)
    for data in (whole[:-1], whole[:-2]):
        np.testing.assert_array_equal(agreed(data), agreed(whole))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_without_its_end_marker(mode, options):
    whole = specimens.encode(Pillow.fromarray(specimens.photo(613, 401)).convert(mode), "JPEG", **options)
    assert whole.endswith(b"\xff\xd9")
    for target in (None, 64):
        np.testing.assert_array_equal(
            agreed_pixels(whole[:-2], target), media.open(whole, target_px=target).pixels
        )
    np.testing.assert_array_equal(media.open(whole[:-1]).pixels, media.open(whole).pixels)
    for cut in (12, 100, len(whole) // 2):
        with pytest.raises(MediaError, match="truncated"):
            media.open(whole[:-cut])


def agreed_pixels(data: bytes, target: int | None) -> np.ndarray:
    pixels = media.open(data, target_px=target).pixels
    np.testing.assert_array_equal(pixels, media.open(data, target_px=target, isolate=True).pixels)
    return pixels


def many_scans(count: int) -> bytes:
    whole = specimens.encode(Pillow.new("RGB", (64, 64), (9, 99, 199)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def with_segments(data: bytes, segments: list[tuple[int, bytes]]) -> bytes:
    added = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(part) + 2) + part for marker, part in segments
    )
    return data[:2] + added + data[2:]


SCANS = b"\xff\xda" * 20_000
JPEG = specimens.picture("jpeg")
XMP = b"http://ns.adobe.com/xap/1.0/\0" + b"\xff\xda" * 30_000
TRAILERS = {
    "movie": SCANS + b"\0\0\0\x18ftypmp42",
    "jpeg": JPEG * 3,
    "many scans": many_scans(500),
    "zip": b"PK\x03\x04" + SCANS,
    "zeros": bytes(10_000),
    "png chunks": b"".join(chunk(name, bytes(26)) for name in (b"acTL", b"fcTL", b"fcTL", b"IDAT")),
    "webp chunks": (b"ANMF" + struct.pack("<I", 16) + bytes(16)) * 3,
    "gif frames": picture_files.gif([gif_frame(np.array([[1, 2]]))] * 3, (2, 1), COLOURS)[25:],
}


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize(
    "name", ["jpeg", "png", "gif", "webp", "tiff", "bmp", "avif", "ppm", "qoi", "ico", "jpeg2000"]
)
def test_what_follows_a_picture_does_not_count(name, trailer):
    """Motion photos, gain maps, archives: whatever stands behind a picture's end is not part of it."""
    whole = specimens.picture(name)
    pixels = media.open(whole).pixels
    np.testing.assert_array_equal(media.open(whole + TRAILERS[trailer]).pixels, pixels)
    assert media.probe(whole + TRAILERS[trailer]).num_frames == 1


@pytest.mark.parametrize("trailer", ["movie", "png chunks", "webp chunks", "gif frames"])
@pytest.mark.parametrize("name", ["gif", "webp", "apng"])
def test_what_follows_an_animation_does_not_count(name, trailer):
    whole = specimens.animation(name)
    data = whole + TRAILERS[trailer] + whole
    assert media.probe(data).num_frames == 12
    np.testing.assert_array_equal(media.open(data).frames, media.open(whole).frames)


def test_scans_are_counted_in_the_picture_alone():
    inside = with_segments(JPEG, [(0xE1, XMP)] * 4 + [(0xFE, SCANS)])
    np.testing.assert_array_equal(agreed(inside), media.open(JPEG).pixels)
    for data in (many_scans(500), with_segments(many_scans(101), [(0xE1, XMP)]), many_scans(101) + JPEG):
        with pytest.raises(MediaError, match="scans"):
            media.open(data)
    assert agreed(many_scans(80)).shape == (64, 64, 3)


def test_metadata_of_megabytes():
    noise = np.random.default_rng(3).bytes(3 << 20)
    profile = np.random.default_rng(4).bytes(2 << 20)
    exif = [(0xE1, b"Exif\0\0MM\0*\0\0\0\x08" + bytes(60_000))] * 20
    icc = [(0xE2, b"ICC_PROFILE\0" + bytes([number, 60]) + noise[:60_000]) for number in range(1, 61)]
    np.testing.assert_array_equal(agreed(with_segments(JPEG, exif + icc)), media.open(JPEG).pixels)
    samples = np.arange(35, dtype=np.uint16).reshape(5, 7)
    text = b"A long prompt, " * 200_000
    for before in (
        (b"tEXt", b"prompt\0" + text),
        (b"zTXt", b"prompt\0\0" + zlib.compress(text)),
        (b"iTXt", b"prompt\0\0\0\0\0" + text),
        (b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(text)),
        (b"iCCP", b"profile\0\0" + zlib.compress(profile)),
        (b"prVt", noise),
    ):
        assert grey(picture_files.png(samples, 8, 0, before=[before])) == samples.tolist()
        assert grey(picture_files.png(samples, 8, 0, after=[before])) == samples.tolist()
    webp = specimens.picture("webp")
    body = (
        b"WEBPVP8X"
        + struct.pack("<I", 10)
        + b"\x20\0\0\0"
        + (52).to_bytes(3, "little")
        + (40).to_bytes(3, "little")
    )
    body += b"ICCP" + struct.pack("<I", len(noise)) + noise + webp[12:]
    np.testing.assert_array_equal(
        agreed(b"RIFF" + struct.pack("<I", len(body)) + body), media.open(webp).pixels
    )


def test_more_chunks_than_a_picture_has():
    junk = chunk(b"prVt", b"") * (1 << 18)
    data = picture_files.png(np.zeros((1, 1), np.uint16), 8, 0)
    with pytest.raises(MediaError, match="chunks"):
        media.open(data[:33] + junk + data[33:])


def test_more_segments_than_a_picture_has():
    with pytest.raises(MediaError, match="segments"):
        media.open(with_segments(JPEG, [(0xE1, b"")] * 20_000))


@pytest.mark.parametrize("inner", [(16, 16), (48, 32), (256, 256)])
def test_icons_have_the_size_of_their_picture(inner):
    """The directory may say another size than the picture within."""
    picture = specimens.encode(Pillow.new("RGBA", inner, (1, 2, 3, 255)), "PNG")
    data = b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 22) + picture
    assert agreed(data).shape == (inner[1], inner[0], 3)


def test_adobe_marker_of_cmyk_jpegs():
    """CMYK and YCCK from programs of Adobe are stored inverted; Pillow writes and libjpeg reads them so."""
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], np.uint8)
    picture = Pillow.fromarray(np.repeat(np.repeat(inks, 16, 0), 16, 1), "CMYK")
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in out.getvalue()
    pixels = agreed(out.getvalue())[8, 8::16].astype(int)
    assert np.abs(pixels - [[255] * 3, [0, 255, 255], [255, 0, 0], [0, 0, 0]]).max() <= 3
