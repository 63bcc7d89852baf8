"""Decodes texts: UTF-8 with or without byte order mark, or UTF-16 with one; other encodings are refused."""

from __future__ import annotations

import codecs
import re

from sensorium.core.errors import MediaError
from sensorium.media.limits import Limits
from sensorium.media.source import Source
from sensorium.media.types import Header, Text

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Tab, line feed, form feed, carriage return and escape occur in real texts; the other controls mean binary.
_BINARY = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def read_header(source: Source, limits: Limits) -> Header:
    """Check that a text is one; texts are short enough to be read for that."""
    decode(source, limits)
    return Header("text", "text", source.num_bytes)


def decode(source: Source, limits: Limits) -> Text:
    """Decode a text; MediaError if `checked_text` refuses it, or it holds nothing but blanks."""
    limits.check("text_bytes", source.num_bytes, source.name)
    text = checked_text(source.content(), source.name)
    if not text.strip():
        raise MediaError(f"{source.name}: text of nothing but blanks")
    return Text(text, uri=source.uri)


def checked_text(content: bytes, name: str, *, is_whole: bool = True) -> str:
    """Decode a file, or its first bytes (`is_whole` False: they may end within a character).

    MediaError if they are not UTF-8 or UTF-16, or hold control characters.
    """
    encoding = "utf-16" if content.startswith(_UTF16) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(content, final=is_whole)
    except UnicodeDecodeError as error:
        raise MediaError(
            f"{name}: neither a known media format nor text "
            f"(not {encoding.removesuffix('-sig').upper()} at byte {error.start}: {error.reason})"
        ) from error
    found = _BINARY.search(text)
    if found is not None:
        raise MediaError(
            f"{name}: text with the control character U+{ord(found[0]):04X}; it looks like binary data"
        )
    return text
