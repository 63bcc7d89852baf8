"""A folder of media, with captions in files beside them or in a caption table.

Input: a folder. Output: an `Item` per row, sorted by name.

- Files of one name and different kinds are one row: `frog.png`, `frog.ogg`, with the captions in `frog.txt`
  (one per line), `frog.fr.txt` (French) and `frog.json` (see `sidecars`). A second file of one kind starts
  another row.
- `captions.csv|tsv|jsonl|parquet` (or `metadata.*`) in any folder has captions of files relative to it; a
  file may occur in several lines.
- A text file without a medium of its name becomes a row of text.
- Hidden files and files of the system or of photo libraries are skipped (see `ignored_files`).
- Links that lead outside the folder, pipes and devices are refused.
- Tars and other tables are not read: the failure names the command that reads them.

Kinds are guessed from suffixes only to form rows; the content decides later.
"""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sensorium.core.errors import MediaError, NotFoundError, SensoriumError
from sensorium.data.ingest.sources import sidecars, table_rows, tabular
from sensorium.data.ingest.sources.ignored_files import (
    companions,
    is_album,
    is_ignored,
    is_ignored_folder,
    pattern,
)
from sensorium.data.ingest.sources.item import Blob, Failure, Item, file_blob, inside, name_of, one_line
from sensorium.data.ingest.sources.lines import parse_json
from sensorium.data.ingest.sources.record import Record, item_of, merge

AUDIO_SUFFIXES = frozenset(".wav .ogg .oga .opus .flac .mp3 .m4a .aac .aiff .aif .wma".split())
VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mkv .webm .mov .avi .mpg .mpeg .ts .gif .apng .ogv .flv .wmv".split())
CAPTION_STEMS = frozenset({"captions", "metadata"})
CAPTION_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


@dataclass
class _Folder:
    """The files of one folder: media, files that describe media or are texts, and what cannot be read."""

    media: dict[Path, Blob] = field(default_factory=dict)
    sidecars: list[Path] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def items(root: Path, *, source: str = "") -> Iterator[Item | Failure]:
    """List the rows of a folder and of those within it.

    Args:
        root: The folder.
        source: Name of the collection; "" uses the folder's name.

    Raises:
        NotFoundError: If there is no such folder.
    """
    if not root.is_dir():
        raise NotFoundError(f"no folder {root}; give the path of a folder of media")
    root = root.resolve()
    name = source or name_of(root.name)
    captions: dict[Path, list[Record]] = defaultdict(list)
    unreadable: list[OSError] = []
    for folder, _, names in _walk(root, []):
        for file in names:
            if _is_caption_table(folder / file):
                yield from _read_captions(folder / file, root, captions)
    for folder, folders, names in _walk(root, unreadable):
        yield from _escaping_links(folder, folders, root)
        content = _sort_files(folder, names, folders, root)
        yield from content.failures
        yield from _rows(content, captions, name)
    for error in unreadable:
        uri = name_of(os.fsdecode(error.filename or root))
        yield Failure(uri, "read", f"cannot read the folder: {error.strerror or error}")
    yield from _rest(captions, name)


