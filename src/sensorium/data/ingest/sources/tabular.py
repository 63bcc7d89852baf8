"""Table files (CSV, TSV, JSONL, JSON, Parquet, Arrow) whose rows name media and contain captions.

Input: a file, and the role of each column (guessed from usual names if not given). Output: an `Item` per row.
A medium is a path, a URL, a `data:` URI, bytes, or Hugging Face's `{"bytes", "path"}`. Paths are relative to
the table and must stay inside its folder, or inside `root`. Rows of JSONL may have different keys.
"""

from __future__ import annotations

import base64
import binascii
import csv
import difflib
import itertools
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sensorium.core.errors import MediaError, UsageError
from sensorium.core.types import FIELDS
from sensorium.data.ingest.sources.delimited import delimiter
from sensorium.data.ingest.sources.item import Blob, Failure, Item, file_blob, inside, name_of, one_line
from sensorium.data.ingest.sources.record import (
    GROUP_NAMES,
    LANGUAGE_NAMES,
    LICENCE_NAMES,
    Record,
    canonical,
    item_of,
    read_record,
    text_columns,
)
from sensorium.data.ingest.sources.table_rows import Row, read_rows

FILE_NAMES = (
    "file_name filename file filepath file_path path image image_path img photo picture media".split()
)
MEDIA_NAMES: Mapping[str, Sequence[str]] = {
    "": [*FILE_NAMES, "img_path", "jpg", "jpeg", "png", "webp"],
    "audio": ["audio", "audio_path", "sound", "wav"],
    "video": ["video", "video_path", "clip"],
    "speech": ["speech", "speech_path", "spoken_caption"],
    "url": ["url", "image_url", "img_url", "media_url", "audio_url", "video_url"],
}
ROLES = (*FIELDS, "url", "file", "language", "licence", "group")

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_HEAD_ROWS = 100
"""Number of rows that are searched for the requested columns."""

_MAX_PATH_BYTES = 4096
_MAX_KINDS = 1000


@dataclass(frozen=True)
class Columns:
    """The role of each column.

    Attributes:
        media: Column to field; "" detects the field from the content. `url` columns have addresses.
        texts: Column to language, or "".
        renamed: Column to the record key (`language`, `licence`, `group`) that it stands for.
        is_explicit: Whether text columns were given by name; then numbers in them are texts.
    """

    media: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    is_explicit: bool = False


def items(
    path: Path,
    *,
    columns: Mapping[str, Sequence[str]] | None = None,
    root: Path | None = None,
    source: str = "",
) -> Iterator[Item | Failure]:
    """List the rows of a table file.

    Args:
        path: The file.
        columns: Role (`image`, `audio`, `video`, `speech`, `file`, `url`, `text`, `text:fr`, `language`,
            `licence`, `group`) to columns; other roles are guessed.
        root: Media paths are relative to this folder and must stay inside; None: the table's folder.
        source: Name of the collection; "" uses the file's name without suffix.

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If a column or role is unknown, or no column is a medium or a text.
    """
    folder = (path.parent if root is None else root).resolve()
    rows = read_rows(path)
    wanted = [column for names in (columns or {}).values() for column in names]
    head = _first_rows(rows, wanted)
    parsed = [row.values for row in head if isinstance(row, Row)]
    later = [column for column in wanted if any(column in values for values in parsed[1:])]
    choose_columns(list(dict.fromkeys([*(parsed[0] if parsed else ()), *later])), columns or {}, path)
    roles = _Roles(columns or {}, path)
    for row in itertools.chain(head, rows):
        yield row if isinstance(row, Failure) else _item(row, roles, folder, source or name_of(path.stem))


class _Roles:
    """Column roles for rows with different keys; computed once for each set of keys."""

    def __init__(self, asked: Mapping[str, Sequence[str]], path: Path) -> None:
        self._asked, self._path = asked, path
        self._first: Columns | None = None
        self._names: frozenset[str] = frozenset()
        self._others: dict[frozenset[str], Columns] = {}

    def of(self, row: Row) -> Columns:
        """The roles for a row; a row with a subset of the first row's keys uses the first row's roles.

        Raises:
            UsageError: If keys differ only by case.
        """
        if self._first is None:
            self._names = frozenset(row.values)
            self._first = self._roles(row)
        if row.values.keys() <= self._names:
            return self._first
        names = frozenset(row.values)
        if len(self._others) >= _MAX_KINDS:
            self._others.clear()
        if names not in self._others:
            self._others[names] = self._roles(row)
        return self._others[names]

    def _roles(self, row: Row) -> Columns:
        return _guessed(list(row.values), *_as_asked(self._asked), self._path)


