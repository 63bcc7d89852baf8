"""Rows of CSV, TSV, JSONL, JSON and Parquet files, whatever their columns mean.

In: a file. Out: a `Row` for each, and a `Failure` for each line that does not parse; read as they come, in
bounded memory (JSON excepted). What a column means is `tabular`'s business.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sensorium.core.errors import MediaError, NotFoundError, UsageError
from sensorium.data.sources.item import Failure

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"})
MAX_CELL_CHARS = 64 * 1024 * 1024


@dataclass(frozen=True)
class Row:
    """One row as read: where it stands and its cells by column."""

    uri: str
    values: Mapping[str, object]


def read_rows(path: Path) -> Iterator[Row | Failure]:
    """Read a table file row by row in bounded memory.

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If the suffix is not one of a table.
        MediaError: If the file as a whole is not what its suffix says.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}; give the path of a CSV, TSV, JSONL or Parquet file")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix in (".jsonl", ".ndjson"):
        return _read_jsonl(path)
    if suffix == ".json":
        return _read_json(path)
    if suffix in (".csv", ".tsv", ".txt"):
        return _read_csv(path)
    raise UsageError(f"{path} is not a table; expected one of {', '.join(sorted(SUFFIXES))}")


def _read_csv(path: Path) -> Iterator[Row | Failure]:
    csv.field_size_limit(MAX_CELL_CHARS)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline()
        file.seek(0)
        reader = csv.reader(
            _without_nul(file),
            delimiter="\t" if path.suffix.lower() == ".tsv" else delimiter(header),
            strict=True,
        )
        try:
            names = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            yield Failure(f"{path}:1", "parse", f"not CSV: {error}")
            return
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Failure(f"{path}:{reader.line_num}", "parse", f"not CSV: {error}")
                continue
            if cells is None:
                return
            yield from _csv_row(names, cells, f"{path}:{reader.line_num}")


def _csv_row(names: list[str], cells: list[str], uri: str) -> Iterator[Row | Failure]:
    if len(cells) > len(names):
        yield Failure(uri, "parse", f"{len(cells)} cells for {len(names)} columns; is a comma unquoted?")
    elif any("\ufffd" in cell for cell in cells):
        yield Failure(uri, "parse", "not UTF-8")
    elif cells:
        yield Row(uri, dict(zip(names, cells, strict=False)))


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    return (line.replace("\0", "\ufffd") for line in lines)


def delimiter(header: str) -> str:
    """Return the mark that separates the columns of a header line."""
    return max(",\t;|", key=header.count)


def _read_jsonl(path: Path) -> Iterator[Row | Failure]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _json_row(line, f"{path}:{number}")


def _json_row(line: bytes, uri: str) -> Row | Failure:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Failure(uri, "parse", f"not JSON: {error}")
    if not isinstance(value, dict):
        return Failure(uri, "parse", f"expected an object, got {type(value).__name__}")
    return Row(uri, value)


def _read_json(path: Path) -> Iterator[Row | Failure]:
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MediaError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, list):
        raise MediaError(f"{path} holds {type(value).__name__}; expected a list of objects")
    for number, entry in enumerate(value):
        uri = f"{path}:{number}"
        yield Row(uri, entry) if isinstance(entry, dict) else Failure(uri, "parse", "expected an object")


def _read_parquet(path: Path) -> Iterator[Row | Failure]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise MediaError(f"{path} is not Parquet: {error}") from error
    number = 0
    with file:
        try:
            for batch in file.iter_batches(batch_size=64):
                for values in batch.to_pylist():
                    yield Row(f"{path}:{number}", values)
                    number += 1
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            yield Failure(f"{path}:{number}", "parse", f"cannot read on: {error}")
