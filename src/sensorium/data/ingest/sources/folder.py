"""A folder of media: captions beside them or in one table.

In: a folder. Out: an `Item` for each row, in the order of the names.

- Files of one name and different kinds make one row: `frog.png`, `frog.ogg`, with the captions in
  `frog.txt` (one a line), `frog.fr.txt` (French) and `frog.json` (see `sidecars` for more). A second file
  of one kind makes a row of its own.
- `captions.csv|tsv|jsonl|parquet` (or `metadata.*`) in any folder names files relative to itself, any
  number of times.
- A text file without a medium of its name becomes a row of text.
- Hidden files and files of the system or of photo libraries are skipped (see `ignored_files`).
- Links that lead outside the folder, pipes and devices are refused.
- Tars and other tables are not read: the failure names the command that reads them.

Kinds are guessed from names only to form rows; the content decides later what a file is.
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
from sensorium.data.ingest.sources.record import Record, merge

AUDIO_SUFFIXES = frozenset(".wav .ogg .oga .opus .flac .mp3 .m4a .aac .aiff .aif .wma".split())
VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mkv .webm .mov .avi .mpg .mpeg .ts .gif .apng .ogv .flv .wmv".split())
CAPTION_STEMS = frozenset({"captions", "metadata"})
CAPTION_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


@dataclass
class _Folder:
    """The files of one folder, sorted by use.

    Attributes:
        media: Media with what is known of each file.
        said: Files that describe media or are texts of their own.
        tars: Names of tars.
        failures: What cannot be read.
    """

    media: dict[Path, Blob] = field(default_factory=dict)
    said: list[Path] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def items(root: Path, *, source: str = "") -> Iterator[Item | Failure]:
    """List the rows of a folder and of those within it.

    Args:
        root: The folder.
        source: What the rows' source is called; the folder's name if "".

    Raises:
        NotFoundError: If there is no such folder.
    """
    if not root.is_dir():
        raise NotFoundError(f"no folder {root}; give the path of a folder of media")
    root = root.resolve()
    name = source or name_of(root.name)
    named: dict[Path, list[Record]] = defaultdict(list)
    closed: list[OSError] = []
    for place, _, names in _walk(root, []):
        for file in names:
            if _is_caption_table(place / file):
                yield from _read_captions(place / file, root, named)
    for place, folders, names in _walk(root, closed):
        yield from _escaping_links(place, folders, root)
        content = _sort_files(place, names, folders, root)
        yield from content.failures
        yield from _rows(content, named, name)
    for error in closed:
        place_name = name_of(os.fsdecode(error.filename or root))
        yield Failure(place_name, "read", f"cannot read the folder: {error.strerror or error}")
    yield from _missing(named, name)


def _walk(root: Path, closed: list[OSError]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folder, names of folders and of files in it; sorted, hidden and ignored ones left out.

    Links are not followed. What cannot be entered is added to `closed`.
    """
    for place, folders, names in os.walk(root, onerror=closed.append):
        path = Path(place)
        visible = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(name for name in visible if not is_ignored_folder(path, name, visible))
        files = sorted(name for name in names if not name.startswith(".") and not is_ignored(name))
        yield path, folders, files


def _escaping_links(place: Path, folders: list[str], root: Path) -> Iterator[Failure]:
    """Linked folders are not entered: those inside are met where they lie, those outside are refused."""
    for name in folders:
        if (place / name).is_symlink():
            try:
                inside(place / name, root)
            except (MediaError, OSError) as error:
                yield Failure(name_of(place / name), "read", one_line(error))


def _sort_files(place: Path, names: list[str], folders: list[str], root: Path) -> _Folder:
    content = _Folder()
    known = companions(names, folders)
    for name in names:
        path = place / name
        suffix = path.suffix.lower()
        try:
            if path.is_symlink():  # any other path lies under the root as it was walked
                inside(path, root)
            blob = file_blob(path)
        except (MediaError, OSError) as error:
            content.failures.append(Failure(name_of(path), "read", one_line(error)))
            continue
        if name in known or _is_caption_table(path):
            continue
        if suffix in sidecars.SUFFIXES:
            content.said.append(path)
        elif name.lower().endswith(TAR_SUFFIXES) and _is_tar(path):
            content.tars.append(name)
        elif suffix in table_rows.SUFFIXES and _is_table(path):
            content.failures.append(Failure(name_of(path), "read", f"a table, no medium; {_command(path)}"))
        else:
            content.media[path] = blob
    if content.tars:
        shards = place / pattern(content.tars)
        content.failures.append(Failure(name_of(shards), "read", f"holds rows in tars; {_command(shards)}"))
    return content


