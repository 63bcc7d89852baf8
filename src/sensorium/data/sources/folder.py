"""A folder of media: captions beside them or in one table.

In: a folder. Out: an `Item` for each row, in the order of the names.

- Files of one name and different kinds make one row: `frog.png`, `frog.ogg`, with the captions in
  `frog.txt` (one a line), `frog.fr.txt` (French) and `frog.json`. A second file of one kind makes a row of
  its own.
- `captions.csv|tsv|jsonl|parquet` (or `metadata.*`) in any folder names files relative to itself, any
  number of times.
- A text file beside no medium is a row of text. Hidden files are passed over; links that lead outside,
  pipes and devices are refused.

Kinds are guessed from names only to form rows; the content decides later what a file is.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sensorium.core.errors import MediaError, NotFoundError, SensoriumError
from sensorium.data.sources import cells, tabular
from sensorium.data.sources.item import Blob, Failure, Item, file_blob, inside
from sensorium.data.sources.record import Record, is_language, merge, read_record

TEXT_SUFFIXES = frozenset({".txt", ".md"})
AUDIO_SUFFIXES = frozenset(".wav .ogg .oga .opus .flac .mp3 .m4a .aac .aiff .aif .wma".split())
VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mkv .webm .mov .avi .mpg .mpeg .ts .gif .apng .ogv .flv .wmv".split())
CAPTION_STEMS = frozenset({"captions", "metadata"})
CAPTION_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
LITTER = frozenset({"thumbs.db", "desktop.ini"})
MAX_SIDECAR_BYTES = 16 * 1024 * 1024


@dataclass
class _Folder:
    """The files of one folder, sorted by use; sidecars also by stem, and by stem without their language."""

    media: list[Path] = field(default_factory=list)
    texts: dict[str, Path] = field(default_factory=dict)
    records: dict[str, Path] = field(default_factory=dict)
    by_stem: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    by_base: dict[str, list[tuple[Path, str]]] = field(default_factory=lambda: defaultdict(list))
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
    named: dict[Path, list[Record]] = defaultdict(list)
    for place, _, names in _walk(root):
        for name in names:
            if _is_caption_table(place / name):
                yield from _read_captions(place / name, root, named)
    for place, folders, names in _walk(root):
        yield from _escaping_links(place, folders, root)
        content = _sort_files(place, names, root)
        yield from content.failures
        yield from _rows(content, named, source or root.name)
    yield from _missing(named, source or root.name)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folder, names of folders and of files in it; sorted, hidden ones left out, links not followed."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield (
            Path(place),
            folders,
            sorted(n for n in names if not n.startswith(".") and n.lower() not in LITTER),
        )


def _escaping_links(place: Path, folders: list[str], root: Path) -> Iterator[Failure]:
    """Linked folders are not entered: those inside are met where they lie, those outside are refused."""
    for name in folders:
        if (place / name).is_symlink():
            try:
                inside(place / name, root)
            except (MediaError, OSError) as error:
                yield Failure(str(place / name), "read", str(error))


def _sort_files(place: Path, names: list[str], root: Path) -> _Folder:
    content = _Folder()
    for name in names:
        path = place / name
        suffix = path.suffix.lower()
        try:
            if path.is_symlink():  # any other path lies under the root as it was walked
                inside(path, root)
            file_blob(path)
        except (MediaError, OSError) as error:
            content.failures.append(Failure(str(path), "read", str(error)))
            continue
        if _is_caption_table(path):
            continue
        if suffix in TEXT_SUFFIXES | {".json"}:
            content.by_stem[path.stem].append(path)
        if suffix in TEXT_SUFFIXES:
            content.texts[name] = path
            base, _, tag = path.stem.rpartition(".")
            if base and is_language(tag):
                content.by_base[base].append((path, tag))
        elif suffix == ".json":
            content.records[name] = path
        else:
            content.media.append(path)
    return content


def _is_caption_table(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.stem.lower() not in CAPTION_STEMS or path.is_symlink() or not path.is_file():
        return False
    return suffix in CAPTION_SUFFIXES or (suffix == ".txt" and tabular.has_header(path))


def _rows(content: _Folder, named: dict[Path, list[Record]], source: str) -> Iterator[Item | Failure]:
    used: set[str] = set()
    stems = {path.stem for path in content.media}
    for rows in _group(content.media).values():
        sidecars = _sidecars(rows, content, stems)
        used.update(path.name for path, _ in sidecars)
        said: list[Record] = []
        for path, language in sidecars:
            outcome = _read_sidecar(path, language)
            if isinstance(outcome, Failure):
                yield outcome
            else:
                said.append(outcome)
        for row in rows:
            records = [record for path in row for record in named.pop(path.resolve(), [])] if named else []
            yield _item(row, merge([*records, *said]), source)
    yield from _texts_alone(content, used, named, source)


def _group(media: list[Path]) -> dict[str, list[list[Path]]]:
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


def _sidecars(rows: list[list[Path]], content: _Folder, stems: set[str]) -> list[tuple[Path, str]]:
    """Files that describe the media of one stem, each with its language."""
    stem = rows[0][0].stem
    owners = dict.fromkeys([stem, *(path.name for row in rows for path in row)])
    found = [(path, "") for owner in owners for path in content.by_stem.get(owner, [])]
    for path, tag in content.by_base.get(stem, []):
        if path.stem not in stems and path.stem not in owners:
            found.append((path, tag))
    return found


def _read_sidecar(path: Path, language: str) -> Record | Failure:
    try:
        data, _ = file_blob(path).read(MAX_SIDECAR_BYTES)
        text = data.decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            return json_record(text)
        lines = (line.strip() for line in text.splitlines())
        return Record(texts=tuple((language, line) for line in lines if line))
    except (MediaError, ValueError, RecursionError) as error:
        return Failure(str(path), "caption", f"not a caption file: {error}")


def json_record(text: str) -> Record:
    """Read a JSON sidecar: an object, a list of captions, or one caption.

    Raises:
        ValueError: If it is no JSON.
    """
    value = json.loads(text)
    return read_record(value if isinstance(value, Mapping) else {"caption": value})


def _read_captions(table: Path, root: Path, named: dict[Path, list[Record]]) -> Iterator[Failure]:
    """Gather into `named` what a caption table says of each file."""
    try:
        for row in cells.read_rows(table):
            if isinstance(row, Failure):
                yield row
                continue
            file, record = tabular.file_and_record(row.values)
            if not file:
                yield Failure(row.uri, "caption", "names no file")
                continue
            try:
                named[inside(table.parent / file, root)].append(record)
            except (MediaError, OSError, ValueError) as error:
                yield Failure(row.uri, "caption", str(error))
    except SensoriumError as error:
        yield Failure(str(table), "caption", str(error))


def _item(paths: list[Path], record: Record, source: str) -> Item:
    blobs: tuple[Blob, ...] = tuple(file_blob(path) for path in paths)
    return Item(str(paths[0]), blobs, record.texts, record.group, source, record.licence, record.meta)


def _texts_alone(
    content: _Folder, used: set[str], named: dict[Path, list[Record]], source: str
) -> Iterator[Item | Failure]:
    for name, path in content.texts.items():
        if name not in used:
            said = merge(named.pop(path.resolve(), []))
            item = _item([path], said, source)
            yield replace(item, blobs=(replace(item.blobs[0], field="text"),))
    for name, path in content.records.items():
        if name not in used:
            yield Failure(
                str(path), "caption", f"describes no medium: there is no other file named {path.stem}"
            )


def _missing(named: Mapping[Path, list[Record]], source: str) -> Iterator[Item | Failure]:
    """What a caption table names in a folder below it, or nowhere."""
    for path, records in named.items():
        try:
            yield _item([path], merge(records), source)
        except MediaError:
            yield Failure(str(path), "read", "named by a caption table, but there is no such file")
