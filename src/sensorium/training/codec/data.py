"""Media that a codec is trained on and measured on, opened once and kept in memory.

In: a recipe's parts. Out: for each part its rows, those that train and those that are held out, and their
pictures or sounds. Rows are numbered through all parts, so that a message can name one. Does not know losses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int64

from sensorium import media
from sensorium.core.errors import ConfigError, MediaError, TrainingError, UsageError
from sensorium.core.runtime import Progress, quiet, track
from sensorium.data.loading.split import split
from sensorium.data.table.sample import Sample, is_asked
from sensorium.data.table.table import Table
from sensorium.media.types import Media
from sensorium.training.codec.recipe import CodecPart
from sensorium.training.embedding.corpus import open_table
from sensorium.training.recipe import HeldOut

T = TypeVar("T")
_ROWS_AT_ONCE = 64


@dataclass
class Shelf(Generic[T]):
    """Opened media of all parts.

    Attributes:
        items: What was made of each medium.
        names: For each, where it stands: number, content id and table.
        train: Places of the items that train, those of a part with `repeat` several times.
        test: By name of a part or source, the places of the items that are held out.
        failures: Names of the rows that could not be used, and why.
    """

    items: list[T] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    train: list[int] = field(default_factory=list)
    test: dict[str, list[int]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A short hash of which media these are."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]

    def name_rows(self, places: Sequence[int]) -> list[str]:
        """Say where items stand."""
        return [self.names[place] for place in places]


def fill_shelf(
    parts: Mapping[str, CodecPart], seed: int, prepare: Callable[[Media], T], progress: Progress = quiet
) -> Shelf[T]:
    """Open every medium of some parts.

    Args:
        parts: Of a recipe, by name.
        seed: Names the split.
        prepare: Makes of an opened medium what is kept.
        progress: Told after each row.

    Raises:
        ConfigError: If a source does not occur.
        TrainingError: If nothing trains or nothing is held out.
    """
    shelf: Shelf[T] = Shelf()
    for called, part in parts.items():
        table = open_table(part.table, progress)
        train, test = divide(table, called, part, seed)
        wanted = np.sort(np.concatenate([train, *test.values()]))
        places: dict[int, list[int]] = {}
        for row, sample in _samples(table, wanted, part, progress):
            places[row] = _take_in(shelf, sample, f"{row} ({table.ids[row]} in {part.table})", part, prepare)
        shelf.train += [place for row in train.tolist() for place in places[row] * part.repeat]
        for name, rows in test.items():
            known = f"{name} of {called}" if name in shelf.test else name
            shelf.test[known] = [place for row in rows.tolist() for place in places[row]]
    if not shelf.train or not any(shelf.test.values()):
        counts = ", ".join(f"{name} {len(places)}" for name, places in shelf.test.items())
        raise TrainingError(
            f"{len(shelf.train)} media train, held out: {counts or 'none'}; both must be some"
        )
    return shelf


def divide(
    table: Table, name: str, part: CodecPart, seed: int
) -> tuple[Int64[np.ndarray, " n"], dict[str, Int64[np.ndarray, " m"]]]:
    """Rows of a table that train, and those held out by the name under which they are measured.

    Raises:
        ConfigError: If a source does not occur.
    """
    sources = np.array(table.column("source"))
    held_out = part.test.sources if isinstance(part.test, HeldOut) else []
    unknown = {*part.sources, *held_out} - set(sources.tolist())
    if unknown:
        known = ", ".join(sorted(set(sources.tolist())))
        raise ConfigError(f"{part.table}: no row has source '{min(unknown)}'; known: {known}")
    has_field = np.isin(np.arange(len(table)), table.rows_with(part.field))
    is_asked_for = np.isin(sources, part.sources) if part.sources else np.ones(len(table), bool)
    if isinstance(part.test, HeldOut):
        train = np.flatnonzero(has_field & is_asked_for & ~np.isin(sources, held_out))
        return train, {name: np.flatnonzero(has_field & (sources == name)) for name in held_out}
    parts = split(table.groups, test=part.test, seed=seed)
    usable = np.flatnonzero(has_field & is_asked_for)
    test = {name: np.intersect1d(parts["test"], usable)}
    return np.intersect1d(parts["train"], usable), test


def _samples(
    table: Table, rows: Int64[np.ndarray, " n"], part: CodecPart, progress: Progress
) -> Iterator[tuple[int, Sample]]:
    def read() -> Iterator[tuple[int, Sample]]:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            yield from zip(some.tolist(), table.rows(some, columns=[part.field]), strict=True)

    return track(read(), len(rows), f"opening {part.table}", progress)


def _take_in(
    shelf: Shelf[T], sample: Sample, name: str, part: CodecPart, prepare: Callable[[Media], T]
) -> list[int]:
    """Put a row's media on the shelf.

    Returns:
        Their places.
    """
    places = []
    for data in _encoded(sample, part):
        try:
            item = prepare(media.open(data))
        except (MediaError, UsageError) as error:
            shelf.failures[name] = str(error)
            continue
        places.append(len(shelf.items))
        shelf.items.append(item)
        shelf.names.append(name)
    return places


def _encoded(sample: Sample, part: CodecPart) -> list[bytes]:
    if part.field == "speech":
        return [clip.data for clip in sample.speech if is_asked(clip.language, "speech", part.languages)]
    data = getattr(sample, part.field)
    return [] if data is None else [data]