def choose_columns(names: Sequence[str], asked: Mapping[str, Sequence[str]], path: Path) -> Columns:
    """Assign a role to each column: as given in `asked`, the rest by usual names.

    Raises:
        UsageError: If a role or a column is unknown, or no column is a medium or a text.
    """
    for role, wanted in asked.items():
        if role.partition(":")[0] not in ROLES:
            raise UsageError(f"--map {role}=...: unknown role; expected one of {', '.join(ROLES)}")
        for column in wanted:
            if names and column not in names:
                near = difflib.get_close_matches(column, names, n=1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                reason = f"{path} has no column '{column}'; {hint}columns: {', '.join(names)}"
                raise UsageError(one_line(reason))
    chosen = _guessed(names, *_as_asked(asked), path)
    if names and not chosen.media and not chosen.texts:
        known = one_line(", ".join(names))
        raise UsageError(
            f"{path}: no column has a usual name; give --map image=COLUMN,text=COLUMN; columns: {known}"
        )
    return chosen


def _guessed(
    names: Sequence[str], media: dict[str, str], texts: dict[str, str], renamed: dict[str, str], path: Path
) -> Columns:
    """The given roles, and the rest by usual names."""
    is_explicit = bool(texts)
    if not media:
        media = _guess_media([name for name in names if name not in {*texts, *renamed}], path)
    if not texts:
        texts = {name: tag for name, tag in text_columns(names).items() if name not in {*media, *renamed}}
    for usual in (LANGUAGE_NAMES, LICENCE_NAMES, GROUP_NAMES):
        if not set(usual) & set(renamed.values()):
            _check_alike([name for name in names if canonical(name) in usual], path)
    return Columns(media, texts, renamed, is_explicit)


def _check_alike(names: Sequence[str], path: Path) -> None:
    """Refuse columns whose names differ only in case or surrounding spaces."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(canonical(name), name)
        if first != name:
            raise UsageError(
                f"{path}: columns {first!r} and {name!r} differ only in case or spaces; rename one, "
                f"or choose one with --map ROLE=COLUMN"
            )


def file_and_record(values: Mapping[str, object]) -> tuple[str, Record]:
    """Split a row of a caption table into its file name ("" if none) and its record."""
    keys = [key for key in values if canonical(key) in FILE_NAMES]
    named = next((name for name in FILE_NAMES for key in keys if canonical(key) == name), "")
    found = [key for key in keys if canonical(key) == named]
    if len(found) > 1:
        raise ValueError(f"columns {found[0]!r} and {found[1]!r} differ only in case or spaces; rename one")
    key = found[0] if found else None
    record = read_record({name: value for name, value in values.items() if name != key})
    file = "" if key is None else values[key]
    return (file.decode() if isinstance(file, bytes) else str(file or "")), record


def has_header(path: Path) -> bool:
    """Whether a text file starts like a caption table: with the names of a file column and a text column."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(4096)
        names = next(csv.reader([line.strip()], delimiter=delimiter(line)), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return any(canonical(name) in FILE_NAMES for name in names) and bool(text_columns(names))


def _as_asked(asked: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    media: dict[str, str] = {}
    texts: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for role, wanted in asked.items():
        base, _, tag = role.partition(":")
        for column in wanted:
            if base == "text":
                texts[column] = tag
            elif base in ("language", "licence", "group"):
                renamed[column] = base
            else:
                media[column] = "" if base == "file" else role
    return media, texts, renamed


def _guess_media(names: Sequence[str], path: Path) -> dict[str, str]:
    """The first column with a usual name for each field; a URL column only if there is no file column."""
    known: dict[str, list[str]] = {}
    for name in names:
        known.setdefault(canonical(name), []).append(name)
    found: dict[str, str] = {}
    for role, usual in MEDIA_NAMES.items():
        alike = next((known[name] for name in usual if name in known), None)
        if alike is not None and not (role == "url" and found):
            _check_alike(alike, path)
            found.setdefault(alike[0], role)
    return found


def _item(row: Row, roles: _Roles, root: Path, source: str) -> Item | Failure:
    stage = "parse"
    try:
        columns = roles.of(row)
        stage = "read"
        blobs = tuple(_blobs(row, columns, root))
        stage = "parse"
        record = _record(row, columns)
    except Exception as error:  # a bad row costs only itself
        return Failure(row.uri, stage, one_line(error))
    if not blobs and not record.texts:
        return Failure(row.uri, "parse", "row has neither media nor text")
    return item_of(record, blobs, source, uri=row.uri)


def _blobs(row: Row, columns: Columns, root: Path) -> Iterator[Blob]:
    for column, role in columns.media.items():
        value = row.values.get(column)
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if value is not None and value != "":
            yield _blob(value, role, row.uri, column, root)


def _record(row: Row, columns: Columns) -> Record:
    cells = {
        columns.renamed.get(name, name): value
        for name, value in row.values.items()
        if name not in columns.media
    }
    if columns.is_explicit:
        numbers = {name for name in columns.texts if isinstance(cells.get(name), int | float)}
        cells.update({name: str(cells[name]) for name in numbers})
    return read_record(cells, columns.texts)


def _blob(value: object, role: str, uri: str, column: str, root: Path) -> Blob:
    """The medium in a cell; its role is a field, `speech:LANGUAGE`, `url` or ""."""
    name, _, language = role.partition(":")
    declared = "" if name in ("url", "") else name
    if isinstance(value, bytes):
        text = _as_path(value, name == "url", root)
        if text is None:
            return Blob(f"{uri}/{column}", data=value, field=declared, language=language)
        value = text
    if not isinstance(value, str):
        raise MediaError(f"column '{column}' has {type(value).__name__}; expected a path, a URL or bytes")
    value = value.strip()
    if value[:5].lower() == "data:":
        return Blob(f"{uri}/{column}", data=decode_data_uri(value), field=declared, language=language)
    scheme = _SCHEME.match(value)
    if name == "url" or (scheme is not None and scheme[1].lower() in ("http", "https")):
        return Blob(value, url=value, field=declared, language=language)
    if scheme is not None:
        value = _local_path(value, scheme[1].lower())
    try:
        path = inside(root / value, root)
    except MediaError as error:
        raise MediaError(f"{error}; allow it with --root FOLDER") from error
    return replace(file_blob(path), field=declared, language=language)


def _as_path(value: bytes, is_url: bool, root: Path) -> str | None:
    """The path or URL in bytes (some writers store texts as bytes); None if they are a medium."""
    if len(value) > _MAX_PATH_BYTES or b"\0" in value:
        return None
    text = os.fsdecode(value)
    if is_url or text[:5].lower() == "data:" or _SCHEME.match(text):
        return text
    try:
        return text if (root / text.strip()).is_file() else None
    except (OSError, ValueError):
        return None


def _local_path(uri: str, scheme: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    if scheme != "file" or parts.netloc not in ("", "localhost"):
        raise MediaError(
            f"{uri[:100]} has the scheme '{scheme}'; expected a path or an http(s) URL: download it first"
        )
    return os.fsdecode(urllib.parse.unquote_to_bytes(parts.path))


def decode_data_uri(uri: str) -> bytes:
    """Return the bytes of a `data:` URI.

    Raises:
        MediaError: If it is malformed.
    """
    head, comma, body = uri.partition(",")
    try:
        if not comma:
            raise ValueError("no comma")
        if head.lower().endswith(";base64"):
            return base64.b64decode(urllib.parse.unquote(body), validate=True)
        return urllib.parse.unquote_to_bytes(body)
    except (ValueError, binascii.Error) as error:
        raise MediaError(f"malformed data URI: {error}") from error


def _first_rows(rows: Iterator[Row | Failure], wanted: Iterable[str]) -> list[Row | Failure]:
    """Read until the first row that parses, then on until all wanted columns occurred."""
    head: list[Row | Failure] = []
    missing, num_rows = set(wanted), 0
    for row in rows:
        head.append(row)
        if isinstance(row, Row):
            num_rows += 1
            missing -= row.values.keys()
            if not missing or num_rows >= _HEAD_ROWS:
                break
    return head
