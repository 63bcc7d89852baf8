"""An approximate index of what a search looks through, kept in the table's folder: one for each model.

In: a table and a model's fingerprint. Out: a dataset `ann-*.lance` with the vectors of the search pool and a
Lance index over them; read back, it answers as `ExactIndex` does, without reading all vectors. Vectors in a
table are only ever added to, so the number of entries of each field tells whether any came after the index
was built. What it finds nearly always is the exact answer, and is scored exactly; how nearly is measured when
it is built. It does not know what the vectors mean.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lance
import numpy as np
from jaxtyping import Bool, Float32, Int64

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.core.types import FIELDS
from sensorium.data.table.store import Store, locked, remedy_for, wrap_errors
from sensorium.data.table.vectors import VectorFolder, dataset_path
from sensorium.search import ann
from sensorium.search.exact import inner_products
from sensorium.search.pool import Pool, gather

if TYPE_CHECKING:
    from sensorium.data.table.table import Table

EXACT_IS_FAST_BELOW = 100_000
"""Vectors that an exact search looks through in about the time of an approximate one."""

_READ_AT_MOST = 20_000
"""A filter that keeps no more vectors than this is answered exactly, by reading these."""
_BLOCK = 8192
_OF = "sensorium.fingerprint"
_SAMPLE = 8192
"""Vectors that stand for all: they give the deviation of scores to about 1 %."""


class ApproximateIndex:
    """Nearly the k nearest of n vectors on disk.

    Attributes:
        dim: Width E of the vectors.
        num_probes: Partitions looked into, of about sqrt(n) / 2; more find more.
        refine: k times this many candidates are scored with their true vectors.
    """

    def __init__(self, dataset: lance.LanceDataset, num_probes: int = 32, refine: int = 10) -> None:
        self._dataset = dataset
        self._path = Path(dataset.uri)
        with wrap_errors(self._path):
            self._size = int(dataset.count_rows())
            self.dim = int(dataset.schema.field("vector").type.list_size)
        self.num_probes = num_probes
        self.refine = refine

    def __len__(self) -> int:
        return self._size

    def search(
        self, queries: Float32[np.ndarray, "q E"], k: int, allowed: Bool[np.ndarray, " n"] | None = None
    ) -> tuple[Float32[np.ndarray, "q k_found"], Int64[np.ndarray, "q k_found"]]:
        """Find rows of great inner product with each query.

        Args:
            queries: Unit vectors.
            k: How many rows; fewer come back where fewer are there or allowed.
            allowed: True for each row that may be found; None: all.

        Returns:
            Scores, best first and equal to those of `ExactIndex`, and positions.

        Raises:
            UsageError: If k < 1 or the widths differ.
            TableError: If the files are damaged.
        """
        if k < 1 or queries.shape[1:] != (self.dim,):
            raise UsageError(f"k={k} and queries {queries.shape}; expected k >= 1 and (q, {self.dim})")
        k = min(k, len(self) if allowed is None else int(allowed.sum()))
        scores = np.zeros((len(queries), k), dtype=np.float32)
        positions = np.zeros((len(queries), k), dtype=np.int64)
        for i, query in enumerate(queries if k else ()):
            found = self._candidates(query, k, allowed)
            exact = np.concatenate(
                [
                    inner_products(self._read(found[low : low + _BLOCK]), query).astype(np.float32)
                    for low in range(0, len(found), _BLOCK)
                ]
            )
            order = np.lexsort((found, -exact))[:k]
            scores[i], positions[i] = exact[order], found[order]
        return scores, positions

    def _candidates(
        self, query: Float32[np.ndarray, " E"], k: int, allowed: Bool[np.ndarray, " n"] | None
    ) -> Int64[np.ndarray, " c"]:
        """At least k allowed positions: of the index, asked for more until it has them, or else all."""
        num_allowed = len(self) if allowed is None else int(allowed.sum())
        wanted = -(-k * len(self) // num_allowed)
        if allowed is None or num_allowed > _READ_AT_MOST:
            probes, num_partitions = self.num_probes, ann.num_partitions(len(self))
            while wanted <= _READ_AT_MOST:
                with wrap_errors(self._path):
                    _, labels = ann.search(
                        self._dataset,
                        query[None],
                        wanted,
                        label="place",
                        num_probes=probes,
                        refine=self.refine,
                    )
                found = np.unique(labels[labels >= 0])
                if len(found) and found[-1] >= len(self):
                    raise TableError(f"{self._path} holds places of no vector; {remedy_for(self._path)}")
                found = found if allowed is None else found[allowed[found]]
                if len(found) >= k:
                    return found
                if wanted >= len(self) and probes >= num_partitions:
                    break
                wanted, probes = min(len(self), 4 * wanted), min(num_partitions, 4 * probes)
        return np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)

    def _read(self, positions: Int64[np.ndarray, " c"]) -> Float32[np.ndarray, "c E"]:
        with wrap_errors(self._path):
            column = self._dataset.take(positions.tolist(), columns=["vector"])["vector"]
            flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            rows: Float32[np.ndarray, "c E"] = flat.reshape(len(positions), self.dim)
        if not np.isfinite(rows).all():
            raise TableError(f"{self._path} holds vectors that are not finite; {remedy_for(self._path)}")
        return rows

    @functools.cached_property
    def sample(self) -> Float32[np.ndarray, "s E"]:
        """Some thousands of the vectors, drawn at random and kept: what scores of a query are like."""
        drawn = np.random.default_rng(0).permutation(len(self))[:_SAMPLE]
        return self._read(np.sort(drawn))


@dataclass(frozen=True)
class ApproximatePool:
    """What `Pool` is, on disk.

    Attributes:
        rows: Row of each vector, (n,).
        fields: Its field, as an index into `FIELDS`, (n,).
        index: The vectors, ready to be searched.
    """

    rows: Int64[np.ndarray, " n"]
    fields: Int64[np.ndarray, " n"]
    index: ApproximateIndex

    @property
    def sample(self) -> Float32[np.ndarray, "s E"]:
        """Vectors that stand for all."""
        return self.index.sample


@dataclass(frozen=True)
class Built:
    """What was built.

    Attributes:
        kind: `IVF_PQ` or `IVF_HNSW_SQ`.
        rows: How many have a vector in it.
        vectors: How many.
        seconds: Time to write and index them.
        num_bytes: Size on disk, the vectors included.
    """

    kind: str
    rows: int
    vectors: int
    seconds: float
    num_bytes: int


def build_approximate(table: Table, fingerprint: str, kind: ann.Kind = "IVF_PQ") -> Built:
    """Index what a search by this model looks through, in the place of an older index.

    Raises:
        NotFoundError: If the table holds no vectors of this model.
        TableError: If there are too few vectors, or another process builds this index.
    """
    start = time.perf_counter()
    table.refresh()
    entries = _entries(table, fingerprint)
    pool = gather(table, fingerprint, None)
    if len(pool.rows) < ann.MIN_VECTORS:
        raise TableError(
            f"{len(pool.rows)} vectors are too few for an approximate index, it takes {ann.MIN_VECTORS}; "
            "leave it: exact search is faster there"
        )
    path = _path(table, fingerprint)
    partial = path.with_name(f".{path.name}.part")
    with locked(path, 0.0, "is being built"), wrap_errors(path, "cannot be written", "run the same again"):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            columns = {"place": np.arange(len(pool.rows)), "field": pool.fields}
            facts = {"fingerprint": fingerprint, "kind": kind, "entries": json.dumps(entries)}
            facts = {f"sensorium.{name}": value for name, value in facts.items()}
            ann.build(ann.write(partial, pool.index.vectors, pool.rows, columns, facts), kind=kind)
            shutil.rmtree(path, ignore_errors=True)
            os.rename(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Built(kind, len(np.unique(pool.rows)), len(pool.rows), time.perf_counter() - start, size)


def open_approximate(table: Table, fingerprint: str) -> ApproximatePool:
    """Open the index of this model.

    Raises:
        NotFoundError: If there is none.
        TableError: If vectors were written after it was built, or it is damaged.
    """
    path = _path(table, fingerprint)
    remedy = f"run: sensorium data index {table.path}"
    if not Store.exists(path):
        raise NotFoundError(f"{table.path} has no approximate index for this model ({fingerprint}); {remedy}")
    store = Store.open(path)
    now = _entries(table, fingerprint)
    with wrap_errors(path):
        before = dict(json.loads(store.metadata["sensorium.entries"]))
    if before != now:
        counts = ", ".join(
            f"{name} {before.get(name, 0)} then, {now.get(name, 0)} now" for name in sorted({*before, *now})
        )
        raise TableError(f"the approximate index of {table.path} is stale ({counts} written); {remedy}")
    columns = store.scan(["row", "field", "place"])
    with wrap_errors(path):
        rows, fields, places = (columns[name].to_numpy().astype(np.int64) for name in columns.column_names)
    is_sound = np.array_equal(places, np.arange(len(rows))) and store.metadata.get(_OF) == fingerprint
    if not is_sound or np.any((rows < 0) | (rows >= len(table)) | (fields < 0) | (fields >= len(FIELDS))):
        raise TableError(f"{path} does not fit the table; {remedy}")
    return ApproximatePool(rows, fields, ApproximateIndex(store.dataset))


@dataclass(frozen=True)
class Recall:
    """How an approximate index does beside the exact one, on the same queries.

    Attributes:
        at_10: Share of the exact ten best that it finds.
        queries: What was asked: `captions` (text vectors that are not searched themselves) or `neighbours`
            (searched vectors, moved to a cosine of about 0.9 with themselves).
        num_queries: How many.
        ann_ms: Median time of a query.
        exact_ms: The same, searching exactly.
    """

    at_10: float
    queries: str
    num_queries: int
    ann_ms: float
    exact_ms: float


def measure_recall(table: Table, fingerprint: str, *, num_queries: int = 100, seed: int = 0) -> Recall:
    """Ask the approximate index and the exact one the same.

    Raises:
        NotFoundError: If there is no index.
        TableError: If it is stale.
    """
    exact, approximate = gather(table, fingerprint, None), open_approximate(table, fingerprint)
    queries, what = _queries(table, fingerprint, exact, num_queries, np.random.default_rng(seed))
    found, times = [], []
    for index in (exact.index, approximate.index):
        index.search(queries[:1], 10)
        answers, seconds = [], []
        for query in queries:
            start = time.perf_counter()
            answers.append(index.search(query[None], 10)[1][0])
            seconds.append(time.perf_counter() - start)
        found.append(np.stack(answers))
        times.append(1000 * float(np.median(seconds)))
    return Recall(ann.recall(found[1], found[0]), what, len(queries), times[1], times[0])


def _queries(
    table: Table, fingerprint: str, pool: Pool, num: int, random: np.random.Generator
) -> tuple[Float32[np.ndarray, "q E"], str]:
    if "text" in table.fields_embedded()[fingerprint]:
        rows, vectors = table.vectors("text", fingerprint)
        apart = np.flatnonzero(~np.isin(rows, pool.rows[pool.fields == FIELDS.index("text")]))
        if len(apart):
            return vectors[random.permutation(apart)[:num]], "captions"
    near = pool.index.vectors[random.permutation(len(pool.rows))[:num]]
    noise = random.standard_normal(near.shape).astype(np.float32) * np.float32(
        0.48 / math.sqrt(near.shape[1])
    )
    moved = near + noise
    return moved / np.linalg.norm(moved, axis=1, keepdims=True), "neighbours"


def _entries(table: Table, fingerprint: str) -> dict[str, int]:
    """Entries that were ever written, by field."""
    folder = VectorFolder(table.path)
    names = table.fields_embedded().get(fingerprint, [])
    return {name: folder.get("vectors", f"{name}:{fingerprint}").num_entries for name in sorted(names)}


def _path(table: Table, fingerprint: str) -> Path:
    return dataset_path(table.path, "ann", fingerprint)
