"""Atomic file writes, and storage errors with a readable cause.

A file is written to a temporary file in the same folder, synced, renamed, and the folder is synced. After a
crash the old or the new file exists, never a part of one.
"""

from __future__ import annotations

import contextlib
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
    """Write `content` atomically: after a crash the old or the new file exists, never a part of one."""
    data = content.encode() if isinstance(content, str) else content
    replace_atomic(path, lambda temporary: temporary.write_bytes(data))


def replace_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary file beside `path`, then rename it to `path` durably.

    StorageError if the disk is full, or `path` is not writable.
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
        with contextlib.suppress(OSError):  # its folder may be a file, or not be ours
            temporary.unlink(missing_ok=True)


def storage_error(error: BaseException, path: Path, failed: str = "cannot be written") -> StorageError | None:
    """Convert an exception of any library to a `StorageError`, or return None if storage is not its cause.

    Messages of Rust code are recognised by `(os error N)`. `failed` names the operation, for the message.
    """
    if isinstance(error, StorageError):
        return error
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = int(found[1]) if found else error.errno if isinstance(error, OSError) else None
    cause = None if number is None else _CAUSES.get(number)
    return None if cause is None else StorageError(f"{path} {failed}: {cause}")


def sha256(path: Path) -> str:
    """Hex digest of a file's content, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped_dir(name: str) -> Path:
    """Folder of files that are shipped with sensorium, in the installed package or in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / name
    return installed if installed.is_dir() else package.parents[1] / name


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
