"""How a sample lies in the rows of a media table: the Arrow schema and the way there and back."""

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
"""Rows of a media table; `row` counts 0..n-1 and never changes, `has_*` say which fields hold something."""

SAMPLE_COLUMNS = tuple(
    name for name in SCHEMA.names if name not in ("row", "id", "added_at") and not name.startswith("has_")
)
"""Columns that make up a `Sample`."""


def described(description: str, licence: str) -> pa.Schema:
    """`SCHEMA` with what a new table says of itself."""
    metadata = {
        "sensorium.schema_version": str(SCHEMA_VERSION),
        "sensorium.created_by": f"sensorium {__version__}",
        "sensorium.description": description,
        "sensorium.licence": licence,
    }
    return SCHEMA.with_metadata(metadata)


def check_version(metadata: Mapping[str, str], where: Path) -> None:
    """Refuse a table of another schema.

    Raises:
        TableError: If the version is not ours.
    """
    version = metadata.get("sensorium.schema_version", "")
    if version != str(SCHEMA_VERSION):
        raise TableError(
            f"{where} has schema version '{version}', not {SCHEMA_VERSION}; "
            "update sensorium, or prepare the table again"
        )


def check_columns(held: pa.Schema, where: Path) -> None:
    """Refuse a table whose columns are not those of `SCHEMA`; `regions` may be missing.

    Raises:
        TableError: With the first that differs.
    """
    for field in SCHEMA:
        there = held.field(field.name).type if field.name in held.names else None
        if there != field.type and (field.name, there) != ("regions", None):
            found = "missing" if there is None else str(there)
            raise TableError(
                f"{where}: column '{field.name}' is {found}, expected {field.type}; "
                "restore the table from a copy, or prepare it anew"
            )


def held_columns(names: Sequence[str], there: Sequence[str]) -> list[str]:
    """Those of `names` that a table has: one made before there were regions lacks that column."""
    return [name for name in names if name in there]


def to_arrow(samples: Sequence[Sample], first_row: int, there: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Rows for `samples`, numbered from `first_row`, with the columns of `SCHEMA` that are `there`.

    Raises:
        TableError: If a sample has regions and the table has no column for them, or a value that no column
            takes: a text that is no UTF-8, a number out of range. Of `uri` such letters are escaped.
    """
    if "regions" not in there and any(sample.regions for sample in samples):
        raise TableError("this table is older than regions and cannot hold them; prepare it anew")
    now = datetime.now(UTC)
    try:
        rows = pa.Table.from_pylist(
            [_to_row(sample, first_row + place, now) for place, sample in enumerate(samples)], schema=SCHEMA
        )
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        for sample in samples if len(samples) > 1 else ():
            to_arrow([sample], first_row)  # raises for the one that is meant
        message = f"sample '{samples[0].uri}' cannot be kept: {error}"
        raise TableError(f"{one_line(message)}; leave it out") from error
    return rows.select(held_columns(SCHEMA.names, there))


def from_arrow(table: pa.Table) -> list[Sample]:
    """Samples of rows that hold any of `SAMPLE_COLUMNS`; what is not among the columns stays empty."""
    columns = {
        name: python_values(table[name], name) for name in table.column_names if name in SAMPLE_COLUMNS
    }
    rows = ({name: values[place] for name, values in columns.items()} for place in range(len(table)))
    return [Sample(**{"uri": "", **row}) for row in rows]


def python_values(column: pa.ChunkedArray, name: str) -> list[Any]:
    """Values of one column, with clips, captions and metadata as their own types."""
    values: list[Any] = column.to_pylist()
    if name == "speech":
        return [tuple(Clip(item["language"], item["data"]) for item in row or ()) for row in values]
    if name == "texts":
        return [tuple(Caption(item["language"], item["text"]) for item in row or ()) for row in values]
    if name == "regions":
        return [tuple(Region(**item) for item in row or ()) for row in values]
    if name == "meta":
        return [json.loads(row) for row in values]
    return values


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type is read as an array."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A numeric column as an array; missing is -1 in integers, NaN in floats."""
    missing = float("nan") if pa.types.is_floating(column.type) else -1
    filled = column.fill_null(missing) if column.null_count else column
    return np.ascontiguousarray(filled.to_numpy())


def _to_row(sample: Sample, number: int, now: datetime) -> dict[str, Any]:
    held = sample.fields
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
        "speech": [{"language": clip.language, "data": clip.data} for clip in sample.speech],
        "texts": [{"language": caption.language, "text": caption.text} for caption in sample.texts],
        "meta": json.dumps(dict(sample.meta), ensure_ascii=False, sort_keys=True),
        **{f"has_{name}": name in held for name in FIELDS},
        "phash": sample.phash,
        "width_px": sample.width_px,
        "height_px": sample.height_px,
        "duration_s": sample.duration_s,
        "added_at": now,
        "regions": [
            {"text": region.text, "start": region.start, "end": region.end, "boxes": region.boxes}
            for region in sample.regions
        ]
        or None,
    }
