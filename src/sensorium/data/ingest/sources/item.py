"""`Item`: a future row as references to its media (path, byte range, URL or inline bytes) and its texts.

Items are small and picklable: the worker that decodes the media reads the bytes. The kind of media is
detected later, from the content. `Failure` is one input that gave no row.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sensorium.core.errors import LimitError, MediaError
from sensorium.data.ingest.sources.lines import is_unicode
from sensorium.data.table.sample import Region

Scalar = str | int | float

_REASON_CHARS = 500
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Open without blocking: a file may have been replaced by a pipe since it was listed."""

_CLOCK_TICK_NS = 100_000_000
"""Resolution of file times: a file younger than this may change again with the same time stamp."""


@dataclass(frozen=True)
class Failure:
    """One input that gave no row.

    Attributes:
        uri: Path, URL or position within a file.
        stage: `read`, `parse`, `fetch`, `caption`, `probe`, `decode` or `store`.
        reason: The reason in one line.
    """

    uri: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Blob:
    """One medium: a reference to its bytes, or the bytes.

    Attributes:
        uri: Name for messages and the table.
        path: File that contains the bytes, or None.
        offset: First byte within the file.
        size: Number of bytes; None: to the end of the file.
        data: The bytes, if inline or downloaded.
        url: Address to download from.
        field: Declared field, or "" to detect it from the content.
        language: Language of a spoken caption.
        signature: Size and times of the file when it was listed; () if not from a file.
    """

    uri: str
    path: Path | None = None
    offset: int = 0
    size: int | None = None
    data: bytes | None = None
    url: str | None = None
    field: str = ""
    language: str = ""
    signature: tuple[int, ...] = ()

    def read(self, max_bytes: int) -> tuple[bytes, bool]:
        """Return the bytes, and whether the file is unchanged since it was listed.

        A file younger than the resolution of file times counts as changed.

        Raises:
            LimitError: If there are more than `max_bytes`.
            MediaError: If they cannot be read or are incomplete.
        """
        if self.data is not None:
            if len(self.data) > max_bytes:
                raise LimitError(f"{self.uri} has {len(self.data):,} bytes; the limit is {max_bytes:,}")
            return self.data, True
        if self.path is None:
            raise MediaError(f"{self.uri} has only a URL and was not downloaded")
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | _NO_WAIT)
            try:
                return self._read_open(descriptor, max_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise MediaError(f"cannot read {self.uri}: {error.strerror or error}") from error

    def _read_open(self, descriptor: int, max_bytes: int) -> tuple[bytes, bool]:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{self.uri} is not a regular file")
        expected = status.st_size - self.offset if self.size is None else self.size
        if expected > max_bytes:
            raise LimitError(f"{self.uri} has {expected:,} bytes; the limit is {max_bytes:,}")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(self.offset)
            data = file.read(expected)
        if len(data) != expected:
            raise MediaError(f"{self.uri} ends after {len(data):,} of {expected:,} bytes")
        is_settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _CLOCK_TICK_NS
        return data, signature(os.fstat(descriptor)) == self.signature and is_settled


@dataclass(frozen=True)
class Item:
    """One future row.

    Attributes:
        uri: Name of the row.
        blobs: Its media, usually one of each kind.
        texts: (language, text) pairs; the language may be "".
        group: A split keeps rows of one group together; None: derived from the captions.
        source: Name of the collection.
        licence: As stated by the source.
        meta: Other metadata.
        regions: Phrases with their boxes in the image.
    """

    uri: str
    blobs: tuple[Blob, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    group: str | None = None
    source: str = ""
    licence: str = ""
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()

    @property
    def stamp(self) -> str:
        """Fingerprint from names, sizes and times: equal stamps mean equal rows; no media are read."""
        digest = hashlib.sha256()
        for blob in self.blobs:
            is_inline = blob.data is not None and blob.url is None
            content = hashlib.sha256(blob.data or b"").hexdigest() if is_inline else ""
            reference = (blob.uri, str(blob.path), blob.offset, blob.size, blob.field, blob.language)
            digest.update(repr((reference, content, blob.url, blob.signature)).encode())
        digest.update(
            repr((self.uri, self.texts, self.group, self.licence, sorted(self.meta.items()))).encode()
        )
        if self.regions:
            digest.update(repr(self.regions).encode())
        return digest.hexdigest()[:24]

    @property
    def uris(self) -> tuple[str, ...]:
        """All names under which a failure of this item may be reported."""
        return (self.uri, *(blob.uri for blob in self.blobs))


def file_blob(path: Path, *, uri: str = "", field: str = "", language: str = "") -> Blob:
    """Reference to a whole file, with its present size and times.

    Raises:
        MediaError: If it is missing or not a regular file (opening a pipe would hang).
    """
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path} is not a regular file")
    return Blob(uri or name_of(path), path=path, field=field, language=language, signature=signature(status))


def signature(status: os.stat_result) -> tuple[int, ...]:
    """Size, modification time and change time (which `cp -p` cannot set): they differ if a file changes."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def name_of(path: Path | str) -> str:
    r"""A path for tables and error files: unchanged if it is UTF-8, else percent-encoded.

    An absolute path becomes a `file:` URI (RFC 8089); of other names the bytes are encoded in place.

    Example:
        >>> name_of("/a/caf\udce9.png"), name_of("caf\udce9/b.png"), name_of("/a/b.png")
        ('file:///a/caf%E9.png', 'caf%E9/b.png', '/a/b.png')
    """
    text = str(path)
    if is_unicode(text):
        return text
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")
    return ("file://" if text.startswith("/") else "") + urllib.parse.quote(data)


def one_line(error: object) -> str:
    """The message of an error in one line of at most 500 characters of valid Unicode."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.removeprefix("media: ")
    if len(text) > _REASON_CHARS:  # the cause is at the end
        text = f"{text[: _REASON_CHARS // 2]} ... {text[5 - _REASON_CHARS // 2 :]}"
    return text.encode(errors="backslashreplace").decode()


def inside(path: Path, root: Path) -> Path:
    """Resolve `path` and its links, and check that it lies inside `root`, which is resolved already.

    Raises:
        MediaError: If it leads elsewhere.
    """
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        raise MediaError(f"{path} leads outside {root}")
    return resolved
