"""webdataset tars: members that share a key are one row.

Input: `.tar`, `.tar.gz` or `.tgz` files. A member's key is its path up to the first dot of the file name; the
rest is its type: `.txt`, `.caption` and `.fr.txt` (one caption each), `.json` (a record), else a medium.
Output: an `Item` per key. Media of a plain tar are byte ranges that are read later; those of a compressed tar
are read now. Of a truncated tar the whole members are used, with one `Failure` for the rest.
"""

from __future__ import annotations

import glob
import gzip
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from sensorium.core.errors import MediaError, NotFoundError, UsageError
from sensorium.data.ingest.sources.ignored_files import companions, is_ignored
from sensorium.data.ingest.sources.item import Blob, Failure, Item, name_of, one_line, signature
from sensorium.data.ingest.sources.lines import decode
from sensorium.data.ingest.sources.record import Record, is_language, item_of, merge
from sensorium.data.ingest.sources.sidecars import MAX_SIDECAR_BYTES, json_record

SUFFIXES = (".tar", ".tar.gz", ".tgz")
TEXT_ENDINGS = frozenset({"txt", "caption", "text"})
RECORD_ENDINGS = frozenset({"json"})
IGNORED_ENDINGS = frozenset({"cls", "__key__", "npy", "npz", "pth", "pyd", "id"})
"""Members with labels and tensors, which are skipped."""

MAX_MEMBER_BYTES = 1 << 30
MAX_SHARDS = 100_000

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass
class _Group:
    """The members of one key."""

    key: str
    blobs: list[Blob] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def items(shards: Sequence[Path], *, source: str = "") -> Iterator[Item | Failure]:
    """List the rows of some tars, one tar after the other.

    Args:
        shards: The tars.
        source: Name of the collection; "" uses each tar's name without suffix.
    """
    for shard in shards:
        group: _Group | None = None
        for entry in _members(shard.resolve()):
            if isinstance(entry, Failure):
                yield entry
                continue
            key, ending, blob = entry
            if group is None or group.key != key:
                if group is not None:
                    yield from _finish(group, shard, source)
                group = _Group(key)
            _sort(group, ending, blob)
        if group is not None:
            yield from _finish(group, shard, source)


def expand(pattern: str) -> list[Path]:
    """Return the tars of a path, a glob or a `{000..099}` range; empty if the pattern has no tar suffix.

    Raises:
        NotFoundError: If a tar of a range is missing.
        UsageError: If a range is empty or too long.

    Example:
        >>> expand("notes.csv")
        []
    """
    if not pattern.lower().endswith(SUFFIXES):
        return []
    ranges = _RANGE.search(pattern)
    if ranges is not None:
        paths = [Path(pattern.replace(ranges[0], number, 1)) for number in _count(ranges)]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise NotFoundError(f"no file {missing}, one of {len(paths)} named by {pattern}")
        return paths
    if Path(pattern).is_file():
        return [Path(pattern)]
    return sorted(Path(path) for path in glob.glob(pattern) if Path(path).is_file())


def shards_in(folder: Path) -> list[Path]:
    """Return the tars of a folder that has only tars and files to ignore; else an empty list.

    Raises:
        MediaError: If the folder cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    except OSError as error:
        raise MediaError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    known = companions({path.name for path in files})
    shards = [path for path in files if path.name not in known and not is_ignored(path.name)]
    is_shards = bool(shards) and all(path.name.lower().endswith(SUFFIXES) for path in shards)
    return sorted(shards) if is_shards else []


def _count(ranges: re.Match[str]) -> list[str]:
    first, last = ranges[1], ranges[2]
    if not 0 <= int(last) - int(first) < MAX_SHARDS:
        raise UsageError(f"{ranges[0]} is not a range of 1 to {MAX_SHARDS:,} tars")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _members(shard: Path) -> Iterator[tuple[str, str, Blob] | Failure]:
    """Key, ending and reference of each regular member, until the tar is damaged."""
    is_plain = shard.name.lower().endswith(".tar")
    try:
        with shard.open("rb") as file:
            yield from _plain_members(file, shard) if is_plain else _packed_members(file, shard)
    except Exception as error:  # a damaged header makes `tarfile` and `zlib` raise many types
        yield Failure(name_of(shard), "read", f"not a complete tar: {one_line(error)}")


def _plain_members(file: BinaryIO, shard: Path) -> Iterator[tuple[str, str, Blob] | Failure]:
    status = signature(os.fstat(file.fileno()))
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            name = _key_and_ending(member)
            uri = f"{name_of(shard)}#{name_of(member.name)}"
            if name is not None and _is_refused(member):
                yield Failure(uri, "read", f"is sparse or has more than {MAX_MEMBER_BYTES:,} bytes")
            elif member.offset_data + member.size > status[0]:
                yield Failure(uri, "read", "the tar ends within this member")
                return
            elif name is not None:
                yield *name, Blob(uri, shard, member.offset_data, member.size, signature=status)
    file.seek(-min(status[0], 1024), os.SEEK_END)
    if status[0] < 1024 or any(file.read(1024)):  # a complete tar ends with two blocks of zeros
        yield Failure(name_of(shard), "read", "the tar has no end mark: it was cut off")


def _packed_members(file: BinaryIO, shard: Path) -> Iterator[tuple[str, str, Blob] | Failure]:
    with gzip.GzipFile(fileobj=file) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as tar:
        for member in tar:
            name = _key_and_ending(member)
            uri = f"{name_of(shard)}#{name_of(member.name)}"
            if name is not None and _is_refused(member):
                yield Failure(uri, "read", f"is sparse or has more than {MAX_MEMBER_BYTES:,} bytes")
            elif name is not None:
                content = tar.extractfile(member)
                yield *name, Blob(uri, data=b"" if content is None else content.read())


def _key_and_ending(member: tarfile.TarInfo) -> tuple[str, str] | None:
    """Key and lower-case ending; None for hidden members and those that are not files."""
    folder, _, name = member.name.removeprefix("./").rpartition("/")
    stem, _, ending = name.partition(".")
    if not member.isfile() or not stem or is_ignored(name) or folder.split("/")[0] == "__MACOSX":
        return None
    return (f"{folder}/{stem}" if folder else stem), ending.lower()


def _is_refused(member: tarfile.TarInfo) -> bool:
    return member.size > MAX_MEMBER_BYTES or member.issparse()


def _sort(group: _Group, ending: str, blob: Blob) -> None:
    last = ending.rpartition(".")[2]
    if last in IGNORED_ENDINGS:
        return
    if last not in TEXT_ENDINGS | RECORD_ENDINGS:
        group.blobs.append(blob)
        return
    try:
        text = decode(blob.read(MAX_SIDECAR_BYTES)[0])
        if last in RECORD_ENDINGS:
            group.records.append(json_record(text))
        else:
            tag = ending.partition(".")[0]
            language = tag if tag != ending and is_language(tag) else ""
            group.records.append(Record(texts=((language, text.strip()),) if text.strip() else ()))
    except (ValueError, RecursionError) as error:
        group.failures.append(Failure(blob.uri, "caption", f"not a caption: {one_line(error)}"))


def _finish(group: _Group, shard: Path, source: str) -> Iterator[Item | Failure]:
    yield from group.failures
    record = merge(group.records)
    if group.blobs or record.texts:
        key = name_of(group.key)
        record = replace(record, meta={**record.meta, "key": key})
        name = source or name_of(shard.name.partition(".")[0])
        yield item_of(record, tuple(group.blobs), name, uri=f"{name_of(shard.resolve())}#{key}")
