"""File-like views of a source: a byte range as a file, and a file whose failing seeks return -1."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from sensorium.media.source import Seekable, Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


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
