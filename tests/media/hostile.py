"""Files that want to break a reader: `write_corpus(folder) -> {name: what must come of it}`.

Expectations: `image`, `audio`, `video`, `text` (a right value), `refused` (one MediaError) or `limit` (one
LimitError). Everything is seeded; no file is larger than a few MB.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import specimens
from PIL import Image

Corpus = Iterator[tuple[str, bytes, str]]


def write_corpus(folder: Path) -> dict[str, str]:
    """Write every hostile file into `folder` and tell what must come of each."""
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}
    for make in (
        _trivial,
        _cut,
        _garbled,
        _bombs,
        _pictures,
        _liars,
        _sounds,
        _movies,
        _pointers,
        _not_media,
    ):
        for name, content, expectation in make():
            assert name not in expected, name
            (folder / name).write_bytes(content)
            expected[name] = expectation
    return expected


def _trivial() -> Corpus:
    yield "empty.jpg", b"", "refused"
    yield "one-nul.png", b"\0", "refused"
    yield "one-letter.png", b"x", "text"
    yield "nuls.txt", bytes(1000), "refused"
    yield "blanks.txt", b" \n\t " * 100, "refused"
    yield "control.txt", b"\x01\x02\x03 hello", "refused"
    yield "latin1.txt", "déjà vu".encode("latin-1"), "refused"
    yield "half-utf16.txt", b"\xff\xfea\x00b", "refused"
    yield "long.txt", b"word " * 1_000_000, "limit"
    yield "noise.bin", np.random.default_rng(3).bytes(5000), "refused"
    for name, magic in {
        "jpg": b"\xff\xd8\xff\xe0",
        "png": b"\x89PNG\r\n\x1a\n",
        "gif": b"GIF89a",
        "webp": b"RIFF\xff\xff\xff\x7fWEBPVP8 ",
        "tif": b"II*\0\x08\0\0\0",
        "wav": b"RIFF\xff\xff\xff\x7fWAVEfmt ",
        "flac": b"fLaC\0\0\0\x22",
        "ogg": b"OggS\0\x02",
        "mp3": b"\xff\xfb\x90\x64",
        "mp4": b"\0\0\0\x18ftypisom",
        "mkv": b"\x1a\x45\xdf\xa3",
    }.items():
        yield f"magic-only.{name}", magic, "refused"


def _cut() -> Corpus:
    """The first two thirds: pictures are refused, streams give what is there."""
    for name in ("jpeg", "png", "webp", "tiff", "bmp", "avif"):
        whole = specimens.picture(name)
        yield f"cut.{name}", whole[: len(whole) * 2 // 3], "refused"
    for name in ("gif", "apng"):
        whole = specimens.animation(name)
        yield f"cut.{name}", whole[: len(whole) * 2 // 3], "video"
    for name in ("wav", "flac", "ogg", "opus", "aiff", "mp3"):
        whole = specimens.sound(name, seconds=5.0)
        yield f"cut.{name}", whole[: len(whole) * 2 // 3], "audio"
    whole = specimens.movie("matroska", "libx264")
    yield "cut.mkv", whole[: len(whole) * 2 // 3], "video"
    whole = specimens.movie("mpegts", "libx264")
    yield "cut.ts", whole[: len(whole) * 2 // 3], "video"
    whole = specimens.movie("mp4", "libx264")
    yield "cut-before-moov.mp4", whole[: len(whole) // 2], "refused"


def _garbled() -> Corpus:
    """The middle overwritten with noise."""
    noise = np.random.default_rng(5).bytes(4000)

    def spoil(whole: bytes, part: float = 1 / 3) -> bytes:
        size = min(len(noise), int(len(whole) * part))
        return whole[: len(whole) // 3] + noise[:size] + whole[len(whole) // 3 + size :]

    yield "garbled.png", spoil(specimens.picture("png")), "refused"
    yield "garbled.webp", spoil(specimens.picture("webp")), "image"
    yield "garbled.wav", spoil(specimens.sound("wav")), "audio"
    yield "garbled.mkv", spoil(specimens.movie("matroska", "libx264", num_frames=50), 0.02), "video"
    yield "garbled.ts", spoil(specimens.movie("mpegts", "libx264", num_frames=50)), "video"


def _bombs() -> Corpus:
    """Little on disk, much in memory."""
    yield "bomb-header.png", png(60_000, 60_000, b"\0"), "limit"
    yield "bomb-full.png", png(30_000, 30_000, bytes(3751 * 30_000)), "limit"
    yield "bomb-side.png", png(2**31 - 1, 2**31 - 1, b"\0"), "limit"
    yield "bomb-screen.gif", b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + _GIF_FRAME[10:], "limit"
    yield "bomb-frames.gif", _gif(3000, 3000, 5000), "limit"
    yield "bomb-growing.gif", _growing_gif(), "limit"
    yield "bomb-canvas.webp", _webp(16_384, 16_384), "limit"
    yield "bomb-icon.ico", _ico(png(20_000, 20_000, b"\0")), "limit"
    yield "bomb.bmp", b"BM" + struct.pack("<IHHI", 60, 0, 0, 54) + _dib(50_000, 50_000) + bytes(6), "limit"
    yield "bomb.ppm", b"P6\n65535 65535\n255\n" + bytes(100), "limit"
    yield "bomb.qoi", b"qoif" + struct.pack(">II", 90_000, 90_000) + b"\3\0" + bytes(50), "limit"
    yield "bomb.tif", _tiff(70_000, 70_000), "limit"
    yield "bomb-text.png", _with_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20))), "refused"
    yield "bomb-profile.png", _with_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(32 << 20))), "refused"
    yield "bomb-scans.jpg", _jpeg_of_scans(3000), "refused"
    yield "bomb-deflate.mkv.gz", b"\x1f\x8b\x08\0" + zlib.compress(bytes(32 << 20)), "refused"
    yield "bomb.flac", _flac(seconds=100_000), "limit"
    yield "bomb-size.mkv", _resized_movie(), "refused"


def _pictures() -> Corpus:
    """Odd and right."""
    yield "large.png", png(8000, 6200, bytes(1001 * 6200)), "image"
    yield "wide.png", png(65_535, 1, bytes(1 + 8192)), "image"
    yield "tall.png", png(1, 65_535, bytes(2 * 65_535)), "image"
    yield "one.png", png(1, 1, b"\0\0"), "image"
    yield "zero-width.png", png(0, 5, b"\0"), "refused"
    yield "deep-exif.jpg", _jpeg_with(0xE1, b"Exif\0\0" + _looping_exif()), "image"
    yield "broken-exif.jpg", _jpeg_with(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"), "image"
    yield "huge-profile.jpg", _jpeg_with(*_profile_segments()), "image"
    yield "looping.tif", _tiff(7, 5, next_ifd=8), "image"
    yield "many-tags.tif", b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + bytes(5000), "refused"
    yield "nan.tif", _float_tiff(np.nan), "refused"
    yield "appended-zip.jpg", specimens.picture("jpeg") + b"PK\x03\x04" + bytes(300), "image"
    yield "script-in.gif", b"GIF89a/*" + b"*/=1;alert(1)//" * 30, "refused"
    yield "script-after.gif", _GIF_FRAME + b"<script>alert(1)</script>", "image"


def _liars() -> Corpus:
    """Right content under a wrong name."""
    yield "jpeg.txt", specimens.picture("jpeg"), "image"
    yield "png.mp4", specimens.picture("png"), "image"
    yield "wav.jpg", specimens.sound("wav"), "audio"
    yield "mp4.wav", specimens.movie("mp4", "libx264"), "video"
    yield "text.png", b"a red apple", "text"
    yield "no-extension", specimens.sound("ogg"), "audio"


def _sounds() -> Corpus:
    yield "nan.wav", _float_wav([0.1, np.nan, 0.2]), "refused"
    yield "inf.wav", _float_wav([0.1, np.inf, 0.2]), "refused"
    yield "huge-numbers.wav", _float_wav([0.1, 3e38, 0.2]), "refused"
    yield "claims-4gb.wav", _wav(claimed=2**32 - 10), "audio"
    yield "no-samples.wav", _wav(samples=b"", claimed=0), "refused"
    yield "zero-hertz.wav", _wav(rate=0), "refused"
    yield "four-gigahertz.wav", _wav(rate=2**32 - 1), "refused"
    yield "ten-megahertz.wav", _wav(rate=10_000_000), "limit"
    yield "zero-channels.wav", _wav(channels=0), "refused"
    yield "65-channels.wav", _wav(channels=65, samples=bytes(130 * 100)), "limit"
    yield "65535-channels.wav", _wav(channels=65_535), "refused"
    yield "600-channels.wav", _wav(channels=600, samples=bytes(1200 * 100)), "limit"
    yield "one-hertz.wav", _wav(rate=1, samples=bytes(2 * 10_000)), "limit"
    yield "unknown-codec.wav", _wav(codec=0x7777), "refused"
    yield "no-rate.flac", _flac(seconds=1, rate=0), "refused"
    yield "id3-only.mp3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1000), "refused"
    yield "huge-id3.mp3", _id3(200_000) + specimens.sound("mp3"), "audio"


def _movies() -> Corpus:
    yield "no-moov.mp4", _box(b"ftyp", b"isom\0\0\0\0isom") + _box(b"mdat", bytes(2000)), "refused"
    yield "empty-moov.mp4", _box(b"ftyp", b"isom\0\0\0\0isom") + _box(b"moov", b""), "refused"
    yield "no-frames.mkv", specimens.movie("matroska", "ffv1", num_frames=0), "refused"
    yield "moov-of-itself.mp4", _box(b"ftyp", b"isom\0\0\0\0isom") + _nested(b"moov", 3000), "refused"
    yield "one-frame.mp4", specimens.movie("mp4", "libx264", num_frames=1), "video"
    yield "odd-size.mkv", specimens.movie("matroska", "ffv1", width=37, height=23), "video"
    yield "thousand-frames.mkv", specimens.movie("matroska", "libx264", num_frames=1000), "video"


def _pointers() -> Corpus:
    """Files that name other files or hosts; nothing they name may be opened."""
    secret, host = "/etc/passwd", "http://127.0.0.1:9"
    yield "list.m3u8", f"#EXTM3U\n#EXTINF:1,\n{host}/a.ts\n#EXT-X-ENDLIST\n".encode(), "refused"
    yield "file.m3u8", f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n".encode(), "refused"
    yield "list.mp4", f"#EXTM3U\n#EXTINF:1,\nconcat:{secret}|{secret}\n".encode(), "refused"
    yield "list.ffconcat", f"ffconcat version 1.0\nfile '{secret}'\n".encode(), "refused"
    yield "list.pls", f"[playlist]\nFile1={host}/a.mp3\n".encode(), "refused"
    yield "session.sdp", b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=audio 9 RTP/AVP 0\r\n", "refused"
    yield "stream.mpd", f"<MPD><BaseURL>{host}/</BaseURL></MPD>".encode(), "refused"
    yield "reference.mov", _reference_movie(secret), "refused"
    yield "playlist-in.avi", b"RIFF\x40\0\0\0AVI #EXTM3U\nfile:///etc/passwd\n", "refused"


def _not_media() -> Corpus:
    yield "drawing.svg", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "refused"
    yield "entities.svg", b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>', "refused"
    yield "drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "refused"
    yield "drawing.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "refused"
    yield "page.jpg", b"<!DOCTYPE html><html><body>404</body></html>", "refused"
    yield "paper.pdf", b"%PDF-1.7\n1 0 obj\n", "refused"
    yield "archive.png", b"PK\x03\x04" + bytes(100), "refused"
    yield "program.gif", b"\x7fELF\x02\x01\x01" + bytes(100), "refused"
    yield "program.exe", b"MZ\x90\0" + bytes(100), "refused"
    yield (
        "pickle.bin",
        b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "refused",
    )
    yield "riff.dat", b"RIFF\x10\0\0\0CDXA" + bytes(20), "refused"


def png(width: int, height: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A 1-bit grey PNG with this header, whatever the rows hold."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = _chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + pixels + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _with_chunk(name: bytes, content: bytes) -> bytes:
    return png(1, 1, b"\0\0", _chunk(name, content))


# A whole GIF of one pixel: screen, two colours, one frame, end.
_GIF_FRAME = bytes.fromhex("474946383961 01000100 800000 000000ffffff 2c00000000010001000002 024401003b")


def _gif(width: int, height: int, num_frames: int) -> bytes:
    frame = _GIF_FRAME[19:-1]
    return b"GIF89a" + struct.pack("<HH", width, height) + _GIF_FRAME[10:19] + frame * num_frames + b";"


def _growing_gif() -> bytes:
    """The second frame is far larger than the screen."""
    second = b"\x2c\0\0\0\0" + struct.pack("<HH", 65_535, 65_535) + _GIF_FRAME[28:-1]
    return _GIF_FRAME[:10] + _GIF_FRAME[10:13] + _GIF_FRAME[13:19] + second + second + b";"


def _webp(width: int, height: int) -> bytes:
    canvas = struct.pack("<I", 0x02) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    body += (b"ANMF" + struct.pack("<I", 16) + bytes(16)) * 3
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _ico(picture: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 22) + picture


def _dib(width: int, height: int) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def _tiff(width: int, height: int, next_ifd: int = 0) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [
        (273, 4, 1, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, width * height & 0xFFFF),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + directory + struct.pack("<I", next_ifd) + bytes(min(100, width * height))


def _float_tiff(value: float) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((5, 7), value, np.float32)).save(out, "TIFF")
    return out.getvalue()


def _jpeg_with(marker: int, *segments: bytes) -> bytes:
    whole = specimens.picture("jpeg")
    added = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(part) + 2) + part for part in segments)
    return whole[:2] + added + whole[2:]


def _looping_exif() -> bytes:
    """EXIF whose directories point to themselves, through every pointer tag there is."""
    entries = [struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0x8825, 0xA005, 0x014A)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 8)


def _profile_segments() -> tuple[int, ...]:
    parts = [b"ICC_PROFILE\0" + bytes([number, 255]) + bytes(65_000) for number in range(1, 61)]
    return (0xE2, *parts)  # type: ignore[return-value]


def _jpeg_of_scans(count: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 199)).save(out, "JPEG", progressive=True)
    whole = out.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def _flac(seconds: int, rate: int = 8000) -> bytes:
    bits = rate << 44 | 0 << 41 | 15 << 36 | seconds * max(rate, 8000)
    return (
        b"fLaC\x80\0\0\x22" + struct.pack(">HH", 4096, 4096) + bytes(6) + bits.to_bytes(8, "big") + bytes(16)
    )


def _wav(
    rate: int = 8000,
    channels: int = 1,
    samples: bytes = bytes(2000),
    claimed: int | None = None,
    codec: int = 1,
) -> bytes:
    align = 2 * channels & 0xFFFF
    layout = struct.pack("<HHIIHH", codec, channels, rate, rate * align & 0xFFFFFFFF, align, 16)
    size = len(samples) if claimed is None else claimed
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", size) + samples
    return b"RIFF" + struct.pack("<I", min(2**32 - 1, 36 + size)) + body


def _float_wav(samples: list[float]) -> bytes:
    data = np.array(samples * 100, np.float32).tobytes()
    layout = struct.pack("<HHIIHH", 3, 1, 8000, 32_000, 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _id3(size: int) -> bytes:
    return b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def _nested(name: bytes, depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = _box(name, content)
    return content


def _reference_movie(path: str) -> bytes:
    """A QuickTime movie whose data reference is an alias to another file on the disk."""
    whole = bytearray(specimens.movie("mov", "libx264"))
    at = whole.index(b"url \0\0\0\1")
    alias = b"rdrf" + bytes(4) + b"url " + struct.pack(">I", len(path) + 1) + path.encode() + b"\0"
    whole[at : at + 8] = b"alis\0\0\0\0"
    # The sample table now points behind the end, as that of a reference movie would.
    whole = whole[: whole.index(b"mdat") - 4] + whole[whole.index(b"moov") - 4 :]
    return bytes(whole) + _box(b"free", alias)


def _resized_movie() -> bytes:
    """A container that claims a small picture around a header of 30,000 x 30,000 pixels."""
    whole = bytearray(specimens.movie("matroska", "ffv1"))
    for tag in (b"\xb0\x81", b"\xba\x81"):
        at = whole.find(tag)
        if at > 0:
            whole[at + 2] = 0
    return bytes(whole)
