"""Exact nearest-neighbour search over a matrix of vectors.

In: vectors, queries, k, which rows are allowed. Out: the k rows of greatest inner product and those products.
The matrix is scanned once in its number format; every row that could be among the k best given that format's
proven error is then scored again in float64. So `bf16` and `int8` give the same answer as `fp32`, whatever
the threads, the block sizes or the number of queries, and equal vectors come in the order of their positions.
Nothing here knows tables or models.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from sensorium.core.errors import UsageError
from sensorium.search.scan import scan_of

Allowed = Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]
"""True for each row that may be found, or the numbers of those rows."""

INT8_FROM = 100_000
"""From so many vectors on the scan is of int8 codes if no format is asked for: there it is faster."""
_GATHER_BELOW = 8
"""Rows are gathered before the scan where fewer than 1 in this many are allowed; else all are scanned."""
_SCORES_AT_ONCE = 16_000_000
_BLOCK = 256


class ExactIndex:
    """The k nearest of n vectors, exactly.

    A million vectors of 512 take 2 GB as `fp32`. `int8` scans 0.5 GB in their place and is the fastest for
    single queries, as the scan waits for memory; making the codes costs about as much as reading the rows
    once. It still needs the float32 rows to score candidates, which may be a memory map, of which it touches
    a few rows a query.

    Attributes:
        vectors: The matrix, (n, E), not copied.
        dtype: Number format of the scan: `fp32`, `bf16` or `int8`; if not given, `int8` from 100,000 rows on.

    Example:
        >>> index = ExactIndex(np.eye(5, dtype=np.float32)[[0, 1, 2, 1]])
        >>> scores, positions = index.search(np.eye(5, dtype=np.float32)[[1]], k=3)
        >>> positions.tolist(), scores.tolist()
        ([[1, 3, 0]], [[1.0, 1.0, 0.0]])
    """

    def __init__(self, vectors: Float32[np.ndarray, "n E"], dtype: str | None = None) -> None:
        self.vectors = vectors
        self.dtype = dtype or ("fp32" if len(vectors) < INT8_FROM else "int8")
        self._scan = scan_of(vectors, self.dtype)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Width E of the vectors."""
        return int(self.vectors.shape[1])

    def search(
        self, queries: Float32[np.ndarray, "q E"], k: int, allowed: Allowed | None = None
    ) -> tuple[Float32[np.ndarray, "q k_found"], Int64[np.ndarray, "q k_found"]]:
        """Find the rows of greatest inner product with each query.

        Args:
            queries: Unit vectors, for cosines.
            k: How many rows; fewer come back where fewer are there or allowed.
            allowed: Which rows may be found; None: all.

        Returns:
            Scores, best first, and positions. Of equal scores the lower position is first.

        Raises:
            UsageError: If k < 1, the widths differ, a query is not finite or `allowed` does not fit.
        """
        rows = self._rows(allowed)
        num_rows = len(self) if rows is None else len(rows)
        self._check(queries, k)
        k = min(k, num_rows)
        scores = np.zeros((len(queries), k), dtype=np.float32)
        positions = np.zeros((len(queries), k), dtype=np.int64)
        if k == 0:
            return scores, positions
        step = max(1, _SCORES_AT_ONCE // num_rows)
        for low in range(0, len(queries), step):
            part = queries[low : low + step]
            near = self._near(part, rows)
            errors = self._scan.error(part, near)
            for i, query in enumerate(part):
                found = _candidates(near[i], k, 2 * float(errors[i]))
                if rows is not None:
                    found = rows[found]
                scores[low + i], positions[low + i] = self._rank(query, found, k)
        return scores, positions

    def _near(
        self, queries: Float32[np.ndarray, "q E"], rows: Int64[np.ndarray, " m"] | None
    ) -> Float32[np.ndarray, "q m"]:
        if rows is None or len(rows) * _GATHER_BELOW < len(self):
            return self._scan.scores(queries, rows)
        some: Float32[np.ndarray, "q m"] = self._scan.scores(queries, None)[:, rows]
        return some

    def _rank(
        self, query: Float32[np.ndarray, " E"], found: Int64[np.ndarray, " c"], k: int
    ) -> tuple[Float32[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
        """Score the candidates in float64, rounded to float32, and keep the best."""
        exact = np.empty(len(found), dtype=np.float32)
        for low in range(0, len(found), _BLOCK * 16):
            part = found[low : low + _BLOCK * 16]
            exact[low : low + len(part)] = inner_products(self.vectors[part], query)
        order = np.lexsort((found, -exact))[:k]
        return exact[order], found[order]

    def _rows(self, allowed: Allowed | None) -> Int64[np.ndarray, " m"] | None:
        if allowed is None:
            return None
        if allowed.dtype != np.bool_:
            rows = np.unique(allowed)
            if len(rows) and (rows[0] < 0 or rows[-1] >= len(self)):
                raise UsageError(
                    f"allowed rows {rows[0]} to {rows[-1]} of {len(self)}; expected 0 to {len(self) - 1}"
                )
            return rows
        if len(allowed) != len(self):
            raise UsageError(f"the mask of allowed rows has {len(allowed)} entries for {len(self)} vectors")
        return np.flatnonzero(allowed)

    def _check(self, queries: Float32[np.ndarray, "q E"], k: int) -> None:
        if k < 1:
            raise UsageError(f"k={k}; ask for at least 1")
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise UsageError(
                f"queries {queries.shape}; expected (q, {self.vectors.shape[1]}) as the vectors are"
            )
        if not np.isfinite(queries).all():
            raise UsageError("a query holds a value that is not finite")


def inner_products(
    rows: Float32[np.ndarray, "c E"], query: Float32[np.ndarray, " E"]
) -> Float64[np.ndarray, " c"]:
    """Inner product of each row with the query in float64: the same for a row in whatever company."""
    products: Float64[np.ndarray, " c"] = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    return products


def _candidates(near: Float32[np.ndarray, " m"], k: int, margin: float) -> Int64[np.ndarray, " c"]:
    """Every place that may be among the k best if scores are off by half the margin.

    k scores reach the k-th greatest of the maxima of blocks, so one cheap pass drops nearly everything.
    """
    places: Int64[np.ndarray, " c"] = np.arange(len(near))
    num_blocks = len(near) // _BLOCK
    if num_blocks > 4 * k:
        maxima = near[: num_blocks * _BLOCK].reshape(num_blocks, _BLOCK).max(axis=1)
        floor = np.partition(maxima, num_blocks - k)[num_blocks - k]
        places = np.flatnonzero(near >= floor - margin)
    kept = near[places]
    floor = np.partition(kept, len(kept) - k)[len(kept) - k]
    best: Int64[np.ndarray, " c"] = places[kept >= floor - margin]
    return best
