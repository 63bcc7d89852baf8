"""Approximate nearest-neighbour search in a table: a Lance vector index for each model, and its recall.

The index is a dataset `ann-*.lance` in the table's folder. It contains the vectors that a default search by
one model compares with. `ApproximateIndex` answers like `ExactIndex` without reading all vectors: candidates
of the Lance index are scored exactly. Vectors in a table are only ever added, so the number of entries of
each field tells whether the index is stale.

Measured at 1M x 512 on two cores: IVF_PQ 12.5 ms at recall .965, built in 2 minutes; IVF_HNSW_SQ 19 ms at
1.00, built in 5.4 minutes. Below about 100,000 vectors exact search is as fast.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.core.types import FIELDS
from sensorium.data.table.store import Store, locked, remedy_for, wrap_errors
from sensorium.data.table.vectors import VectorFolder, dataset_path
from sensorium.search.exact import Pool, gather, inner_products

if TYPE_CHECKING:
    from sensorium.data.table.table import Table

Kind = Literal["IVF_PQ", "IVF_HNSW_SQ"]
MIN_VECTORS = 512
"""Least vectors of an index; Lance trains product quantisation on at least 256."""
EXACT_IS_FAST_BELOW = 100_000
"""Number of vectors below which exact search takes about the same time."""

_READ_AT_MOST = 20_000
"""If a filter keeps at most this many vectors, they are read and searched exactly."""
_BLOCK = 8192
_OF = "sensorium.fingerprint"
_SAMPLE = 8192
"""Vectors drawn for statistics: they give the standard deviation of scores to about 1 %."""


class ApproximateIndex:
    """Index for approximately the k nearest of n vectors on disk.

    Attributes:
        dim: Width E of the vectors.
        num_probes: Partitions searched, of about sqrt(n) / 2; more partitions increase recall.
        refine: k times this many candidates are scored with their full vectors.
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
        """Find rows with large inner products with each query.

        Args:
            queries: Unit vectors.
            k: Number of rows; fewer are returned if fewer exist or are allowed.
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
        """At least k allowed positions: more and more candidates of the index, or else all positions."""
        num_allowed = len(self) if allowed is None else int(allowed.sum())
        wanted = -(-k * len(self) // num_allowed)
        if allowed is None or num_allowed > _READ_AT_MOST:
            probes, max_probes = self.num_probes, num_partitions(len(self))
            while wanted <= _READ_AT_MOST:
                with wrap_errors(self._path):
                    _, labels = search_index(
                        self._dataset,
                        query[None],
                        wanted,
                        label="place",
                        num_probes=probes,
                        refine=self.refine,
                    )
                found = np.unique(labels[labels >= 0])
                if len(found) and found[-1] >= len(self):
                    raise TableError(f"{self._path} holds unknown positions; {remedy_for(self._path)}")
                found = found if allowed is None else found[allowed[found]]
                if len(found) >= k:
                    return found
                if wanted >= len(self) and probes >= max_probes:
                    break
                wanted, probes = min(len(self), 4 * wanted), min(max_probes, 4 * probes)
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
        """Some thousand vectors drawn at random, for statistics of scores."""
        drawn = np.random.default_rng(0).permutation(len(self))[:_SAMPLE]
        return self._read(np.sort(drawn))


@dataclass(frozen=True)
class ApproximatePool:
    """As `exact.Pool`, with the vectors on disk."""

    rows: Int64[np.ndarray, " n"]
    fields: Int64[np.ndarray, " n"]
    index: ApproximateIndex

    @property
    def sample(self) -> Float32[np.ndarray, "s E"]:
        """Vectors for statistics of scores: a random sample."""
        return self.index.sample


@dataclass(frozen=True)
class Built:
    """Result of `build_approximate`.

    Attributes:
        kind: `IVF_PQ` or `IVF_HNSW_SQ`.
        rows: Number of rows with a vector in the index.
        vectors: Number of vectors.
        seconds: Time to write and index them.
        num_bytes: Size on disk, vectors included.
    """

    kind: str
    rows: int
    vectors: int
    seconds: float
    num_bytes: int


def build_approximate(table: Table, fingerprint: str, kind: Kind = "IVF_PQ") -> Built:
    """Build the index for default searches by one model; it replaces an older one.

    Raises:
        NotFoundError: If the table has no vectors of this model.
        TableError: If there are too few vectors, or another process is building this index.
        UsageError: If the kind is unknown.
    """
    if kind not in get_args(Kind):
        raise UsageError(f"index kind '{kind}' is unknown; use one of {', '.join(get_args(Kind))}")
    start = time.perf_counter()
    table.refresh()
    entries = _entries(table, fingerprint)
    pool = gather(table, fingerprint, None)
    if len(pool.rows) < MIN_VECTORS:
        raise TableError(
            f"{len(pool.rows)} vectors are too few for an approximate index, which needs {MIN_VECTORS}; "
            "search without --ann: exact search is faster here"
        )
    path = _path(table, fingerprint)
    partial = path.with_name(f".{path.name}.part")
    with locked(path, 0.0, "is being built"), wrap_errors(path, "cannot be written", "run the same again"):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            columns = {"place": np.arange(len(pool.rows)), "field": pool.fields}
            facts = {"fingerprint": fingerprint, "kind": kind, "entries": json.dumps(entries)}
            facts = {f"sensorium.{name}": value for name, value in facts.items()}
            build_index(write_dataset(partial, pool.index.vectors, pool.rows, columns, facts), kind=kind)
            shutil.rmtree(path, ignore_errors=True)
            os.rename(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Built(kind, len(np.unique(pool.rows)), len(pool.rows), time.perf_counter() - start, size)


def open_approximate(table: Table, fingerprint: str) -> ApproximatePool:
    """Open the index of one model.

    Raises:
        NotFoundError: If there is none.
        TableError: If vectors were added after it was built, or it is damaged.
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
    is_valid = np.array_equal(places, np.arange(len(rows))) and store.metadata.get(_OF) == fingerprint
    if not is_valid or np.any((rows < 0) | (rows >= len(table)) | (fields < 0) | (fields >= len(FIELDS))):
        raise TableError(f"{path} does not fit the table; {remedy}")
    return ApproximatePool(rows, fields, ApproximateIndex(store.dataset))


