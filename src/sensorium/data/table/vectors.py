"""Vectors beside the rows: cached features of frozen encoders and search vectors.

Each name (an encoder, or a field and a model's fingerprint) has a Lance dataset of its own in the
table's folder, with one entry for each row done: `row` and `items` (a list of vectors, empty where the
row has nothing to encode). Entries are appended in any order, one commit a call, so that a killed run
goes on with the rows that are missing; reading puts them in row order and lets the last entry of a row
win. Why not columns: docs/adr/001-vectors-beside-rows.md.
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
    """Any number of vectors for each of n rows.

    Attributes:
        values: All vectors, row after row, (M, D).
        offsets: Row i owns `values[offsets[i]:offsets[i + 1]]`, (n + 1,).
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
        """How many vectors each row has, (n,)."""
        return np.diff(self.offsets)

    @property
    def dim(self) -> int:
        """Width D."""
        return int(self.values.shape[1])


class VectorStore:
    """Vectors of one name.

    Attributes:
        name: Full name, e.g. `image:efficientnet-lite0:9f3a`.
        dim: Width of a vector.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.name = name_of(store)
        with wrap_errors(store.path):
            self.dim = int(store.schema.field("items").type.value_type.list_size)

    @classmethod
    def open(cls, folder: Path, kind: Kind, name: str) -> VectorStore | None:
        """Open the vectors of `name`, or return None where there are none."""
        path = dataset_path(folder, kind, name)
        return cls(Store.open(path)) if Store.exists(path) else None

    @classmethod
    def open_or_create(cls, folder: Path, kind: Kind, name: str, dim: int) -> VectorStore:
        """Open the vectors of `name`, or begin them with width `dim`.

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
            UsageError: If the offsets do not cut the values into one piece for each row.
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
        """How many entries were ever written; a row that was written again counts twice."""
        return len(self._store)

    def done(self) -> Int64[np.ndarray, " n"]:
        """Rows that have an entry, ascending."""
        return np.unique(self._rows(self._store.scan(["row"])))

    def read(self, num_rows: int) -> Ragged:
        """All vectors in row order; rows without an entry have none."""
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
        places = [np.arange(starts[entry], starts[entry + 1]) for entry in chosen]
        order = np.concatenate(places) if places else np.zeros(0, np.int64)
        return Ragged(values[order], offsets)

    def read_row(self, row: int) -> Float32[np.ndarray, "m D"]:
        """Vectors of one row, in the memory of one: (0, D) where it has none."""
        entries = np.flatnonzero(self._rows(self._store.scan(["row"])) == row)
        return self._vectors(self._store.take(entries[-1:], ["items"]))[0]

    def draw(self, num: int, seed: int) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, "n D"]]:
        """At most `num` vectors at random, in the memory of those of `num` rows, and the row of each."""
        random = np.random.default_rng(seed)
        rows = self._rows(self._store.scan(["row"]))
        entries = np.sort(random.permutation(_last_of_each(rows))[:num])
        values, counts = self._vectors(self._store.take(entries, ["items"]))
        drawn = random.permutation(len(values))[:num]
        return np.repeat(rows[entries], counts)[drawn], values[drawn]

    def _rows(self, table: pa.Table) -> Int64[np.ndarray, " n"]:
        """Row of each entry.

        Raises:
            TableError: If one is none of a table.
        """
        with wrap_errors(self._store.path):
            rows: Int64[np.ndarray, " n"] = table["row"].to_numpy()
        if rows.dtype != np.int64 or np.any(rows < 0):
            raise TableError(f"{self._store.path} holds entries of no row; {remedy_for(self._store.path)}")
        return rows

    def _vectors(self, table: pa.Table) -> tuple[Float32[np.ndarray, "M D"], Int64[np.ndarray, " n"]]:
        """Vectors one after the other, and how many each entry has.

        Raises:
            TableError: If one is not finite, or the files are damaged.
        """
        with wrap_errors(self._store.path):
            values, counts = _flatten(table["items"], self.dim)
        with np.errstate(all="ignore"):
            is_whole = counts.sum() == len(values) and np.isfinite(values.sum())
        if not is_whole:
            raise TableError(
                f"{self._store.path} holds vectors that are cut or not finite; {remedy_for(self._store.path)}"
            )
        return values, counts


class VectorFolder:
    """All vectors in a table's folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self, kind: Kind) -> list[str]:
        """Names of all vectors of one kind, sorted."""
        paths = (path for path in self.path.glob(f"{kind}-*.lance") if Store.exists(path))
        return sorted(name_of(Store.open(path)) for path in paths)

    def get(self, kind: Kind, name: str) -> VectorStore:
        """Open the vectors of `name`.

        Raises:
            NotFoundError: If there are none; the message lists what there is.
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
        """Write vectors of some rows, as `VectorStore.append` does, to a store that is made if missing."""
        VectorStore.open_or_create(self.path, kind, name, values.shape[1]).append(rows, offsets, values)

    def missing(self, kind: Kind, name: str, wanted: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """Those of the `wanted` rows that have no entry yet; ascending."""
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
        TableError: If it does not tell, or lies in the folder of another name.
    """
    name = store.metadata.get("sensorium.name", "")
    kind = store.metadata.get("sensorium.kind", "")
    if dataset_path(store.path.parent, kind, name) != store.path:
        raise TableError(f"{store.path} holds {kind or 'nothing'} of '{name}'; {remedy_for(store.path)}")
    return name


def by_row(
    rows: Int64[np.ndarray, " m"], values: Float[np.ndarray, "m D"]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n_plus_1"], Float[np.ndarray, "m D"]]:
    """Vectors in any order, several of a row among them, as `VectorStore.append` takes them.

    Example:
        >>> rows, offsets, values = by_row(np.array([7, 2, 7]), np.array([[1.0], [2.0], [3.0]]))
        >>> rows.tolist(), offsets.tolist(), values[:, 0].tolist()
        ([2, 7], [0, 1, 3], [2.0, 1.0, 3.0])
    """
    order = np.argsort(rows, kind="stable")
    distinct, starts = np.unique(rows[order], return_index=True)
    return distinct, np.append(starts, len(rows)), values[order]


def dataset_path(folder: Path, kind: str, name: str) -> Path:
    """Folder of a name: readable, and distinct for distinct names."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", name)[:60].strip("-.")
    return folder / f"{kind}-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.lance"


def _flatten(items: pa.ChunkedArray, dim: int) -> tuple[Float32[np.ndarray, "M D"], Int64[np.ndarray, " n"]]:
    """Vectors one after the other, and how many each entry has."""
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
