"""Vectors beside the rows of a table: cached features of frozen encoders, and search vectors.

Each name (an encoder, or a field and a model's fingerprint) has its own Lance dataset in the table's folder.
An entry has `row` and `items`, a list of vectors, which is empty if the row has nothing to encode. Entries
are appended in any order, one commit per call, so a killed run continues with the missing rows. Reading sorts
them by row; the last entry of a row counts. Why not columns: docs/adr/001-vectors-beside-rows.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, Int64, Integer

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.data.table.store import MANY_FRAGMENTS, Store, remedy_for, wrap_errors

Kind = Literal["features", "vectors"]
TOO_MANY_COMMITS = 4 * MANY_FRAGMENTS


@dataclass(frozen=True)
class Ragged:
    """Ragged array: any number of vectors for each of n rows.

    Attributes:
        values: All vectors, row after row, (M, D).
        offsets: Row i has `values[offsets[i]:offsets[i + 1]]`, (n + 1,).
    """

    values: Float32[np.ndarray, "M D"]
    offsets: Int64[np.ndarray, " n_plus_1"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Float32[np.ndarray, "m D"]:
        """Vectors of one row, (m, D)."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def first(self) -> Ragged:
        """The first vector of each row that has any."""
        has_any = self.counts > 0
        return Ragged(self.values[self.offsets[:-1][has_any]], np.concatenate([[0], np.cumsum(has_any)]))

    @property
    def counts(self) -> Int64[np.ndarray, " n"]:
        """Number of vectors of each row, (n,)."""
        return np.diff(self.offsets)

    @property
    def dim(self) -> int:
        """Width D."""
        return int(self.values.shape[1])