@dataclass(frozen=True)
class Recall:
    """Approximate against exact search, on the same queries.

    Attributes:
        at_10: Share of the exact ten best that the approximate index finds.
        queries: Kind of queries: `captions` (text vectors that are not in the index) or `neighbours` (vectors
            of the index with noise, cosine about 0.9).
        num_queries: Number of queries.
        ann_ms: Median time of an approximate query.
        exact_ms: Median time of an exact query.
    """

    at_10: float
    queries: str
    num_queries: int
    ann_ms: float
    exact_ms: float


def measure_recall(table: Table, fingerprint: str, *, num_queries: int = 100, seed: int = 0) -> Recall:
    """Measure recall and time of the approximate index.

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
    return Recall(recall(found[1], found[0]), what, len(queries), times[1], times[0])


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
    """Number of entries ever written, by field."""
    folder = VectorFolder(table.path)
    names = table.fields_embedded().get(fingerprint, [])
    return {name: folder.get("vectors", f"{name}:{fingerprint}").num_entries for name in sorted(names)}


def _path(table: Table, fingerprint: str) -> Path:
    return dataset_path(table.path, "ann", fingerprint)


def write_dataset(
    path: Path | str,
    vectors: Float32[np.ndarray, "n E"],
    rows: Int64[np.ndarray, " n"],
    columns: Mapping[str, Int64[np.ndarray, " n"]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> lance.LanceDataset:
    """Write unit vectors and their row numbers as a Lance dataset; an older one is overwritten.

    Args:
        path: Folder of the dataset.
        vectors: Unit vectors.
        rows: Row number of each.
        columns: Further integer columns by name.
        metadata: Metadata of the schema.
    """
    if len(vectors) != len(rows):
        raise UsageError(f"{len(vectors)} vectors and {len(rows)} row numbers; expected one for each")
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = pa.table({"row": rows, **(columns or {}), "vector": column}, metadata=metadata)
    return lance.write_dataset(table, str(path), mode="overwrite" if Path(path).exists() else "create")


def build_index(dataset: lance.LanceDataset, kind: Kind = "IVF_PQ") -> lance.LanceDataset:
    """Build a cosine index on the vectors; it replaces an older one.

    Args:
        dataset: Dataset of at least `MIN_VECTORS` vectors.
        kind: `IVF_PQ` is small and quick to build, `IVF_HNSW_SQ` has a higher recall.

    Returns:
        The dataset at its new version.
    """
    return dataset.create_index(
        "vector",
        kind,
        metric="cosine",
        replace=True,
        num_partitions=num_partitions(dataset.count_rows()),
        num_sub_vectors=_sub_vectors(dataset.schema.field("vector").type.list_size)
        if kind == "IVF_PQ"
        else None,
    )


def search_index(
    dataset: lance.LanceDataset,
    queries: Float32[np.ndarray, "q E"],
    k: int,
    *,
    label: str = "row",
    num_probes: int = 32,
    refine: int = 10,
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """Search a dataset by its index, or exactly if it has none.

    Args:
        dataset: Result of `build_index` or `write_dataset`.
        queries: Unit vectors.
        k: Number of results.
        label: Integer column whose value is returned for each result.
        num_probes: Partitions searched; more partitions increase recall.
        refine: k times this many candidates are scored again with their full vectors.

    Returns:
        Cosines, best first, and labels; padded with -inf and -1.
    """
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    labels = np.full((len(queries), k), -1, dtype=np.int64)
    for i, query in enumerate(queries):
        nearest = {
            "column": "vector", "q": query, "k": k, "metric": "cosine",
            "minimum_nprobes": num_probes, "maximum_nprobes": num_probes, "refine_factor": refine,
            "ef": max(64, k * refine),
        }  # fmt: skip
        found = dataset.to_table(columns=[label, "_distance"], nearest=nearest)
        scores[i, : len(found)] = 1 - found["_distance"].to_numpy()
        labels[i, : len(found)] = found[label].to_numpy()
    return scores, labels


def num_partitions(num_rows: int) -> int:
    """Number of IVF partitions for so many vectors; each is trained on at least 256."""
    return max(1, min(round(math.sqrt(num_rows) / 2), num_rows // 256))


def recall(found: Int64[np.ndarray, "q k"], exact: Int64[np.ndarray, "q k"]) -> float:
    """Share of the exact k best that the search found.

    Example:
        >>> recall(np.array([[3, 5, 8]]), np.array([[5, 3, 9]]))
        0.6666666666666666
    """
    shares = [
        len(np.intersect1d(one, other)) / max(1, len(other)) for one, other in zip(found, exact, strict=True)
    ]
    return float(np.mean(shares))


def _sub_vectors(width: int) -> int:
    """Number of sub-vectors of product quantisation: a divisor of the width, about width / 8."""
    return next(pieces for pieces in range(max(1, width // 8), 0, -1) if width % pieces == 0)
