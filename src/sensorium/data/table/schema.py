"""The Arrow schema of a media table, and conversion of samples to and from Arrow rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sensorium import __version__
from sensorium.core.errors import TableError
from sensorium.core.printable import one_line
from sensorium.core.types import FIELDS
from sensorium.data.table.sample import Caption, Clip, Region, Sample

SCHEMA_VERSION = 1

_SPEECH = pa.list_(pa.struct([("language", pa.string()), ("data", pa.large_binary())]))
_TEXTS = pa.list_(pa.struct([("language", pa.string()), ("text", pa.string())]))
_REGIONS = pa.list_(
    pa.struct(
        [
            ("text", pa.string()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("boxes", pa.list_(pa.list_(pa.float64()))),
        ]
    )
)

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("image", pa.large_binary()),
        pa.field("audio", pa.large_binary()),
        pa.field("video", pa.large_binary()),
        pa.field("speech", _SPEECH),
        pa.field("texts", _TEXTS),
        pa.field("meta", pa.string(), nullable=False),
        *(pa.field(f"has_{name}", pa.bool_(), nullable=False) for name in FIELDS),
        pa.field("phash", pa.int64()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        pa.field("duration_s", pa.float64()),
        pa.field("added_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("regions", _REGIONS),
    ]
)
"""Columns of a media table; `row` is 0..n-1 and never changes, `has_*` say which fields a row has."""

SAMPLE_COLUMNS = tuple(
    name for name in SCHEMA.names if name not in ("row", "id", "added_at") and not name.startswith("has_")
)
"""Columns of a `Sample`."""


def with_metadata(description: str, licence: str) -> pa.Schema:
    """`SCHEMA` with the metadata of a new table."""
    metadata = {
        "sensorium.schema_version": str(SCHEMA_VERSION),
        "sensorium.created_by": f"sensorium {__version__}",
        "sensorium.description": description,
        "sensorium.licence": licence,
    }
    return SCHEMA.with_metadata(metadata)


def check_version(metadata: Mapping[str, str], where: Path) -> None:
    """Raise a TableError if a table has another schema version."""
    version = metadata.get("sensorium.schema_version", "")
    if version != str(SCHEMA_VERSION):
        raise TableError(
            f"{where} has schema version '{version}', not {SCHEMA_VERSION}; "
            "update sensorium, or prepare the table again"
        )


def check_columns(held: pa.Schema, where: Path) -> None:
    """Raise a TableError if a column differs from `SCHEMA`; `regions` may be missing."""
    for field in SCHEMA:
        kind = held.field(field.name).type if field.name in held.names else None
        if kind != field.type and (field.name, kind) != ("regions", None):
            found = "missing" if kind is None else str(kind)
            raise TableError(
                f"{where}: column '{field.name}' is {found}, expected {field.type}; "
                "restore the table from a copy, or prepare it again"
            )


def present_columns(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The `names` that a table has: tables of older versions lack `regions`."""
    return [name for name in names if name in columns]


def to_arrow(samples: Sequence[Sample], first_row: int, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Rows of `samples`, numbered from `first_row`, with those of `SCHEMA`'s columns that the table has.

    Lone surrogates in `uri` are escaped.

    Raises:
        TableError: If a value fits no column (a text that is not UTF-8, a number out of range), or a sample
            has regions and the table has no such column.
    """
    if "regions" not in columns and any(sample.regions for sample in samples):
        raise TableError("this table is of an older version without regions; prepare it again")
    now = datetime.now(UTC)
    try:
        rows = pa.Table.from_pylist(
            [_to_row(sample, first_row + index, now) for index, sample in enumerate(samples)], schema=SCHEMA
        )
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        for sample in samples if len(samples) > 1 else ():
            to_arrow([sample], first_row)  # raises for the bad sample
        message = f"sample '{samples[0].uri}' cannot be stored: {error}"
        raise TableError(f"{one_line(message)}; leave it out") from error
    return rows.select(present_columns(SCHEMA.names, columns))


def from_arrow(table: pa.Table) -> list[Sample]:
    """Samples of rows with any of `SAMPLE_COLUMNS`; other attributes stay empty."""
    columns = {
        name: python_values(table[name], name) for name in table.column_names if name in SAMPLE_COLUMNS
    }
    rows = ({name: values[index] for name, values in columns.items()} for index in range(len(table)))
    return [Sample(**{"uri": "", **row}) for row in rows]


def python_values(column: pa.ChunkedArray, name: str) -> list[Any]:
    """Values of one column; clips, captions, regions and metadata as Python objects."""
    values: list[Any] = column.to_pylist()
    kind = {"speech": Clip, "texts": Caption, "regions": Region}.get(name)
    if kind is not None:
        return [tuple(kind(**item) for item in row or ()) for row in values]
    if name == "meta":
        return [json.loads(row) for row in values]
    return values


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type is returned as a NumPy array."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A numeric column as an array; missing values are -1 in integers, NaN in floats."""
    missing = float("nan") if pa.types.is_floating(column.type) else -1
    filled = column.fill_null(missing) if column.null_count else column
    return np.ascontiguousarray(filled.to_numpy())


def _to_row(sample: Sample, number: int, now: datetime) -> dict[str, Any]:
    fields = sample.fields
    return {
        "row": number,
        "id": sample.id,
        "uri": sample.uri.encode("utf-8", "backslashreplace").decode(),
        "group": sample.default_group if sample.group is None else sample.group,
        "source": sample.source,
        "licence": sample.licence,
        "image": sample.image,
        "audio": sample.audio,
        "video": sample.video,
        "speech": [vars(clip) for clip in sample.speech],
        "texts": [vars(caption) for caption in sample.texts],
        "meta": json.dumps(dict(sample.meta), ensure_ascii=False, sort_keys=True),
        **{f"has_{name}": name in fields for name in FIELDS},
        "phash": sample.phash,
        "width_px": sample.width_px,
        "height_px": sample.height_px,
        "duration_s": sample.duration_s,
        "added_at": now,
        "regions": [vars(region) for region in sample.regions] or None,
    }
