"""Opens a path, bytes, file object or data URI as a seekable binary source; byte ranges are sources too.

Only regular files are opened: no folders, pipes or devices. URLs are not fetched.
"""

from __future__ import annotations

import base64
import binascii
import builtins
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes

from sensorium.core.errors import MediaError, NotFoundError, UsageError
from sensorium.media.limits import Limits

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@runtime_checkable
class Readable(Protocol):
    """A binary file object that can be read once, like a network answer."""

    def read(self, size: int = -1, /) -> Any:
        """Return at most `size` bytes."""


@runtime_checkable
class Seekable(Readable, Protocol):
    """A binary file object that can be read anywhere."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a position."""

    def tell(self) -> int:
        """Return the position."""


SourceLike = str | Path | bytes | bytearray | memoryview | Readable

HEAD_BYTES = 4096
"""Bytes that tell a format."""


@dataclass(frozen=True)
class Source:
    """A file open for reading, at any position; `uri` tells where it came from, or is empty."""

    file: Seekable
    num_bytes: int
    uri: str = ""

    @property
    def name(self) -> str:
        """What messages call it: one line that any terminal can show."""
        return _printable(self.uri) or "media"

    def close(self) -> None:
        """Close the file where that means something."""
        if isinstance(self.file, io.IOBase):
            self.file.close()

    def head(self) -> bytes:
        """Return the first bytes; leaves the file at its start."""
        self.file.seek(0)
        head: bytes = self.file.read(HEAD_BYTES)
        self.file.seek(0)
        return head

    def content(self) -> bytes:
        """Return all bytes; leaves the file at its start."""
        self.file.seek(0)
        content: bytes = self.file.read()
        self.file.seek(0)
        return content


@contextmanager
def opened(source: SourceLike, limits: Limits) -> Iterator[Source]:
    """Open `source` for reading; a file opened here is closed at the end.

    Raises:
        NotFoundError: If the path does not exist.
        LimitError: If there are more bytes than `limits.file_bytes`.
        MediaError: If it is empty, not a regular file, or a damaged data URI.
        UsageError: If it is a URL, or nothing that can be read.
    """
    if isinstance(source, str | Path):
        text = str(source)
        if text[:5].lower() == "data:":
            yield _in_memory(_read_data_uri(text, limits), text.partition(",")[0][:80], limits)
            return
        if "://" in text[:16] and not os.path.exists(text):
            raise UsageError(
                f"{_printable(text[:80])}: URLs are not opened; fetch it first and give the path or bytes"
            )
        found = _open_file(text, limits)
        try:
            yield found
        finally:
            found.close()
    elif isinstance(source, bytes | bytearray | memoryview):
        yield _in_memory(bytes(source), "", limits)
    elif hasattr(source, "read"):
        name = getattr(source, "name", "")
        yield _in_memory(_read_object(source, limits), name if isinstance(name, str) else "", limits)
    else:
        raise UsageError(
            f"cannot open {type(source).__name__}; give a path, bytes, a binary file or a data URI"
        )


def byte_range(source: Source, start: int, end: int, beginning: bytes = b"") -> Source:
    """Return `beginning`, followed by the bytes `start` to `end` of a source, as a new source.

    Example:
        >>> whole = Source(io.BytesIO(b"0123456789"), 10)
        >>> byte_range(whole, 2, 5, b"ab").content()
        b'ab234'
    """
    file = io.BufferedReader(_Part(source, start, end, beginning), 1 << 16)
    return replace(source, file=file, num_bytes=len(beginning) + end - start)


class _Part(io.RawIOBase):
    def __init__(self, source: Source, start: int, end: int, beginning: bytes) -> None:
        self._file, self._start, self._beginning = source.file, start, beginning
        self._length = len(beginning) + end - start
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + (0, self._at, self._length)[whence])
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._length - self._at))
        if self._at < len(self._beginning):
            content = self._beginning[self._at : self._at + count]
        else:
            self._file.seek(self._start + self._at - len(self._beginning))
            content = self._file.read(count)
        view[: len(content)] = content
        self._at += len(content)
        return len(content)


class QuietSeek:
    """File wrapper for libraries that print an error if a seek fails.

    An invalid seek leaves the position unchanged and returns -1.
    """

    def __init__(self, file: Seekable) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes."""
        content: bytes = self._file.read(size)
        return content

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a position; return -1 if it is invalid."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def _printable(name: str) -> str:
    """A name with its line breaks, control characters and lone surrogates written as escapes."""
    if name.isprintable():
        return name
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)


def _in_memory(content: bytes, uri: str, limits: Limits) -> Source:
    _check_size(len(content), _printable(uri) or "media", limits)
    return Source(io.BytesIO(content), len(content), uri)


def _open_file(path: str, limits: Limits) -> Source:
    try:
        # A named pipe would block at opening, so the kind is asked first.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{_printable(path)}: not a regular file; give the path of a media file")
        _check_size(status.st_size, _printable(path), limits)
        return Source(builtins.open(path, "rb"), status.st_size, path)
    except PermissionError as error:
        raise MediaError(f"{_printable(path)}: no permission to read it") from error
    except MediaError:
        raise
    except (OSError, ValueError) as error:  # no such file, name too long, NUL in the name
        raise NotFoundError(f"no file {path[:200]!r}; check the path") from error


def _read_object(file: Readable, limits: Limits) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := file.read(min(1 << 20, limits.file_bytes + 1 - size)):
        if not isinstance(chunk, bytes):
            raise UsageError("the file object gives text; open it in binary mode ('rb')")
        parts.append(chunk)
        size += len(chunk)
        if size > limits.file_bytes:
            break
    return b"".join(parts)


def _read_data_uri(text: str, limits: Limits) -> bytes:
    header, comma, payload = text.partition(",")
    if not comma:
        raise MediaError("data URI without a comma; expected data:[<type>][;base64],<data>")
    # Four characters of base64 hold three bytes; escapes only make it longer.
    if len(payload) > 3 * limits.file_bytes + 1024:
        limits.check("file_bytes", len(payload) // 3, "data URI")
    if not header.lower().endswith(";base64"):
        return unquote_to_bytes(payload)
    packed = b"".join(unquote_to_bytes(payload).split()).translate(bytes.maketrans(b"-_", b"+/"))
    packed += b"=" * (-len(packed) % 4)
    try:
        return base64.b64decode(packed, validate=True)
    except binascii.Error as error:
        raise MediaError(f"data URI: not base64 ({str(error).lower()})") from error


def _check_size(num_bytes: int, what: str, limits: Limits) -> None:
    if num_bytes == 0:
        raise MediaError(f"{what}: empty, 0 bytes")
    limits.check("file_bytes", num_bytes, what)