class VectorStore:
    """The vectors of one name, e.g. `image:efficientnet-lite0:9f3a`, of width `dim`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.name = name_of(store)
        with wrap_errors(store.path):
            self.dim = int(store.schema.field("items").type.value_type.list_size)

    @classmethod
    def open(cls, folder: Path, kind: Kind, name: str) -> VectorStore | None:
        """Open the vectors of `name`; None if there are none."""
        path = dataset_path(folder, kind, name)
        return cls(Store.open(path)) if Store.exists(path) else None

    @classmethod
    def open_or_create(cls, folder: Path, kind: Kind, name: str, dim: int) -> VectorStore:
        """Open the vectors of `name`, or create them with width `dim`.

        Raises:
            UsageError: If they exist with another width.
        """
        found = cls.open(folder, kind, name)
        if found is None:
            metadata = {"sensorium.kind": kind, "sensorium.name": name}
            items = pa.list_(pa.list_(pa.float32(), dim))
            schema = pa.schema([pa.field("row", pa.int64()), pa.field("items", items)], metadata)
            found = cls(Store.create(dataset_path(folder, kind, name), schema))
        if found.dim != dim:
            raise UsageError(f"{kind} '{name}' are {found.dim} wide, got {dim}; choose another name")
        return found

    def append(
        self,
        rows: Integer[np.ndarray, " n"],
        offsets: Integer[np.ndarray, " n_plus_1"],
        values: Float[np.ndarray, "M D"],
    ) -> None:
        """Write the vectors of some rows durably, as one commit.

        Raises:
            UsageError: If the offsets do not divide the values into one list per row.
            TableError: If a value is not finite; the message names the row.
        """
        pieces = np.asarray(offsets, dtype=np.int32)
        fits = len(pieces) == len(rows) + 1 and pieces[0] == 0 and pieces[-1] == len(values)
        if not fits or np.any(np.diff(pieces) < 0):
            raise UsageError(f"{len(rows)} rows and {len(values)} vectors do not fit {len(offsets)} offsets")
        flat = np.ascontiguousarray(values, dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
        if len(bad):
            row = rows[np.searchsorted(pieces, bad[0], side="right") - 1]
            raise TableError(f"'{self.name}': the vector of row {row} is not finite; nothing was written")
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), self.dim)
        items = pa.ListArray.from_arrays(pa.array(pieces), vectors)
        with self._store.writing():
            self._store.append(pa.table({"row": pa.array(rows, pa.int64()), "items": items}))
            is_scattered = self._store.num_fragments > TOO_MANY_COMMITS
        if is_scattered:
            self.optimize()

    def optimize(self) -> None:
        """Merge small files."""
        self._store.optimize()

    @property
    def num_entries(self) -> int:
        """Number of entries; a row that was written twice counts twice."""
        return len(self._store)

    def done(self) -> Int64[np.ndarray, " n"]:
        """Rows that have an entry, ascending."""
        return np.unique(self._rows(self._store.scan(["row"])))

    def read(self, num_rows: int) -> Ragged:
        """All vectors in row order."""
        table = self._store.scan(["row", "items"])
        rows = self._rows(table)
        values, counts = self._vectors(table)
        starts = np.concatenate([[0], np.cumsum(counts)])
        chosen = _last_of_each(rows)
        chosen = chosen[rows[chosen] < num_rows]
        all_counts = np.zeros(num_rows, dtype=np.int64)
        all_counts[rows[chosen]] = counts[chosen]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(all_counts)])
        if len(chosen) == len(rows) and np.array_equal(chosen, np.arange(len(rows))):
            return Ragged(values, offsets)
        ranges = [np.arange(starts[entry], starts[entry + 1]) for entry in chosen]
        order = np.concatenate(ranges) if ranges else np.zeros(0, np.int64)
        return Ragged(values[order], offsets)

    def read_row(self, row: int) -> Float32[np.ndarray, "m D"]:
        """Vectors of one row, without reading others; (0, D) if it has none."""
        entries = np.flatnonzero(self._rows(self._store.scan(["row"])) == row)
        return self._vectors(self._store.take(entries[-1:], ["items"]))[0]

    def draw(self, num: int, seed: int) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, "n D"]]:
        """Rows and values of at most `num` random vectors; reads the vectors of `num` rows."""
        random = np.random.default_rng(seed)
        rows = self._rows(self._store.scan(["row"]))
        entries = np.sort(random.permutation(_last_of_each(rows))[:num])
        values, counts = self._vectors(self._store.take(entries, ["items"]))
        drawn = random.permutation(len(values))[:num]
        return np.repeat(rows[entries], counts)[drawn], values[drawn]

    def _rows(self, table: pa.Table) -> Int64[np.ndarray, " n"]:
        """Row of each entry; a negative one raises a TableError."""
        with wrap_errors(self._store.path):
            rows: Int64[np.ndarray, " n"] = table["row"].to_numpy()
        if rows.dtype != np.int64 or np.any(rows < 0):
            raise TableError(f"{self._store.path} has invalid row numbers; {remedy_for(self._store.path)}")
        return rows

    def _vectors(self, table: pa.Table) -> tuple[Float32[np.ndarray, "M D"], Int64[np.ndarray, " n"]]:
        """All vectors, and the number of each entry; damaged files and values that are not finite raise."""
        with wrap_errors(self._store.path):
            values, counts = _flatten(table["items"], self.dim)
        with np.errstate(all="ignore"):
            is_whole = counts.sum() == len(values) and np.isfinite(values.sum())
        if not is_whole:
            raise TableError(
                f"{self._store.path} has vectors that are cut or not finite; {remedy_for(self._store.path)}"
            )
        return values, counts


class VectorFolder:
    """All vectors in the folder `path` of a table."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self, kind: Kind) -> list[str]:
        """Names of all vectors of one kind, sorted."""
        paths = (path for path in self.path.glob(f"{kind}-*.lance") if Store.exists(path))
        return sorted(name_of(Store.open(path)) for path in paths)

    def get(self, kind: Kind, name: str) -> VectorStore:
        """Open the vectors of `name`.

        Raises:
            NotFoundError: If there are none; the message lists the existing names.
        """
        found = VectorStore.open(self.path, kind, name)
        if found is None:
            known = ", ".join(self.names(kind)) or "none"
            raise NotFoundError(f"no {kind} '{name}' in {self.path}; there are: {known}")
        return found

    def append(
        self,
        kind: Kind,
        name: str,
        rows: Int64[np.ndarray, " n"],
        offsets: Int64[np.ndarray, " n_plus_1"],
        values: Float[np.ndarray, "M D"],
    ) -> None:
        """Write vectors of some rows (see `VectorStore.append`); creates the store if needed."""
        VectorStore.open_or_create(self.path, kind, name, values.shape[1]).append(rows, offsets, values)

    def missing(self, kind: Kind, name: str, wanted: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """The `wanted` rows that have no entry yet, ascending."""
        found = VectorStore.open(self.path, kind, name)
        return wanted if found is None else np.setdiff1d(wanted, found.done(), assume_unique=True)

    def optimize(self) -> None:
        """Merge small files of all vectors."""
        for kind in get_args(Kind):
            for name in self.names(kind):
                self.get(kind, name).optimize()


def name_of(store: Store) -> str:
    """Full name of the vectors in a dataset.

    Raises:
        TableError: If its metadata do not match its folder.
    """
    name = store.metadata.get("sensorium.name", "")
    kind = store.metadata.get("sensorium.kind", "")
    if dataset_path(store.path.parent, kind, name) != store.path:
        raise TableError(f"{store.path} has {kind or 'nothing'} of '{name}'; {remedy_for(store.path)}")
    return name


def by_row(
    rows: Int64[np.ndarray, " m"], values: Float[np.ndarray, "m D"]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n_plus_1"], Float[np.ndarray, "m D"]]:
    """Arguments of `VectorStore.append` for vectors in any order; a row may occur several times.

    Example:
        >>> rows, offsets, values = by_row(np.array([7, 2, 7]), np.array([[1.0], [2.0], [3.0]]))
        >>> rows.tolist(), offsets.tolist(), values[:, 0].tolist()
        ([2, 7], [0, 1, 3], [2.0, 1.0, 3.0])
    """
    order = np.argsort(rows, kind="stable")
    distinct, starts = np.unique(rows[order], return_index=True)
    return distinct, np.append(starts, len(rows)), values[order]


def dataset_path(folder: Path, kind: str, name: str) -> Path:
    """Folder of a name; readable, and unique by a hash."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", name)[:60].strip("-.")
    return folder / f"{kind}-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.lance"


def _flatten(items: pa.ChunkedArray, dim: int) -> tuple[Float32[np.ndarray, "M D"], Int64[np.ndarray, " n"]]:
    """All vectors, and the number of each entry."""
    chunks = [chunk for chunk in items.chunks if len(chunk)]
    if not chunks:
        return np.zeros((0, dim), np.float32), np.zeros(0, np.int64)
    values = [chunk.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim) for chunk in chunks]
    counts = [np.diff(chunk.offsets.to_numpy()).astype(np.int64) for chunk in chunks]
    return np.concatenate(values), np.concatenate(counts)


def _last_of_each(rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """Positions of the last entry of each row, in ascending order of the rows."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True) if len(rows) else np.zeros(0, bool)
    last: Int64[np.ndarray, " m"] = order[is_last]
    return last
