"""Decodes Windows and OS/2 bitmaps (BMP): 1 to 32 bits, any colour masks, RLE4 and RLE8.

Input: an open file. Output: RGB or RGBA pixels. The layout follows Microsoft's "Bitmap Storage"
(BITMAPCOREHEADER to BITMAPV5HEADER). Not supported: embedded JPEG or PNG, and OS/2's Huffman and RLE24
compression.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from sensorium.core.errors import MediaError
from sensorium.media.source import Source

_FILE_HEADER_BYTES = 14
_HEADER_SIZES = (12, 16, 24, 40, 48, 52, 56, 64, 108, 124)
_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6
_MASKS_24 = (0xFF0000, 0xFF00, 0xFF, 0)
# Pillow's unpackers are the fastest for the usual layouts; each scales 5 and 6 bits as v * 255 // top.
_RAW_MODES = {
    (24, _MASKS_24): "BGR",
    (32, _MASKS_24): "BGRX",
    (16, (0x7C00, 0x3E0, 0x1F, 0)): "BGR;15",
    (16, (0xF800, 0x7E0, 0x1F, 0)): "BGR;16",
}


@dataclass(frozen=True)
class Bitmap:
    """Header of a bitmap.

    `compression` is 0 for none, 1 for RLE8, 2 for RLE4. `masks` are the bits of red, green, blue and alpha in
    a pixel, unused up to 8 bits. `palette` is (n, 3) RGB, empty from 16 bits on. Pixels begin at `start`.
    """

    width: int
    height: int
    bits: int
    compression: int
    masks: tuple[int, int, int, int]
    palette: np.ndarray
    start: int
    is_top_down: bool

    @property
    def row_bytes(self) -> int:
        """Size of a stored row, in whole words of 32 bits."""
        return (self.width * self.bits + 31) // 32 * 4


def read_header(source: Source) -> Bitmap:
    """Read the header of an open file; MediaError if it is damaged or of a kind that is not read."""
    source.file.seek(0)
    head: bytes = source.file.read(_FILE_HEADER_BYTES + max(_HEADER_SIZES) + 16 + 4 * 256)
    size = int.from_bytes(head[14:18], "little")
    if size not in _HEADER_SIZES or len(head) < _FILE_HEADER_BYTES + size:
        raise MediaError(f"{source.name}: bitmap with a header of {size} bytes; expected 12 to 124, whole")
    fields = head[_FILE_HEADER_BYTES : _FILE_HEADER_BYTES + size].ljust(max(_HEADER_SIZES), b"\0")
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", fields, 4)
        compression = num_colours = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", fields, 4)
        (num_colours,) = struct.unpack_from("<I", fields, 32)
    _check_kind(source.name, bits, compression, is_os2=size in (16, 24, 48, 64))
    at = _FILE_HEADER_BYTES + size
    masks, mask_bytes = _masks(head, size, bits, compression)
    at += mask_bytes
    entry = 3 if size == 12 else 4
    num_colours = min(num_colours or 1 << bits, 256) if bits <= 8 else 0
    palette = np.frombuffer(head[at : at + entry * num_colours].ljust(entry * num_colours, b"\0"), np.uint8)
    (start,) = struct.unpack_from("<I", head, 10)
    if start == 0 or (start == _FILE_HEADER_BYTES + size and bits <= 8):  # some programs forget the palette
        start = at + entry * num_colours
    return Bitmap(
        width,
        abs(height),
        bits,
        _RGB if compression in (_BITFIELDS, _ALPHA_BITFIELDS) else compression,
        masks,
        palette.reshape(-1, entry)[:, 2::-1],
        start,
        height < 0,
    )


def read_pixels(source: Source, header: Bitmap) -> np.ndarray:
    """Decode to uint8 (H, W, 3), or (H, W, 4) where there is alpha; MediaError if they end early."""
    raster = memoryview(source.content())[header.start :]
    if header.compression != _RGB:
        indices = _run_lengths(bytes(raster), header, source.name)
    else:
        needed = header.row_bytes * (header.height - 1) + -(-header.width * header.bits // 8)
        if len(raster) < needed:
            raise MediaError(f"{source.name}: damaged, or it ends early")
        if header.bits > 8:
            return _colours(bytes(raster), header)
        indices = _indices(raster, header)
    from PIL import Image as Pillow

    upright = indices if header.is_top_down else indices[::-1]
    picture = Pillow.frombytes("P", (header.width, header.height), upright.astype(np.uint8).tobytes())
    picture.putpalette(header.palette.tobytes().ljust(3 * 256, b"\0"))
    return np.asarray(picture.convert("RGB"))


def _check_kind(name: str, bits: int, compression: int, *, is_os2: bool) -> None:
    has_masks = compression in (_BITFIELDS, _ALPHA_BITFIELDS) and bits in (16, 24, 32) and not is_os2
    is_plain = compression == _RGB and bits in (1, 2, 4, 8, 16, 24, 32)
    if not (has_masks or is_plain or (compression, bits) in ((_RLE8, 8), (_RLE4, 4))):
        raise MediaError(
            f"{name}: bitmap of {bits} bits with compression {compression}; expected 1 to 32 bits, plain, "
            "with colour masks, or RLE"
        )


def _masks(head: bytes, size: int, bits: int, compression: int) -> tuple[tuple[int, int, int, int], int]:
    """Masks of red, green, blue and alpha, and the bytes that they take behind the header."""
    if compression not in (_BITFIELDS, _ALPHA_BITFIELDS):
        return (0x7C00, 0x3E0, 0x1F, 0) if bits == 16 else _MASKS_24, 0
    count = 4 if size >= 56 or compression == _ALPHA_BITFIELDS else 3
    found = struct.unpack_from(
        f"<{count}I", head.ljust(_FILE_HEADER_BYTES + 56, b"\0"), _FILE_HEADER_BYTES + 40
    )
    masks = (*found[:3], found[3] if count == 4 else 0)
    if bits == 32 and not any(masks):
        masks = (*_MASKS_24[:3], 0xFF000000)
    return masks, 0 if size >= 52 else 4 * count


def _indices(raster: memoryview, header: Bitmap) -> np.ndarray:
    padded = bytes(raster[: header.row_bytes * header.height]).ljust(header.row_bytes * header.height, b"\0")
    rows: np.ndarray = np.frombuffer(padded, np.uint8).reshape(header.height, -1)
    if header.bits < 8:
        shifts = np.arange(8 - header.bits, -1, -header.bits, dtype=np.uint8)
        rows = (rows[:, :, None] >> shifts & (1 << header.bits) - 1).reshape(header.height, -1)
    return rows[:, : header.width]


def _colours(raster: bytes, header: Bitmap) -> np.ndarray:
    from PIL import Image as Pillow

    size, row_bytes = (header.width, header.height), header.row_bytes
    raster = raster[: row_bytes * header.height].ljust(row_bytes * header.height, b"\0")
    raw_mode = _RAW_MODES.get((header.bits, header.masks))
    if raw_mode is not None:
        direction = 1 if header.is_top_down else -1
        return np.asarray(Pillow.frombytes("RGB", size, raster, "raw", raw_mode, row_bytes, direction))
    rows: np.ndarray = np.frombuffer(raster, np.uint8).reshape(header.height, row_bytes)
    step = header.bits // 8
    rows = rows[:, : header.width * step].reshape(header.height, header.width, step)
    pixels = np.zeros((header.height, header.width, 4 if header.masks[3] else 3), np.uint8)
    words = np.zeros((header.height, header.width), np.uint32)
    for byte in range(step):
        words |= rows[:, :, byte].astype(np.uint32) << (8 * byte)
    for channel, mask in enumerate(header.masks[: pixels.shape[2]]):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            top = mask >> shift
            samples = ((words & mask) >> shift).astype(np.float64)
            pixels[:, :, channel] = np.rint(samples * (255 / top))
    return pixels if header.is_top_down else pixels[::-1]


def _run_lengths(data: bytes, header: Bitmap, name: str) -> np.ndarray:
    """Indices (H, W) of RLE4 or RLE8, as stored; what no run covers is 0."""
    width, height, is_rle4 = header.width, header.height, header.compression == _RLE4
    indices = bytearray(width * height)
    x = y = at = 0
    while y < height and at + 1 < len(data):
        count, value, at = data[at], data[at + 1], at + 2
        if count == 0 and value == 0:
            x, y = 0, y + 1
            continue
        if count == 0 and value == 1:
            return np.frombuffer(indices, np.uint8).reshape(height, width)
        if count == 0 and value == 2:
            right, up = data[at : at + 2].ljust(2, b"\0")
            x, y, at = x + right, y + up, at + 2
            continue
        if count == 0:
            stored = -(-value // 2) if is_rle4 else value
            run = data[at : at + stored]
            count, at = value, at + stored + (stored & 1)
        else:
            run = data[at - 1 : at] * count
        if is_rle4:
            run = bytes(half for pair in run for half in (pair >> 4, pair & 0xF))
        run = run[: min(count, max(0, width - x))]
        indices[y * width + x : y * width + x + len(run)] = run
        x += count
    if y < height - 1 or (y == height - 1 and x < width):
        raise MediaError(f"{name}: damaged, or it ends early, in row {y + 1} of {height}")
    return np.frombuffer(indices, np.uint8).reshape(height, width)
