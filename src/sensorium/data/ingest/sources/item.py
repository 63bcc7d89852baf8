"""A row to be: where its bytes lie and what is said of them, before anything is read.

In: paths, byte ranges, inline bytes or URLs, and captions. Out: bytes with the fact whether the file stood
still. An item is small and picklable, so that the bytes are read in the worker that decodes them. It does
not know what kind of media its bytes are: that is told by their content, later.
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
"""A file that has become a pipe since it was listed does not hang its reader."""

_CLOCK_TICK_NS = 100_000_000
"""A file changed less than this long ago might change again without its time stamp showing it."""


@dataclass(frozen=True)
class Failure:
    """One input that gave no row.

    Attributes:
        uri: Path, URL or place within a file.
        stage: `read`, `parse`, `fetch`, `caption`, `probe`, `decode` or `store`.
        reason: One line.
    """

    uri: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Blob:
    """Some bytes, or where they lie.

    Attributes:
        uri: How a person would find them.
        path: The file that holds them, if they lie in one.
        offset: First byte within the file.
        size: Number of bytes; None = to the end of the file.
        data: The bytes themselves, if they came inline or were fetched.
        url: Where they are to be fetched from.
        field: The field they were declared as, or "" to tell by content.
        language: Of a spoken caption.
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
        """Return the bytes, and whether the file is as listed and old enough for that to mean something.

        Raises:
            LimitError: If there are more than `max_bytes`.
            MediaError: If they cannot be read or are not all there.
        """
        if self.data is not None:
            return self._bounded(self.data, max_bytes), True
        if self.path is None:
            raise MediaError(f"{self.uri} was not fetched; it is named by URL only")
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
            raise LimitError(f"{self.uri} has {expected:,} bytes, more than the limit of {max_bytes:,}")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(self.offset)
            data = file.read(expected)
        if len(data) != expected:
            raise MediaError(f"{self.uri} ends after {len(data):,} of {expected:,} bytes")
        return data, signature(os.fstat(descriptor)) == self.signature and _is_settled(status)

    def _bounded(self, data: bytes, max_bytes: int) -> bytes:
        if len(data) > max_bytes:
            raise LimitError(f"{self.uri} has {len(data):,} bytes, more than the limit of {max_bytes:,}")
        return data


@dataclass(frozen=True)
class Item:
    """One row to be.

    Attributes:
        uri: Name of the row.
        blobs: Its media, each of its own kind.
        texts: (language, text) pairs; the language may be "".
        group: Rows of one group stay on one side of a split; None = told by the captions.
        source: The collection it belongs to.
        licence: As stated by the source.
        meta: Whatever else is known.
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
        """Cheap fingerprint: equal stamps mean equal rows without reading any media."""
        digest = hashlib.sha256()
        for blob in self.blobs:
            is_inline = blob.data is not None and blob.url is None
            content = hashlib.sha256(blob.data or b"").hexdigest() if is_inline else ""
            place = (blob.uri, str(blob.path), blob.offset, blob.size, blob.field, blob.language)
            digest.update(repr((place, content, blob.url, blob.signature)).encode())
        digest.update(
            repr((self.uri, self.texts, self.group, self.licence, sorted(self.meta.items()))).encode()
        )
        if self.regions:
            digest.update(repr(self.regions).encode())
        return digest.hexdigest()[:24]

    @property
    def uris(self) -> tuple[str, ...]:
        """Every name under which this item may be reported."""
        return (self.uri, *(blob.uri for blob in self.blobs))


def file_blob(path: Path, *, uri: str = "", field: str = "", language: str = "") -> Blob:
    """Name a whole file, with its present size and times.

    Raises:
        MediaError: If it is missing or no regular file (opening a pipe would hang).
    """
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path} is not a regular file")
    return Blob(uri or name_of(path), path=path, field=field, language=language, signature=signature(status))


def signature(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file does: size, modification time, change time (which `cp -p` cannot set)."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def name_of(path: Path | str) -> str:
    r"""How a path stands in tables and error files: as it is, or percent-encoded where it is not UTF-8.

    A whole path becomes a `file:` URI (RFC 8089), which names the very bytes; a name within another file
    (a member of a tar) has its bytes encoded in place.

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
    """What an error says, in one line of at most 500 characters that can be stored anywhere."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.removeprefix("media: ")
    if len(text) > _REASON_CHARS:  # the cause stands at the end
        text = f"{text[: _REASON_CHARS // 2]} ... {text[5 - _REASON_CHARS // 2 :]}"
    return text.encode(errors="backslashreplace").decode()


def inside(path: Path, root: Path) -> Path:
    """Resolve `path`, links followed, and check that it lies under `root` (which is resolved already).

    Raises:
        MediaError: If it leads elsewhere.
    """
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        raise MediaError(f"{path} leads outside {root}")
    return resolved


def _is_settled(status: os.stat_result) -> bool:
    return time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _CLOCK_TICK_NS
