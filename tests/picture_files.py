"""Pictures written byte by byte from the formats' specifications, so that no library's view is the judge."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by PNG's colour type."""


def packed(samples: np.ndarray, bits: int, order: str = ">") -> list[bytes]:
    """Rows of samples (H, n), each packed from the highest bit and filled up to a whole byte."""
    if bits == 16:
        return [row.astype(f"{order}u2").tobytes() for row in samples]
    if bits in (32, 64):
        return [row.astype(row.dtype.newbyteorder(order)).tobytes() for row in samples]
    shifts = np.arange(bits - 1, -1, -1)
    return [np.packbits(row[:, None] >> shifts & 1).tobytes() for row in samples]


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    samples: np.ndarray,
    depth: int,
    colour: int,
    *,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
    is_ended: bool = True,
) -> bytes:
    """A PNG of samples (H, W * channels), with chunks before and after the pixels."""
    height, width = len(samples), samples.shape[1] // PNG_CHANNELS[colour]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row for row in packed(samples, depth))
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), *after]
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in chunks)
    return whole + chunk(b"IEND", b"") if is_ended else whole


_TYPES = {"H": 3, "I": 4, "B": 1}


def tiff(
    strips: Sequence[bytes],
    size: tuple[int, int],
    *,
    order: str = "<",
    tags: dict[int, tuple[str, Sequence[int]]],
) -> bytes:
    """A TIFF of one page.

    Args:
        strips: The pixels, uncompressed unless `tags` say otherwise.
        size: Width and height.
        order: `<` (II) or `>` (MM).
        tags: Further tags: kind (`B`, `H`, `I`) and values.
    """
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    whole = {256: ("I", [size[0]]), 257: ("I", [size[1]]), 259: ("H", [1]), 278: ("I", [size[1]])}
    whole |= {279: ("I", [len(strip) for strip in strips]), **tags}
    at = 8 + 2 + 12 * (len(whole) + 1) + 4
    offsets, data = [], b""
    for strip in strips:
        offsets.append(at + len(data))
        data += strip + b"\0" * (len(strip) % 2)
    whole[273] = ("I", offsets)
    directory = struct.pack(f"{order}H", len(whole))
    for tag, (kind, values) in sorted(whole.items()):
        content = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(content) > 4:
            content, data = (
                struct.pack(f"{order}I", at + len(data)),
                data + content + b"\0" * (len(content) % 2),
            )
        directory += struct.pack(f"{order}HHI", tag, _TYPES[kind], len(values)) + content.ljust(4, b"\0")
    return head + directory + struct.pack(f"{order}I", 0) + data


def bmp(
    rows: Sequence[bytes],
    size: tuple[int, int],
    bits: int,
    *,
    compression: int = 0,
    palette: Sequence[tuple[int, int, int]] = (),
    masks: Sequence[int] = (),
    header_bytes: int = 40,
) -> bytes:
    """A bitmap of stored rows (filled up to 32 bits), or of one run-length stream; height may be negative."""
    width, height = size
    if compression in (1, 2):
        pixels = b"".join(rows)
    else:
        pixels = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack(
            "<IiiHHIIiiII",
            header_bytes,
            width,
            height,
            1,
            bits,
            compression,
            len(pixels),
            0,
            0,
            len(palette),
            0,
        )
    header += struct.pack(f"<{len(masks)}I", *masks)
    if header_bytes > 40:
        header = header.ljust(header_bytes, b"\0")
    pad = b"" if header_bytes == 12 else b"\0"
    header += b"".join(bytes(colour[::-1]) + pad for colour in palette)
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


def gif_frame(
    indices: np.ndarray, left: int = 0, top: int = 0, key: int | None = None, disposal: int = 0
) -> bytes:
    """One image of a GIF (H, W) of 2-bit indices at a place; LZW with a clear code before each two pixels."""
    codes: list[int] = []
    for start in range(0, indices.size, 2):
        codes += [4, *indices.reshape(-1)[start : start + 2].tolist()]
    bits = "".join(f"{code:03b}"[::-1] for code in [*codes, 5])
    data = bytes(int(bits[at : at + 8][::-1].rjust(8, "0"), 2) for at in range(0, len(bits), 8))
    blocks = b"".join(
        bytes([len(part)]) + part for part in (data[at : at + 255] for at in range(0, len(data), 255))
    )
    control = bytes([0x21, 0xF9, 4, disposal << 2 | (key is not None), 7, 0, key or 0, 0])
    height, width = indices.shape
    return control + b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x02" + blocks + b"\0"


def gif(
    frames: Sequence[bytes],
    size: tuple[int, int],
    colours: Sequence[tuple[int, int, int]],
    background: int = 0,
) -> bytes:
    """A GIF of frames with a global palette of four colours."""
    screen = struct.pack("<HHBBB", *size, 0x81, background, 0)
    return b"GIF89a" + screen + b"".join(bytes(colour) for colour in colours) + b"".join(frames) + b";"
