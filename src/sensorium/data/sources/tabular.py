"""CSV, TSV, JSONL, JSON and Parquet files whose rows name media and hold captions.

In: a file, and which column is what (guessed from usual names where not said). Out: an `Item` for each row,
its media named by path, URL or `data:` URI, or held inline (bytes, or Hugging Face's `{"bytes", "path"}`).
Rows are read as they come; one bad line is one `Failure`. Paths are relative to the table and may not lead
outside its folder, or `root`.
"""

from __future__ import annotations

import base64
import binascii
import csv
import difflib
import itertools
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sensorium.core.errors import MediaError, UsageError
from sensorium.core.types import FIELDS
from sensorium.data.sources.cells import Row, delimiter, read_rows
from sensorium.data.sources.item import Blob, Failure, Item, file_blob, inside
from sensorium.data.sources.record import Record, read_record, text_columns

FILE_NAMES = (
    "file_name filename file filepath file_path path image image_path img photo picture media".split()
)
MEDIA_NAMES: Mapping[str, Sequence[str]] = {
    "": [*FILE_NAMES, "img_path"],
    "audio": ["audio", "audio_path", "sound", "wav"],
    "video": ["video", "video_path", "clip"],
    "speech": ["speech", "speech_path", "spoken_caption"],
    "url": ["url", "image_url", "img_url", "media_url", "audio_url", "video_url"],
}
ROLES = (*FIELDS, "url", "file", "language", "licence", "group")


@dataclass(frozen=True)
class Columns:
    """Which column is what.

    Attributes:
        media: Column to field; "" leaves it to the content. `url` columns hold addresses.
        texts: Column to language, or "".
        renamed: Column to the record key (`language`, `licence`, `group`) that it stands for.
    """

    media: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


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
            `licence`, `group`) to columns; what is not said is guessed.
        root: Folder that media paths are relative to and may not leave; the table's own if None.
        source: What the rows' source is called; the file's name without suffix if "".

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If a column or role is unknown, or nothing in the table names a medium or a text.
    """
    place = (path.parent if root is None else root).resolve()
    rows = read_rows(path)
    head = _take_until_row(rows)
    names = [] if not head or isinstance(head[-1], Failure) else list(head[-1].values)
    chosen = choose_columns(names, columns or {}, path)
    for row in itertools.chain(head, rows):
        yield row if isinstance(row, Failure) else _item(row, chosen, place, source or path.stem)


def choose_columns(names: Sequence[str], asked: Mapping[str, Sequence[str]], path: Path) -> Columns:
    """Decide which column is what: as asked, the rest by usual names.

    Raises:
        UsageError: If a role or a column is unknown, or no column names a medium or a text.
    """
    for role, wanted in asked.items():
        if role.partition(":")[0] not in ROLES:
            raise UsageError(f"--map {role}=...: unknown role; expected one of {', '.join(ROLES)}")
        for column in wanted:
            _check_column(column, names, path)
    media, texts, renamed = _as_asked(asked)
    if not media:
        media = _guess_media(names, taken={*texts, *renamed})
    if not texts:
        texts = {name: tag for name, tag in text_columns(names).items() if name not in {*media, *renamed}}
    if names and not media and not texts:
        raise UsageError(
            f"{path}: no column has a usual name; say --map image=COLUMN,text=COLUMN; "
            f"columns: {', '.join(names)}"
        )
    return Columns(media, texts, renamed)


def file_and_record(values: Mapping[str, object]) -> tuple[str, Record]:
    """Split a row of a caption table into the file that it names ("" if none) and what it says of it."""
    named = next((name for name in FILE_NAMES for key in values if key.lower() == name), "")
    key = next((key for key in values if key.lower() == named), None)
    record = read_record({name: value for name, value in values.items() if name != key})
    return (str(values[key] or "") if key is not None else ""), record


def has_header(path: Path) -> bool:
    """Say whether a text file begins like a caption table: with the names of a file and of a text column."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(4096)
    except (OSError, UnicodeDecodeError):
        return False
    names = next(csv.reader([line.strip()], delimiter=delimiter(line)), [])
    return any(name.lower() in FILE_NAMES for name in names) and bool(text_columns(names))


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


def _guess_media(names: Sequence[str], taken: set[str]) -> dict[str, str]:
    """The first usual column for each field; an address only where no file is named."""
    lowered = {name.lower(): name for name in names if name not in taken}
    found: dict[str, str] = {}
    for role, usual in MEDIA_NAMES.items():
        name = next((lowered[name] for name in usual if name in lowered), None)
        if name is not None and not (role == "url" and found):
            found.setdefault(name, role)
    return found


def _check_column(column: str, names: Sequence[str], path: Path) -> None:
    if names and column not in names:
        near = difflib.get_close_matches(column, names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"{path} has no column '{column}'; {hint}columns: {', '.join(names)}")


def _item(row: Row, columns: Columns, root: Path, source: str) -> Item | Failure:
    blobs: list[Blob] = []
    for column, role in columns.media.items():
        value = row.values.get(column)
        if value is None or value == "":
            continue
        try:
            blobs.append(_blob(value, role, row.uri, column, root))
        except (MediaError, OSError, ValueError) as error:
            return Failure(row.uri, "read", str(error))
    cells = {
        columns.renamed.get(name, name): value
        for name, value in row.values.items()
        if name not in columns.media
    }
    record = read_record(cells, columns.texts)
    if not blobs and not record.texts:
        return Failure(row.uri, "parse", "row has neither media nor text")
    uri = row.uri if not blobs else blobs[0].uri
    return Item(uri, tuple(blobs), record.texts, record.group, source, record.licence, record.meta)


def _blob(value: object, role: str, uri: str, column: str, root: Path) -> Blob:
    """Name the medium in a cell; its role is a field, `speech:LANGUAGE`, `url` or ""."""
    name, _, language = role.partition(":")
    declared = "" if name in ("url", "") else name
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return Blob(f"{uri}/{column}", data=value, field=declared, language=language)
    if not isinstance(value, str):
        raise MediaError(f"column '{column}' holds {type(value).__name__}; expected a path, a URL or bytes")
    value = value.strip()
    if value[:5].lower() == "data:":
        return Blob(f"{uri}/{column}", data=decode_data_uri(value), field=declared, language=language)
    if urllib.parse.urlsplit(value).scheme.lower() in ("http", "https") or name == "url":
        return Blob(value, url=value, field=declared, language=language)
    try:
        path = inside(root / value, root)
    except MediaError as error:
        raise MediaError(f"{error}; allow it with --root FOLDER") from error
    return replace(file_blob(path), field=declared, language=language)


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


def _take_until_row(rows: Iterator[Row | Failure]) -> list[Row | Failure]:
    """Read up to the first row that parses."""
    head: list[Row | Failure] = []
    for row in rows:
        head.append(row)
        if isinstance(row, Row):
            break
    return head
