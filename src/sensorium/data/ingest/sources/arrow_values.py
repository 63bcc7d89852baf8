"""Converts Arrow arrays to plain Python values: str, numbers, bytes, lists and dicts, without loss.

Dates, times and time stamps become ISO 8601 text with all digits (those with a zone in UTC, years beyond 9999
with a sign). Decimals and UUIDs become text. Durations become seconds. A map becomes a dict, in which a key
that occurs twice has the list of its values.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_EXTENSIONS: dict[str, Callable[[Any], Any]] = {
    "arrow.uuid": lambda cell: str(uuid.UUID(bytes=cell)),
    "arrow.bool8": bool,
}
"""Conversion of extension types; others are read as their storage type."""

_PLAIN_TYPES = frozenset(
    {pa.null(), pa.bool_(), pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}
)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_S = 86_400
_DAYS_TO_EPOCH = 719_468
"""Days from March 1st of the year 0 to January 1st 1970."""


def plain_values(array: pa.Array) -> list[Any]:
    """Values of all cells.

    Raises:
        pa.ArrowException, ValueError, TypeError: If a cell cannot be read.
    """
    kind = array.type
    if _is_plain(kind):
        return list(array.to_pylist())
    if isinstance(kind, pa.BaseExtensionType):
        change = _EXTENSIONS.get(getattr(kind, "extension_name", ""), lambda cell: cell)
        return _each(plain_values(array.storage), change)
    if pa.types.is_dictionary(kind):
        known = plain_values(array.dictionary)
        return _each(array.indices.to_pylist(), lambda index: known[index])
    if pa.types.is_run_end_encoded(kind):
        return plain_values(pc.run_end_decode(array))
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return _times(array)
    if pa.types.is_map(kind) or pa.types.is_struct(kind) or hasattr(kind, "value_field"):
        return _nested(array)
    return _each(array.to_pylist(), _plain)


def cells(array: pa.Array) -> Iterator[Any]:
    """Values of all cells, one by one; for a cell that cannot be read, the exception."""
    for index in range(len(array)):
        try:
            yield plain_values(array.slice(index, 1))[0]
        except Exception as error:  # Arrow and Python raise many types over a bad value
            yield error


def _is_plain(kind: pa.DataType) -> bool:
    """Whether Arrow's `to_pylist`, which is fast, gives plain values for a type."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_plain(kind.value_type)
    if pa.types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return len({field.name for field in fields}) == len(fields) and all(_is_plain(f.type) for f in fields)
    is_number = pa.types.is_integer(kind) or (pa.types.is_floating(kind) and not pa.types.is_float16(kind))
    return bool(is_number or kind in _PLAIN_TYPES)


def _plain(value: Any) -> Any:
    """Values of the other types: half floats, decimals, intervals, unions, views."""
    if value is None or isinstance(value, str | bytes | bool | int | float | list | dict):
        return value
    if hasattr(value, "as_tuple"):
        return format(value, "f")
    return float(value) if hasattr(value, "__float__") else str(value)


def _each(values: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else change(value) for value in values]


def _nested(array: pa.Array) -> list[Any]:
    kind = array.type
    is_valid = array.is_valid().to_pylist()
    if pa.types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        if len(set(names)) < len(names):
            raise ValueError(f"a struct has two fields of one name: {', '.join(names)}")
        columns = [plain_values(field) for field in array.flatten()]
        rows = zip(*columns, strict=True) if columns else iter([()] * len(array))
        return [
            dict(zip(names, row, strict=True)) if is_set else None
            for row, is_set in zip(rows, is_valid, strict=True)
        ]
    found: list[Any] = []
    for index, is_set in enumerate(is_valid):
        values = array[index].values if is_set else None
        if values is None:
            found.append(None)
        elif pa.types.is_map(kind):
            keys, entries = (plain_values(part) for part in values.flatten())
            found.append(_as_dict(keys, entries))
        else:
            found.append(plain_values(values))
    return found


def _as_dict(keys: list[Any], values: list[Any]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for key, value in zip(keys, values, strict=True):
        found.setdefault(key if isinstance(key, str) else str(key), []).append(value)
    return {key: cells[0] if len(cells) == 1 else cells for key, cells in found.items()}


def _times(array: pa.Array) -> list[Any]:
    kind = array.type
    unit = _PER_SECOND.get(getattr(kind, "unit", ""), 1)
    if pa.types.is_date64(kind):
        unit = _PER_SECOND["ms"]
    numbers = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist()
    if pa.types.is_duration(kind):
        return _each(numbers, lambda count: count // unit if count % unit == 0 else count / unit)
    if pa.types.is_time(kind):
        return _each(numbers, lambda count: _clock(count, unit))
    if pa.types.is_date32(kind):
        return _each(numbers, _date)
    if pa.types.is_date64(kind):
        return _each(numbers, lambda count: _date(count // (unit * _DAY_S)))
    zone = "" if kind.tz is None else "Z"
    return _each(numbers, lambda count: _stamp(count, unit) + zone)


def _stamp(count: int, unit: int) -> str:
    days, rest = divmod(count, unit * _DAY_S)
    return f"{_date(days)}T{_clock(rest, unit)}"


def _clock(count: int, unit: int) -> str:
    seconds, fraction = divmod(count, unit)
    digits = f".{fraction:0{len(str(unit)) - 1}d}" if fraction else ""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{digits}"


def _date(days: int) -> str:
    """The Gregorian date `days` after 1970-01-01, for any year.

    Reference:
        Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
    """
    era, day = divmod(days + _DAYS_TO_EPOCH, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day, month = day - (153 * month + 2) // 5 + 1, month + 3 if month < 10 else month - 9
    year += era * 400 + (month <= 2)
    return f"{year:04d}-{month:02d}-{day:02d}" if 0 <= year <= 9999 else f"{year:+07d}-{month:02d}-{day:02d}"
