"""Decodes Netpbm images (PBM, PGM, PPM; `P1` to `P6`; netpbm.sourceforge.net/doc/pbm.html).

Input: an open file. Output: grey (H, W) or RGB (H, W, 3) pixels; maxima from 1 to 65,535 are scaled to 255.
Bytes after the raster are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from sensorium.core.errors import MediaError
from sensorium.media.source import HEAD_BYTES, Source

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(
    rb"P(?:(?P<bits>[14])%b(\d{1,9})%b(\d{1,9})|[2356]%b(\d{1,9})%b(\d{1,9})%b(\d{1,5}))(?:\s|$)"
    % ((_GAP,) * 5)
)
_STARTS = re.compile(rb"P[1-6]\s+(?:#|\d)")
_PLAIN_RASTER = re.compile(rb"(?:[\d\s]|#[^\r\n]*(?:[\r\n]|$))*")
# How programs write the header; in one line it might as well be prose.
_LINES = re.compile(rb"P[1-6]\r?\n(?:#[^\r\n]*\r?\n)*\d+[ \t]+\d+\r?\n(?:\d+\r?\n)?")
_FIRST_LINE = re.compile(rb"P[1-3][ \t]*(?:#[^\r\n]*)?[\r\n]")
_LONG_COMMENT = re.compile(rb"P[1-6]\s(?:[\s\d]|#[^\r\n]*(?:[\r\n]|$))*")
_COMMENT = re.compile(rb"#[^\r\n]*")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Netpbm:
    """Header of a Netpbm picture of kind 1 to 6; `maxval` is white, 1 for bitmaps."""

    kind: int
    width: int
    height: int
    maxval: int
    start: int

    @property
    def num_channels(self) -> int:
        """3 for PPM, else 1."""
        return 3 if self.kind in (3, 6) else 1

    @property
    def raster_bytes(self) -> int:
        """Size of a binary raster; of a plain one, the least that it may take."""
        if self.kind == 4:
            return -(-self.width // 8) * self.height
        wide = 2 if self.maxval > 255 and self.kind > 4 else 1
        return self.width * self.height * self.num_channels * wide


def parse_header(content: bytes) -> Netpbm | None:
    """Read a header from a file's first bytes; None if they hold none, or not all of it."""
    found = _HEADER.match(content)
    if found is None:
        return None
    kind = content[1] - ord("0")
    width, height, maxval = (int(number) for number in (*filter(None, found.groups()[1:]), b"1")[:3])
    return Netpbm(kind, width, height, maxval, found.end())


def has_header(head: bytes) -> bool:
    """Whether a binary file begins with a Netpbm header; comments may be longer than its first bytes."""
    return parse_header(head) is not None or (len(head) >= HEAD_BYTES and _STARTS.match(head) is not None)


def is_netpbm(head: bytes, num_bytes: int) -> bool:
    """Whether a file that starts like text is a Netpbm image and not prose.

    A plain raster contains only numbers. A binary raster must have its exact size, or a header of several
    lines.
    """
    header = parse_header(head)
    if header is None:
        return len(head) >= HEAD_BYTES and _LONG_COMMENT.fullmatch(head) is not None
    is_in_lines = _LINES.match(head) is not None
    if header.kind > 3:
        return is_in_lines or num_bytes == header.start + header.raster_bytes
    numbers = _PLAIN_RASTER.match(head, header.start)
    raster = _COMMENT.sub(b"", numbers[0] if numbers is not None else b"")
    count = len(b"".join(raster.split())) if header.kind == 1 else len(raster.split())
    if numbers is not None and numbers.end() == len(head):
        return is_in_lines or count > 0
    # Whole, with something behind it.
    return _FIRST_LINE.match(head) is not None and count >= header.raster_bytes


def read_header(source: Source) -> Netpbm:
    """Read the header of an open file; MediaError if it is damaged."""
    header = parse_header(source.head()) or parse_header(source.content())
    if header is None:
        raise MediaError(f"{source.name}: Netpbm file with a damaged header")
    if not 0 < header.maxval < 65_536:
        raise MediaError(f"{source.name}: Netpbm maximum of {header.maxval}; expected 1 to 65,535")
    return header


def read_pixels(source: Source, header: Netpbm) -> np.ndarray:
    """Decode the raster to uint8, (H, W) or (H, W, 3); MediaError if it is short or out of range."""
    raster = memoryview(source.content())[header.start :]
    count = header.width * header.height * header.num_channels
    if len(raster) < header.raster_bytes:
        raise MediaError(f"{source.name}: damaged, or it ends early")
    if header.kind == 4:
        rows = np.frombuffer(raster, np.uint8, header.raster_bytes).reshape(header.height, -1)
        flat = ~(np.unpackbits(rows, axis=1)[:, : header.width] * np.uint8(255))
    elif header.kind > 4:
        flat = _scaled(
            np.frombuffer(raster, ">u2" if header.maxval > 255 else np.uint8, count), header.maxval
        )
    elif header.kind == 1:
        flat = _plain_bits(bytes(raster), count, source.name)
    else:
        flat = _scaled(_plain_numbers(bytes(raster), count, header.maxval, source.name), header.maxval)
    shape = (header.height, header.width, header.num_channels)
    return flat.reshape(shape if header.num_channels == 3 else shape[:2])


def _scaled(samples: np.ndarray, maxval: int) -> np.ndarray:
    if maxval == 255:
        return samples.astype(np.uint8)
    table = np.rint(np.arange(maxval + 1) / maxval * 255).astype(np.uint8)
    scaled: np.ndarray = table[np.minimum(samples, maxval)]
    return scaled


def _plain_bits(raster: bytes, count: int, name: str) -> np.ndarray:
    digits = np.frombuffer(_COMMENT.sub(b"", raster).translate(None, b" \t\r\n\v\f"), np.uint8)[:count]
    if len(digits) < count or not np.isin(digits, (48, 49)).all():
        raise MediaError(f"{name}: damaged, or it ends early; expected {count:,} digits of 0 and 1")
    return (49 - digits) * np.uint8(255)


def _plain_numbers(raster: bytes, count: int, maxval: int, name: str) -> np.ndarray:
    """Samples of a plain raster, block by block: numbers as text take many times their size in memory."""
    raster = _COMMENT.sub(b"", raster) if b"#" in raster else raster
    samples = np.empty(count, np.uint16)
    done = at = 0
    while done < count and at < len(raster):
        last = re.compile(rb"\s|$").search(raster, at + _BLOCK_BYTES)
        end = last.end() if last else len(raster)
        block = raster[at:end]
        junk = re.search(rb"[^\d\s]|\d{10}", block)
        if junk is not None:
            block, end = block[: junk.start()], len(raster)
        numbers = np.fromstring(block, np.int64, sep=" ")[: count - done] if block.strip() else samples[:0]
        if len(numbers) and numbers.max() > maxval:
            raise MediaError(f"{name}: damaged; a sample of {numbers.max()}, expected 0 to {maxval}")
        samples[done : done + len(numbers)] = numbers
        done, at = done + len(numbers), end
    if done < count:
        raise MediaError(f"{name}: ends early; {done:,} of {count:,} samples")
    return samples
