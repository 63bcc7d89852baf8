"""Reads rows of CSV, TSV, JSONL, JSON, Parquet and Arrow files as dicts of plain Python values.

Output: a `Row` per row, and a `Failure` for each line or cell that cannot be read. Rows are streamed in
bounded memory, except JSON. Two columns or keys of one name are refused, since values would be lost.
`tabular` interprets the columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sensorium.core.errors import MediaError, NotFoundError, SensoriumError, UsageError
from sensorium.data.ingest.sources import arrow_values, delimited
from sensorium.data.ingest.sources.item import Failure, name_of, one_line
from sensorium.data.ingest.sources.lines import is_unicode, parse_json, read_lines

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".feather"})
MAX_LINE_CHARS = 64 * 1024 * 1024
_BATCH_ROWS = 64
_BYTES_OF = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}


@dataclass(frozen=True)
class Row:
    """One row: its position in the file, and its cells by column."""

    uri: str
    values: Mapping[str, object]


def read_rows(path: Path) -> Iterator[Row | Failure]:
    """Read a table file row by row in bounded memory.

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If the suffix is not that of a table file, or two columns have one name.
        MediaError: If the file has not the format of its suffix.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}; give the path of a CSV, TSV, JSONL or Parquet file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES | {".txt"}:
        raise UsageError(f"{path} is not a table file; expected one of {', '.join(sorted(SUFFIXES))}")
    return _stream(path, suffix)


def _stream(path: Path, suffix: str) -> Iterator[Row | Failure]:
    """The rows; an error that ends the reading becomes a failure."""
    read = {".json": _read_json, ".parquet": _read_parquet, ".arrow": _read_arrow, ".feather": _read_arrow}
    lines = _read_jsonl if suffix in (".jsonl", ".ndjson") else _read_csv
    try:
        yield from read.get(suffix, lines)(path)
    except SensoriumError:
        raise
    except OSError as error:
        yield Failure(name_of(path), "read", f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        yield Failure(name_of(path), "parse", f"ends inside a character: {error}; save the table as UTF-8")


def _read_csv(path: Path) -> Iterator[Row | Failure]:
    name = name_of(path)
    for number, found in delimited.read_records(path):
        uri = f"{name}:{number}"
        yield Failure(uri, "parse", found) if isinstance(found, str) else Row(uri, found)


def _read_jsonl(path: Path) -> Iterator[Row | Failure]:
    name = name_of(path)
    for number, line in enumerate(read_lines(path, MAX_LINE_CHARS), start=1):
        if len(line) > MAX_LINE_CHARS:
            yield Failure(
                f"{name}:{number}", "parse", f"the line has more than {MAX_LINE_CHARS:,} characters"
            )
        elif line.strip():
            yield _json_row(line, f"{name}:{number}")


def _json_row(line: str, uri: str) -> Row | Failure:
    if not is_unicode(line):
        return Failure(uri, "parse", "not UTF-8; save the table as UTF-8")
    try:
        value = parse_json(line)
    except ValueError as error:
        return Failure(uri, "parse", f"not JSON: {one_line(error)}")
    if not isinstance(value, dict):
        return Failure(uri, "parse", f"expected an object, got {type(value).__name__}")
    return Row(uri, value)


def _read_json(path: Path) -> Iterator[Row | Failure]:
    try:
        value = parse_json(path.read_bytes())
    except ValueError as error:
        raise MediaError(f"{path} is not JSON: {one_line(error)}") from error
    if not isinstance(value, list):
        raise MediaError(f"{path} contains {type(value).__name__}; expected a list of objects")
    for number, entry in enumerate(value):
        uri = f"{name_of(path)}:{number}"
        yield Row(uri, entry) if isinstance(entry, dict) else Failure(uri, "parse", "expected an object")


def _read_parquet(path: Path) -> Iterator[Row | Failure]:
    with _open(path) as source:
        try:
            file = pq.ParquetFile(source)
            names = file.schema_arrow.names
        except Exception as error:  # Arrow raises many types over a damaged file
            raise MediaError(f"{path} is not Parquet or is damaged: {one_line(error)}") from error
        delimited.check_names(names, path)
        first = 0
        for group in range(file.num_row_groups):
            batches = file.iter_batches(_BATCH_ROWS, row_groups=[group])
            num_rows = file.metadata.row_group(group).num_rows
            yield from _rows(batches, path, first, num_rows)
            first += num_rows


def _read_arrow(path: Path) -> Iterator[Row | Failure]:
    """Rows of an Arrow file (Feather) or stream, as Hugging Face `datasets` writes them."""
    try:
        with _open(path) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            delimited.check_names(reader.schema.names, path)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
            yield from _rows(map(_checked, batches), path, 0, None)
    except SensoriumError:
        raise
    except Exception as error:  # Arrow raises many types over a damaged file
        raise MediaError(f"{path} is not Arrow or is damaged: {one_line(error)}") from error


def _open(path: Path) -> pa.NativeFile:
    """A file for Arrow, which cannot open paths that are not UTF-8."""
    text = str(path)
    return pa.OSFile(text) if is_unicode(text) else pa.PythonFile(path.open("rb"), mode="r")


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Check the cell offsets of an Arrow file: reading a wrong one would crash the process.

    Whether texts are UTF-8 is checked later, cell by cell.

    Raises:
        pa.ArrowInvalid: If an offset is outside the data.
    """
    for column in batch.columns:
        stored = _BYTES_OF.get(column.type)
        array = column if stored is None else column.view(stored)
        array.validate(full=not pa.types.is_primitive(array.type))
    return batch


def _rows(
    batches: Iterator[pa.RecordBatch], path: Path, first: int, num_rows: int | None
) -> Iterator[Row | Failure]:
    """Rows of some batches, numbered from `first`; if reading fails, one failure for the rest."""
    number, name = first, name_of(path)
    try:
        for whole in batches:
            for start in range(0, whole.num_rows, _BATCH_ROWS):
                batch = whole.slice(start, _BATCH_ROWS)
                yield from _batch_rows(batch, name, number)
                number += batch.num_rows
    except Exception as error:  # Arrow raises many types over damaged data
        rest = "" if num_rows is None else f" to {first + num_rows - 1}"
        reason = f"rows {number}{rest} cannot be read: {one_line(error)}"
        yield Failure(f"{name}:{number}", "parse", reason)


def _batch_rows(batch: pa.RecordBatch, name: str, first: int) -> Iterator[Row | Failure]:
    columns = {column: _column(batch.column(index)) for index, column in enumerate(batch.schema.names)}
    for index in range(batch.num_rows):
        uri = f"{name}:{first + index}"
        values = {column: cells[index] for column, cells in columns.items()}
        bad = next((column for column, value in values.items() if isinstance(value, Exception)), None)
        if bad is None:
            yield Row(uri, values)
        else:
            yield Failure(uri, "parse", f"column '{bad}' cannot be read: {one_line(values[bad])}")


def _column(array: pa.Array) -> list[object]:
    try:
        return arrow_values.plain_values(array)
    except Exception:  # some cell cannot be read: read one by one to find it
        return list(arrow_values.cells(array))
