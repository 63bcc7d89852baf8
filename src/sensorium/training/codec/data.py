"""Media for training and measuring a codec, opened once and kept in memory.

In: the parts of a recipe. Out: images or sounds as arrays, and for each part which of them train and which
are held out. Media are numbered through all parts, so that a message can name one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from sensorium import media
from sensorium.core.errors import MediaError, UsageError
from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.collections import open_table
from sensorium.data.table.sample import Sample, is_asked
from sensorium.data.table.table import Table
from sensorium.media.types import Media
from sensorium.training.codec.recipe import CodecPart
from sensorium.training.recipe import HeldOut
from sensorium.training.validation import Rows, check_rows, check_sources, divide

T = TypeVar("T")
_ROWS_AT_ONCE = 64


@dataclass
class OpenedMedia(Generic[T]):
    """Opened media of all parts.

    Attributes:
        items: Array of each medium.
        names: Name of each: row number, content id and table.
        train: Indices of the items that train; those of a part with `repeat` occur several times.
        test: Indices of the held-out items, by name of a part or source.
        failures: Rows that could not be used, by name, with the reason.
    """

    items: list[T] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    train: list[int] = field(default_factory=list)
    test: dict[str, list[int]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Short hash of the names."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]

    def name_rows(self, indices: Sequence[int]) -> list[str]:
        """Names of items."""
        return [self.names[index] for index in indices]


def open_parts(
    parts: Mapping[str, CodecPart], seed: int, prepare: Callable[[Media], T], progress: Progress = quiet
) -> OpenedMedia[T]:
    """Open every medium of some parts.

    Args:
        parts: Of a recipe, by name.
        seed: Names the split.
        prepare: Turns an opened medium into an array.
        progress: Told after each row.

    Raises:
        ConfigError: If a source does not occur.
        TrainingError: If nothing trains or nothing is held out.
    """
    opened: OpenedMedia[T] = OpenedMedia()
    for called, part in parts.items():
        table = open_table(part.table, progress)
        train, test = divide_part(table, called, part, seed)
        wanted = np.sort(np.concatenate([train, *test.values()]))
        indices: dict[int, list[int]] = {}
        for row, sample in _samples(table, wanted, part, progress):
            indices[row] = _add(opened, sample, f"{row} ({table.ids[row]} in {part.table})", part, prepare)
        opened.train += [index for row in train.tolist() for index in indices[row] * part.repeat]
        for name, rows in test.items():
            known = f"{name} of {called}" if name in opened.test else name
            opened.test[known] = [index for row in rows.tolist() for index in indices[row]]
    held_out = {name: np.array(indices) for name, indices in opened.test.items() if indices}
    check_rows(", ".join(part.table for part in parts.values()), np.array(opened.train), held_out, "media")
    return opened


def divide_part(table: Table, name: str, part: CodecPart, seed: int) -> tuple[Rows, dict[str, Rows]]:
    """Rows of a part that train, and its held-out rows by name.

    Raises:
        ConfigError: If a source does not occur.
    """
    check_sources(table, part.sources)
    train, test = divide(table, part.test, seed, name)
    has_field = table.rows_with(part.field)
    is_asked_for = (
        np.isin(table.column("source"), part.sources) if part.sources else np.ones(len(table), bool)
    )
    usable = np.intersect1d(has_field, np.flatnonzero(is_asked_for))
    measured = has_field if isinstance(part.test, HeldOut) else usable
    return np.intersect1d(train, usable), {
        name: np.intersect1d(rows, measured) for name, rows in test.items()
    }


def _samples(table: Table, rows: Rows, part: CodecPart, progress: Progress) -> Iterator[tuple[int, Sample]]:
    def read() -> Iterator[tuple[int, Sample]]:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            yield from zip(some.tolist(), table.rows(some, columns=[part.field]), strict=True)

    return track(read(), len(rows), f"opening {part.table}", progress)


def _add(
    opened: OpenedMedia[T], sample: Sample, name: str, part: CodecPart, prepare: Callable[[Media], T]
) -> list[int]:
    """Add the media of a row; returns their indices."""
    indices = []
    for data in _encoded(sample, part):
        try:
            item = prepare(media.open(data))
        except (MediaError, UsageError) as error:
            opened.failures[name] = str(error)
            continue
        indices.append(len(opened.items))
        opened.items.append(item)
        opened.names.append(name)
    return indices


def _encoded(sample: Sample, part: CodecPart) -> list[bytes]:
    if part.field == "speech":
        return [clip.data for clip in sample.speech if is_asked(clip.language, "speech", part.languages)]
    data = getattr(sample, part.field)
    return [] if data is None else [data]