def _command(path: Path) -> str:
    return f"read it by: sensorium data prepare {shlex.quote(name_of(path))} -o TABLE"


def _is_tar(path: Path) -> bool:
    head = _head(path)
    return head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b")


def _is_table(path: Path) -> bool:
    """Whether a file that is called a table is one, not a medium with an odd name."""
    head = _head(path)
    return (
        head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"\xff\xfe", b"\xfe\xff"))
        or b"\0" not in head
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError:  # that it cannot be read is told when it is
        return b"\0"


def _is_caption_table(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.stem.lower() not in CAPTION_STEMS or path.is_symlink() or not path.is_file():
        return False
    return suffix in CAPTION_SUFFIXES or (suffix == ".txt" and tabular.has_header(path))


def _rows(content: _Folder, named: dict[Path, list[Record]], source: str) -> Iterator[Item | Failure]:
    described = sidecars.match(content.said, list(content.media))
    for rows in _group(content.media).values():
        read: dict[tuple[Path, str], Record | Failure] = {}
        for row in rows:
            said: list[Record] = []
            for entry in described.of(row):
                if entry not in read:
                    read[entry] = outcome = sidecars.read(*entry)
                    if isinstance(outcome, Failure):
                        yield outcome
                told = read[entry]
                if isinstance(told, Record):
                    said.append(told)
            records = [record for path in row for record in named.pop(path.resolve(), [])] if named else []
            blobs = tuple(content.media[path] for path in row)
            yield _item(blobs, merge([*records, *said]), source)
    yield from _orphans(described.orphans, named, source)


def _group(media: Mapping[Path, Blob]) -> dict[str, list[list[Path]]]:
    """For each stem its rows: files of different kinds share one, a second of one kind starts the next."""
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


def _read_captions(table: Path, root: Path, named: dict[Path, list[Record]]) -> Iterator[Failure]:
    """Gather into `named` what a caption table says of each file."""
    try:
        for row in table_rows.read_rows(table):
            if isinstance(row, Failure):
                yield row
                continue
            try:
                file, record = tabular.file_and_record(row.values)
                if not file:
                    raise ValueError("names no file")
                named[inside(table.parent / file, root)].append(record)
            except Exception as error:  # whatever a row holds, it costs that row only
                yield Failure(row.uri, "caption", one_line(error))
    except SensoriumError as error:
        yield Failure(name_of(table), "caption", one_line(error))


def _item(blobs: tuple[Blob, ...], record: Record, source: str) -> Item:
    names = {os.path.basename(blob.uri) for blob in blobs}
    texts = tuple(pair for pair in record.texts if pair[1] not in names)  # a title that is the file's name
    return Item(blobs[0].uri, blobs, texts, record.group, source, record.licence, record.meta)


def _orphans(paths: list[Path], named: dict[Path, list[Record]], source: str) -> Iterator[Item | Failure]:
    """Texts of their own, and what describes no medium of this folder."""
    for path in paths:
        if path.suffix.lower() in sidecars.TEXT_SUFFIXES:
            said = merge(named.pop(path.resolve(), []))
            try:
                blob = file_blob(path)
            except MediaError as error:
                yield Failure(name_of(path), "read", one_line(error))
                continue
            yield _item((replace(blob, field="text"),), said, source)
        elif not _describes_an_album(path):
            reason = f"describes no medium: there is no other file named {name_of(path.stem)}"
            yield Failure(name_of(path), "caption", reason)


def _describes_an_album(path: Path) -> bool:
    try:
        if path.suffix.lower() != ".json" or path.stat().st_size > sidecars.MAX_SIDECAR_BYTES:
            return False
        return is_album(path, parse_json(path.read_bytes()))
    except (OSError, ValueError):
        return False


def _missing(named: Mapping[Path, list[Record]], source: str) -> Iterator[Item | Failure]:
    """What a caption table names in a folder below it, or nowhere."""
    for path, records in named.items():
        try:
            blob = file_blob(path)
        except MediaError:
            reason = "named by a caption table, but there is no such file"
            yield Failure(name_of(path), "read", reason)
            continue
        yield _item((blob,), merge(records), source)
