"""Detects the format of a file from its content; names and extensions are ignored.

Magic bytes and structure identify binary formats. A file that is text from start to end is a text, even if it
begins with a magic word. Two kinds are detected by text grammar: Netpbm images, and unsupported formats
(vector graphics, documents, playlists). Unsupported formats, archives and programs are refused by name. ID3
and APE tags before audio are skipped.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Literal

from sensorium.core.errors import MediaError
from sensorium.media import netpbm
from sensorium.media.source import HEAD_BYTES, Seekable, Source, byte_range
from sensorium.media.text import checked_text

Reader = Literal["pillow", "animation", "soundfile", "container", "text"]


@dataclass(frozen=True)
class Format:
    """A recognised format, e.g. `jpeg` (for containers, FFmpeg's demuxer), and the reader that takes it."""

    name: str
    reader: Reader


_MAGIC = {
    b"\xff\xd8\xff": Format("jpeg", "pillow"),
    b"II*\x00": Format("tiff", "pillow"),
    b"MM\x00*": Format("tiff", "pillow"),
    b"II+\x00": Format("tiff", "pillow"),
    b"MM\x00+": Format("tiff", "pillow"),
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": Format("jpeg2000", "pillow"),
    b"\xff\x4f\xff\x51": Format("jpeg2000", "pillow"),
    b"\x00\x00\x01\x00": Format("ico", "pillow"),
    b"qoif": Format("qoi", "pillow"),
    b"GIF87a": Format("gif", "animation"),
    b"GIF89a": Format("gif", "animation"),
    b"\x89PNG\r\n\x1a\n": Format("png", "animation"),
    b"fLaC": Format("flac", "soundfile"),
    b".snd": Format("au", "soundfile"),
    b"caff": Format("caf", "soundfile"),
    b"RF64": Format("wav", "soundfile"),
    b"RIFX": Format("wav", "soundfile"),
    b"riff\x2e\x91\xcf\x11": Format("w64", "soundfile"),
    b"\x1a\x45\xdf\xa3": Format("matroska", "container"),
    b"FLV\x01": Format("flv", "container"),
    b"\x00\x00\x01\xba": Format("mpeg", "container"),
    b"\x00\x00\x01\xb3": Format("mpegvideo", "container"),
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": Format("asf", "container"),
    b"#!AMR": Format("amr", "container"),
    b"wvpk": Format("wv", "container"),
    b"TTA1": Format("tta", "container"),
}
_REFUSED = {
    b"%!PS": "a PostScript drawing",
    b"\xc5\xd0\xd3\xc6": "an EPS drawing",
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop file",
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "an empty ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh91AY": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\x7fELF": "a program",
    b"\xff\x0a": "a JPEG XL image",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL image",
    b"\xd7\xcd\xc6\x9a": "a WMF drawing",
    b"SIMPLE  =": "a FITS table",
    b"MThd": "a MIDI score",
    b"PAR1": "a Parquet table",
}
_TAG = r"(?:\s+[\w:.-]+\s*=|(?:\s[^<>]*)?/?>)"
_REFUSED_TEXT = {
    re.compile(pattern, re.IGNORECASE): what
    for pattern, what in {
        rf"<svg{_TAG}|<!doctype\s+svg\b": "an SVG drawing",
        rf"<html{_TAG}|<!doctype\s+html\b": "an HTML page",
        rf"<(?:smil|mpd|asx){_TAG}": "a playlist",
        r"#extm3u(?:[ \t]*(?:[\r\n]|$)|[ \t]+[\w-]+=)": "a playlist",
        r"ffconcat\s+version\s+\d": "a playlist",
        r"\[playlist\]\s*(?:[\r\n]|$)": "a playlist",
        r"v=0\r?\no=": "a session description (SDP)",
        r"%!ps(?:-adobe-\d.*)?(?:[\r\n]|$)": "a PostScript drawing",
        r"%pdf-\d\.\d\s*(?:[\r\n]|$)": "a PDF document",
        r"simple  = +[tf]\b": "a FITS table",
        r"gif8[79]a(?:/\*|=|$)": "a GIF without pictures, as scripts in disguise are",
    }.items()
}
_AVIF = {b"avif", b"mif1", b"msf1"}
_HEIF = {b"heic", b"heix", b"hevc", b"heim", b"heis"}
_QUICKTIME = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"junk", b"uuid"}
_TAG_MAGIC = (b"ID3", b"APETAGEX")
_MAX_TAGS = 16
_MAX_PADDING = 1 << 16


def identify(source: Source) -> tuple[Format, Source]:
    """Detect the format of an open file; return it and the source to read, without leading tags."""
    head = source.head()
    start = _end_of_tags(source.file) if head.startswith(_TAG_MAGIC) else 0
    if 0 < start < source.num_bytes:
        source.file.seek(start)
        padded: bytes = source.file.read(_MAX_PADDING)
        start += len(padded) - len(padded.lstrip(b"\0"))
        behind = byte_range(source, start, source.num_bytes)
        with contextlib.suppress(MediaError):
            found = sniff(behind.head(), source.name, behind.num_bytes)
            if found.reader in ("soundfile", "container"):
                return found, behind
    return sniff(head, source.name, source.num_bytes), source


