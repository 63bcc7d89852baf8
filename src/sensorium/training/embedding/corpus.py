"""Training and held-out rows of a joint embedding, over one main table and further ones.

In: a recipe's [data] section. Out: row numbers that run through all tables, the main table first. Rows are
held out of the main table alone, by whole groups or whole sources. Rows of a further table train unless a
caption of theirs is a caption of a held-out row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from sensorium.core.runtime import Progress, quiet
from sensorium.data.collections import open_table
from sensorium.data.table.sample import Sample, is_asked, normalise
from sensorium.data.table.table import Table
from sensorium.training.recipe import DataConfig
from sensorium.training.validation import check_rows, divide


@dataclass(frozen=True)
class Corpus:
    """Rows of several tables as one sequence.

    Attributes:
        tables: The main table first.
        names: Their names in the recipe.
        train: Rows that train, ascending; numbers run through all tables.
        test: Rows of the main table that are held out.
        languages: Languages of texts and speech; empty: all.
        fields: Fields of the run.
    """

    tables: Sequence[Table]
    names: Sequence[str]
    train: Int64[np.ndarray, " n"]
    test: Int64[np.ndarray, " m"]
    languages: Sequence[str]
    fields: Sequence[str]

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> Int64[np.ndarray, " t"]:
        """Number of the first row of each table, and the number of all rows."""
        return np.cumsum([0, *(len(table) for table in self.tables)])

    @cached_property
    def groups(self) -> list[str]:
        """Group of each row."""
        return [group for table in self.tables for group in table.groups]

    def rows(self, numbers: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> list[Sample]:
        """Read rows by number, in the given order."""
        asked = np.asarray(numbers, dtype=np.int64)
        found: dict[int, Sample] = {}
        for part, table in enumerate(self.tables):
            start, stop = self.starts[part], self.starts[part + 1]
            own = np.unique(asked[(asked >= start) & (asked < stop)])
            found |= zip(own.tolist(), table.rows(own - start, columns), strict=True)
        return [found[number] for number in asked.tolist()]

    def rows_with(self, field: str) -> Int64[np.ndarray, " n"]:
        """Rows with `field`."""
        parts = zip(self.starts, self.tables, strict=False)
        return np.concatenate([start + table.rows_with(field) for start, table in parts])

    def name_rows(self, numbers: Sequence[int]) -> list[str]:
        """Names of rows: number, content id and table."""
        names: list[str] = []
        for number in numbers:
            part = int(np.searchsorted(self.starts, number, side="right")) - 1
            if part >= len(self.tables):
                names.append(f"class vector {number - len(self)}")
            else:
                row = number - int(self.starts[part])
                names.append(f"{row} ({self.tables[part].ids[row]} in {self.names[part]})")
        return names

    def identity(self) -> dict[str, str]:
        """Each table's name and a hash of the content of its rows."""
        hashes = (hashlib.sha256("".join(table.ids).encode()).hexdigest()[:16] for table in self.tables)
        return {
            f"{place}.{name}": digest
            for place, (name, digest) in enumerate(zip(self.names, hashes, strict=True))
        }


def open_corpus(data: DataConfig, fields: Sequence[str], seed: int, progress: Progress = quiet) -> Corpus:
    """Open the tables of a recipe and divide their rows.

    Args:
        data: The recipe's section.
        fields: Fields of the run.
        seed: Names the split.
        progress: Told of downloads.

    Raises:
        NotFoundError: If there is no such table.
        TrainingError: If no row trains, or none is held out.
        ConfigError: If a source to hold out does not occur.
    """
    names = [data.table, *data.extra]
    tables = [open_table(name, progress) for name in names]
    train, parts_held_out = divide(tables[0], data.test, seed)
    test = np.unique(np.concatenate(list(parts_held_out.values())))
    held_out = captions(tables[0], test, data.languages)
    parts, start = [train], len(tables[0])
    for table in tables[1:]:
        parts.append(start + _rows_without_captions_of(table, held_out, data.languages))
        start += len(table)
    corpus = Corpus(tables, names, np.concatenate(parts), test, tuple(data.languages), tuple(fields))
    check_rows(data.table, corpus.train, {"": test})
    return corpus


def captions(table: Table, rows: Sequence[int] | np.ndarray, languages: Sequence[str]) -> set[str]:
    """Normalised captions of some rows in the languages (empty: all)."""
    return {name for sample in table.rows(rows, columns=["texts"]) for name in _called(sample, languages)}


def _called(sample: Sample, languages: Sequence[str]) -> set[str]:
    return {
        normalise(caption.text) for caption in sample.texts if is_asked(caption.language, "text", languages)
    }


def _rows_without_captions_of(
    table: Table, held_out: set[str], languages: Sequence[str]
) -> Int64[np.ndarray, " n"]:
    samples = table.rows(np.arange(len(table)), columns=["texts"])
    return np.array(
        [row for row, sample in enumerate(samples) if not _called(sample, languages) & held_out],
        dtype=np.int64,
    )
