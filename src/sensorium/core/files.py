"""Files that are whole or absent: write to a temporary neighbour, fsync, rename, fsync the folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from sensorium.core.errors import StorageError

_CAUSES = {
    errno.ENOSPC: "the disk is full; free some space, then run the same again",
    errno.EDQUOT: "the quota is used up; free some space, then run the same again",
    errno.EFBIG: "the file would be larger than is allowed here; raise the limit or choose another disk",
    errno.EROFS: "the place is read-only; choose another",
    errno.EACCES: "no permission; change it or choose another place",
    errno.EPERM: "no permission; change it or choose another place",
    errno.ENOTDIR: "a part of its path is a file; choose another path",
    errno.EEXIST: "a part of its path is a file; choose another path",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` so that a crash leaves the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    replace_atomic(path, lambda temporary: _write(temporary, data))


def replace_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place durably.

    Raises:
        StorageError: If the disk is full, or the place may not be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except Exception as error:
        known = storage_error(error, path)
        if known is None or known is error:
            raise
        raise known from error
    finally:
        _remove(temporary)


def storage_error(error: BaseException, path: Path, failed: str = "cannot be written") -> StorageError | None:
    """What a failure of any library says of the disk, or None where that is not the cause.

    Args:
        error: Of Python, or of Rust code, whose messages hold `(os error N)`.
        path: What was written or read.
        failed: What did not go, in words.
    """
    if isinstance(error, StorageError):
        return error
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = int(found[1]) if found else error.errno if isinstance(error, OSError) else None
    cause = None if number is None else _CAUSES.get(number)
    return None if cause is None else StorageError(f"{path} {failed}: {cause}")


def sha256(path: Path) -> str:
    """Hex digest of a file's content, read in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped_dir(name: str) -> Path:
    """Folder of files that come with sensorium: inside the installed package, or of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / name
    return installed if installed.is_dir() else package.parents[1] / name


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder may be a file, or not be ours
        pass


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