def sniff(head: bytes, name: str = "media", num_bytes: int | None = None) -> Format:
    r"""Tell the format from the first bytes (4,096 are enough, but for tags; see `identify`).

    Args:
        head: The first bytes.
        name: What messages call the file.
        num_bytes: Size of the file; if unknown, a head shorter than 4,096 bytes is the whole.

    Raises:
        MediaError: If the content is of no known kind, or of a kind that is refused.

    Example:
        >>> sniff(b"GIF89a\x05\x00...").name
        'gif'
        >>> sniff(b"GIF89a is a format").name
        'text'
    """
    num_bytes = num_bytes or len(head) + (len(head) >= HEAD_BYTES)
    try:
        text = checked_text(head, name, is_whole=num_bytes <= len(head))
    except MediaError as error:
        return _sniff_binary(head, name, error)
    _refuse_markup(text, name)
    if netpbm.is_netpbm(head, num_bytes):
        return Format("ppm", "pillow")
    return Format("text", "text")


def _sniff_binary(head: bytes, name: str, not_text: MediaError) -> Format:
    for magic, found in _MAGIC.items():
        if head.startswith(magic):
            return found
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise MediaError(f"{name}: {what}; expected an image, audio, video or text")
    structured = _by_structure(head, name)
    if structured is not None:
        return structured
    if b"\x00" in head and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise MediaError(f"{name}: binary data of no known kind; expected an image, audio, video or text")
    raise not_text


def _end_of_tags(file: Seekable) -> int:
    """Where the tags at the start of a file end: ID3v2 (id3.org, section 3.1) and APEv2, one or more."""
    at = 0
    for _ in range(_MAX_TAGS):
        file.seek(at)
        head: bytes = file.read(32)
        if head[:3] == b"ID3" and len(head) >= 10 and max(head[3:5]) < 0xFF and max(head[6:10]) < 0x80:
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            at += 10 + size + (10 if head[5] & 0x10 else 0)  # a footer repeats the header
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            at += 32 + int.from_bytes(head[12:16], "little")
        else:
            break
    return at


def _by_structure(head: bytes, name: str) -> Format | None:
    if head[:4] == b"RIFF":
        return _riff(head, name)
    if head[:4] == b"OggS":
        return _ogg(head)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return Format("aiff", "soundfile")
    if head[4:8] in _QUICKTIME:
        return _isobmff(head, name)
    if head[:2] == b"BM" and len(head) >= 26 and 12 <= int.from_bytes(head[14:18], "little") <= 256:
        return Format("bmp", "pillow")
    if netpbm.has_header(head):
        return Format("ppm", "pillow")
    if head[:2] == b"MZ" and b"\x00" in head:
        raise MediaError(f"{name}: a program; expected an image, audio, video or text")
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return Format("mpegts", "container")
    return _mpeg_audio(head)


def _riff(head: bytes, name: str) -> Format:
    kind = head[8:12]
    if kind == b"WAVE":
        return Format("wav", "soundfile")
    if kind == b"WEBP":
        return Format("webp", "animation")
    if kind == b"AVI ":
        return Format("avi", "container")
    raise MediaError(f"{name}: a RIFF file of kind {kind!r}; expected WAVE, WEBP or AVI")


def _ogg(head: bytes) -> Format:
    if b"\x80theora" in head or b"BBCD" in head or b"OVP80" in head:
        return Format("ogg", "container")
    return Format("ogg", "soundfile")


def _isobmff(head: bytes, name: str) -> Format | None:
    """ISO base media: MP4, QuickTime, AVIF; the brands say which."""
    if head[4:8] != b"mdat" and head[0] >= 0x10:  # a box of 256 MB or more that is not the media: words
        return None
    if head[4:8] != b"ftyp":
        return Format("mp4", "container")
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if head[8:12] in _AVIF | {b"avis"} and brands & {b"avif", b"avis"}:
        return Format("avif", "animation" if b"avis" in brands else "pillow")
    if brands & _HEIF and head[8:12] in _HEIF | _AVIF:
        raise MediaError(f"{name}: a HEIC image; not supported, convert it to JPEG, PNG or AVIF")
    return Format("mp4", "container")


def _mpeg_audio(head: bytes) -> Format | None:
    if head.startswith(_TAG_MAGIC):
        return Format("mp3", "container")
    if head[:2] == b"\xff\xfe":  # UTF-16, far likelier than MPEG-1 layer I
        return None
    if _is_adts(head):
        return Format("aac", "container")
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and _is_mpeg_frame(head):
        return Format("mp3", "container")
    return None


def _is_adts(head: bytes) -> bool:
    return len(head) >= 4 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 0xF < 13


def _is_mpeg_frame(head: bytes) -> bool:
    has_version, has_layer = head[1] >> 3 & 3 != 1, head[1] >> 1 & 3 != 0
    return has_version and has_layer and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3


def _refuse_markup(text: str, name: str) -> None:
    start = text.lstrip()
    find = (
        re.Pattern.search
        if start[:5].lower() in ("<?xml", "<!--") or start[:4] == "<!--"
        else re.Pattern.match
    )
    for pattern, what in _REFUSED_TEXT.items():
        if find(pattern, start):
            raise MediaError(f"{name}: {what}; expected an image, audio, video or text")