def _walk(root: Path, unreadable: list[OSError]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder with the sorted names of its folders and files, without hidden and ignored ones.

    Links are not followed. Errors of folders that cannot be read are added to `unreadable`.
    """
    for folder, folders, names in os.walk(root, onerror=unreadable.append):
        path = Path(folder)
        visible = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(name for name in visible if not is_ignored_folder(path, name, visible))
        files = sorted(name for name in names if not name.startswith(".") and not is_ignored(name))
        yield path, folders, files


def _escaping_links(folder: Path, folders: list[str], root: Path) -> Iterator[Failure]:
    """Failures for links to folders outside `root`; a target inside is visited by the walk itself."""
    for name in folders:
        if (folder / name).is_symlink():
            try:
                inside(folder / name, root)
            except (MediaError, OSError) as error:
                yield Failure(name_of(folder / name), "read", one_line(error))


def _sort_files(folder: Path, names: list[str], folders: list[str], root: Path) -> _Folder:
    content, tars = _Folder(), []
    known = companions(names, folders)
    for name in names:
        path = folder / name
        suffix = path.suffix.lower()
        try:
            if path.is_symlink():  # all other paths are inside the root
                inside(path, root)
            blob = file_blob(path)
        except (MediaError, OSError) as error:
            content.failures.append(Failure(name_of(path), "read", one_line(error)))
            continue
        if name in known or _is_caption_table(path):
            continue
        if suffix in sidecars.SUFFIXES:
            content.sidecars.append(path)
        elif name.lower().endswith(TAR_SUFFIXES) and _is_tar(_head(path)):
            tars.append(name)
        elif suffix in table_rows.SUFFIXES and _is_table(_head(path)):
            content.failures.append(Failure(name_of(path), "read", f"a table, no medium; {_command(path)}"))
        else:
            content.media[path] = blob
    if tars:
        shards = folder / pattern(tars)
        content.failures.append(Failure(name_of(shards), "read", f"has rows in tars; {_command(shards)}"))
    return content


def _command(path: Path) -> str:
    return f"read it with: sensorium data prepare {shlex.quote(name_of(path))} -o TABLE"


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b")


def _is_table(head: bytes) -> bool:
    """Whether a file with the suffix of a table is a table, by its first bytes."""
    return (
        head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"\xff\xfe", b"\xfe\xff"))
        or b"\0" not in head
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError:  # reported when the file is read
        return b"\0"


def _is_caption_table(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.stem.lower() not in CAPTION_STEMS or path.is_symlink() or not path.is_file():
        return False
    return suffix in CAPTION_SUFFIXES or (suffix == ".txt" and tabular.has_header(path))


def _rows(content: _Folder, captions: dict[Path, list[Record]], source: str) -> Iterator[Item | Failure]:
    matched = sidecars.match(content.sidecars, list(content.media))
    for rows in _group(content.media).values():
        read: dict[tuple[Path, str], Record | Failure] = {}
        for row in rows:
            records = (
                [record for path in row for record in captions.pop(path.resolve(), [])] if captions else []
            )
            for entry in matched.of(row):
                if entry not in read:
                    read[entry] = outcome = sidecars.read(*entry)
                    if isinstance(outcome, Failure):
                        yield outcome
                record = read[entry]
                if isinstance(record, Record):
                    records.append(record)
            blobs = tuple(content.media[path] for path in row)
            yield _item(blobs, merge(records), source)
    yield from _orphans(matched.orphans, captions, source)


def _group(media: Mapping[Path, Blob]) -> dict[str, list[list[Path]]]:
    """For each stem its rows: files of different kinds share a row, a second of one kind starts another."""
    groups: dict[str, list[list[Path]]] = {}
    for path in media:
        rows = groups.setdefault(path.stem, [[]])
        kinds = {_kind(other) for other in rows[-1]}
        if _kind(path) in kinds:
            rows.append([path])
        else:
            rows[-1].append(path)
    return groups


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in AUDIO_SUFFIXES:
        return "audio"
    return "video" if suffix in VIDEO_SUFFIXES else "image"


def _read_captions(table: Path, root: Path, captions: dict[Path, list[Record]]) -> Iterator[Failure]:
    """Add the records of a caption table to `captions`, by file."""
    try:
        for row in table_rows.read_rows(table):
            if isinstance(row, Failure):
                yield row
                continue
            try:
                file, record = tabular.file_and_record(row.values)
                if not file:
                    raise ValueError("has no file name")
                captions[inside(table.parent / file, root)].append(record)
            except Exception as error:  # a bad row costs only itself
                yield Failure(row.uri, "caption", one_line(error))
    except SensoriumError as error:
        yield Failure(name_of(table), "caption", one_line(error))


def _item(blobs: tuple[Blob, ...], record: Record, source: str) -> Item:
    names = {os.path.basename(blob.uri) for blob in blobs}
    texts = tuple(pair for pair in record.texts if pair[1] not in names)  # titles are often the file's name
    return item_of(replace(record, texts=texts), blobs, source)


def _orphans(paths: list[Path], captions: dict[Path, list[Record]], source: str) -> Iterator[Item | Failure]:
    """Rows of text files without a medium; failures for other files that describe no medium here."""
    for path in paths:
        if path.suffix.lower() in sidecars.TEXT_SUFFIXES:
            record = merge(captions.pop(path.resolve(), []))
            try:
                blob = file_blob(path)
            except MediaError as error:
                yield Failure(name_of(path), "read", one_line(error))
                continue
            yield _item((replace(blob, field="text"),), record, source)
        elif not _is_album_file(path):
            reason = f"describes no medium: there is no other file named {name_of(path.stem)}"
            yield Failure(name_of(path), "caption", reason)


def _is_album_file(path: Path) -> bool:
    try:
        if path.suffix.lower() != ".json" or path.stat().st_size > sidecars.MAX_SIDECAR_BYTES:
            return False
        return is_album(path, parse_json(path.read_bytes()))
    except (OSError, ValueError):
        return False


def _rest(captions: Mapping[Path, list[Record]], source: str) -> Iterator[Item | Failure]:
    """Files of caption tables that the walk did not list (such as hidden ones), or that do not exist."""
    for path, records in captions.items():
        try:
            yield _item((file_blob(path),), merge(records), source)
        except MediaError:
            yield Failure(name_of(path), "read", "named by a caption table, but there is no such file")
