"""Reads text files: detects UTF-8, UTF-16 or UTF-32, yields lines, parses JSON with a check for double keys.

The encoding is detected from the byte order mark or from zero bytes; Latin-1, GBK etc. are not guessed. Bytes
that are not UTF-8 become lone surrogates, which `is_unicode` detects.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_lines(path: Path, max_chars: int) -> Iterator[str]:
    """Yield the lines of a text file with their line ends (LF, CR LF or CR).

    A line of more than `max_chars` comes as its first `max_chars + 1` characters.

    Raises:
        OSError: If the file cannot be read.
        UnicodeDecodeError: If UTF-16 or UTF-32 ends within a character.
    """
    with path.open("rb") as head:
        encoding = encoding_of(head.read(4))
    errors = "surrogateescape" if encoding == "utf-8-sig" else "surrogatepass"
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        while line := file.readline(max_chars + 1):
            yield line
            while len(line) > max_chars and not line.endswith(("\n", "\r")):  # the rest of it, unread
                line = file.readline(max_chars + 1)


def encoding_of(head: bytes) -> str:
    r"""Encoding of a text, from its first four bytes.

    Example:
        >>> [encoding_of(head) for head in (b"a,b\n", b"\xff\xfea\0", b"a\0,\0")]
        ['utf-8-sig', 'utf-16', 'utf-16-le']
    """
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    zeros = tuple(byte == 0 for byte in head)
    if zeros == (False, True, False, True):
        return "utf-16-le"
    return "utf-16-be" if zeros == (True, False, True, False) else "utf-8-sig"


def decode(data: bytes) -> str:
    """Decode the bytes of a text file.

    Raises:
        UnicodeDecodeError: If they are not valid in the detected encoding.
    """
    return data.decode(encoding_of(data[:4]))


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates, i.e. can be encoded as UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_unicode(text: str) -> None:
    """Raise a ValueError if a text has lone surrogates."""
    if not is_unicode(text):
        raise ValueError(f"{text[:50]!a} is not Unicode: it has half of a surrogate pair")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; a key that occurs twice in an object is an error, since one value would be lost.

    Raises:
        ValueError: If it is not JSON or is nested too deeply.
    """
    try:
        return json.loads(decode(text) if isinstance(text, bytes) else text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found
