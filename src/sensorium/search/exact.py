"""Exact nearest-neighbour search over a matrix of vectors, and over the vectors of a table.

`ExactIndex`: input are vectors, queries, k and a filter; output are the k rows of greatest inner product and
these products. It scans the matrix once in fp32, bf16 or int8. Every row that could be among the k best,
given a proven error bound of that format, is scored again in float64. So the result does not depend on the
format, threads, block sizes or the number of queries. Equal scores are ordered by position.

`Pool`: the vectors of several fields of a table in one index. The score of a row is the greatest cosine of
its vectors. By default image, video and audio vectors are searched; text and speech vectors are searched only
for rows without these. Otherwise captions would outrank all images, since captions are nearer to text
queries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int8, Int16, Int64

from sensorium.core import jit
from sensorium.core.errors import UsageError
from sensorium.core.types import FIELDS
from sensorium.search.embedding_log import no_vectors

if TYPE_CHECKING:
    from sensorium.data.table.table import Table
    from sensorium.search.approximate import ApproximatePool

Allowed = Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]
"""True for each row that may be found, or the numbers of those rows."""

INT8_FROM = 100_000
"""Number of vectors from which int8 is the default format, since it is faster there."""
SHOWN = frozenset({"image", "video", "audio"})
"""Fields with the medium itself; `text` and `speech` are captions of it."""
_GATHER_BELOW = 8
"""If fewer than 1 in this many rows are allowed, they are gathered before the scan; else all are scanned."""
_SCORES_AT_ONCE = 16_000_000
_BLOCK = 256
_GATHER_ROWS = 65_536
"""Rows gathered at a time: 128 MiB at width 512."""
_CODE_ROWS = 2048
"""Rows converted to codes at a time: 4 MiB at width 512, which fit the cache."""
_FP32_UNIT, _BF16_UNIT = 2.0**-24, 2.0**-9


class ExactIndex:
    """Index for the k nearest of n vectors.

    A million vectors of width 512 take 2 GB as `fp32`. `int8` scans 0.5 GB instead and is the fastest for
    single queries, since the scan is bound by memory. Computing the codes costs about one pass over the rows.
    Candidates are scored with the float32 rows, which may be a memory map.

    Attributes:
        vectors: The matrix, (n, E), not copied.
        dtype: Number format of the scan: `fp32`, `bf16` or `int8`; default `int8` from 100,000 rows.

    Example:
        >>> index = ExactIndex(np.eye(5, dtype=np.float32)[[0, 1, 2, 1]])
        >>> scores, positions = index.search(np.eye(5, dtype=np.float32)[[1]], k=3)
        >>> positions.tolist(), scores.tolist()
        ([[1, 3, 0]], [[1.0, 1.0, 0.0]])
    """

    def __init__(self, vectors: Float32[np.ndarray, "n E"], dtype: str | None = None) -> None:
        self.vectors = vectors
        self.dtype = dtype or ("fp32" if len(vectors) < INT8_FROM else "int8")
        self._scan = _scan_of(vectors, self.dtype)

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
            k: Number of rows; fewer are returned if fewer exist or are allowed.
            allowed: Which rows may be found; None: all.

        Returns:
            Scores, best first, and positions. Equal scores are ordered by position.

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
        """Score candidates in float64, round to float32, and keep the k best."""
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


@dataclass(frozen=True)
class Pool:
    """Vectors of several fields of a table, concatenated.

    Attributes:
        rows: Row of each vector, (n,).
        fields: Field of each vector, as an index into `FIELDS`, (n,).
        index: Index of the unit vectors, (n, E).
    """

    rows: Int64[np.ndarray, " n"]
    fields: Int64[np.ndarray, " n"]
    index: ExactIndex

    @property
    def sample(self) -> Float32[np.ndarray, "s E"]:
        """Vectors for statistics of scores: all of them."""
        return self.index.vectors


def gather(table: Table, fingerprint: str, fields: Sequence[str] | None) -> Pool:
    """Read the vectors that a search compares with.

    Args:
        table: Holds the vectors.
        fingerprint: Fingerprint of the model.
        fields: Fields to search. None: image, video and audio, and captions of rows without these.

    Raises:
        UsageError: If a field is unknown.
        NotFoundError: If the model has not embedded one of the fields, or no row at all.
    """
    unknown = [name for name in fields or () if name not in FIELDS]
    if unknown:
        raise UsageError(f"no field '{unknown[0]}'; known: {', '.join(FIELDS)}")
    embedded = table.fields_embedded().get(fingerprint, [])
    chosen = [name for name in FIELDS if name in (embedded if fields is None else fields)]
    missing = sorted(set(chosen) - set(embedded)) if chosen else ["anything"]
    if missing:
        raise no_vectors(table, f"no vectors of {missing[0]} by this model ({fingerprint})")
    parts = {name: table.vectors(name, fingerprint) for name in chosen}
    if fields is None:
        shown = np.concatenate([np.zeros(0, np.int64), *(parts[name][0] for name in SHOWN & set(parts))])
        for name in set(parts) - SHOWN:
            rows, vectors = parts[name]
            is_alone = ~np.isin(rows, shown)
            parts[name] = (rows[is_alone], vectors[is_alone])
    if not any(len(rows) for rows, _ in parts.values()):
        raise no_vectors(table, f"no vectors of any row by this model ({fingerprint})")
    return Pool(
        rows=np.concatenate([rows for rows, _ in parts.values()]),
        fields=np.concatenate([np.full(len(rows), FIELDS.index(name)) for name, (rows, _) in parts.items()]),
        index=ExactIndex(np.concatenate([vectors for _, vectors in parts.values()])),
    )


def best_rows(
    pool: Pool | ApproximatePool,
    query: Float32[np.ndarray, " E"],
    k: int,
    allowed: Bool[np.ndarray, " n"] | None = None,
) -> list[tuple[int, float, str]]:
    """The k best rows: number, score and field of the best vector; equal scores are ordered by row.

    Args:
        pool: Vectors of a table.
        query: Unit vector.
        k: Number of rows.
        allowed: True = this vector may be found.
    """
    wanted = k
    while True:
        scores, found = (part[0] for part in pool.index.search(query[None], wanted, allowed))
        rows, first = np.unique(pool.rows[found], return_index=True)
        if len(rows) >= k or len(found) < wanted:
            break
        wanted *= 4
    order = first[np.lexsort((rows, -scores[first]))][:k]
    return [(int(pool.rows[found[i]]), float(scores[i]), FIELDS[pool.fields[found[i]]]) for i in order]


def _scan_of(vectors: Float32[np.ndarray, "n E"], dtype: str) -> _Fp32 | _Bf16 | _Int8:
    """Prepare a matrix for scanning in `fp32` (no copy), `bf16` (half the size) or `int8` (a quarter).

    `scores` of the result approximates inner products with all or some rows; `error` bounds the difference.
    """
    kinds: dict[str, type[_Fp32 | _Bf16 | _Int8]] = {"fp32": _Fp32, "bf16": _Bf16, "int8": _Int8}
    if dtype not in kinds:
        raise UsageError(f"index dtype '{dtype}' is unknown; use one of {', '.join(kinds)}")
    return kinds[dtype](vectors)


def inner_products(
    rows: Float32[np.ndarray, "c E"], query: Float32[np.ndarray, " E"]
) -> Float64[np.ndarray, " c"]:
    """Inner product of each row with the query in float64; independent of the other rows."""
    products: Float64[np.ndarray, " c"] = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    return products


def _candidates(near: Float32[np.ndarray, " m"], k: int, margin: float) -> Int64[np.ndarray, " c"]:
    """Positions that may be among the k best if the error of scores is up to half the margin.

    At least k scores reach the k-th greatest block maximum, so one cheap pass removes nearly all positions.
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


class _Fp32:
    """The matrix itself; products by BLAS."""

    def __init__(self, vectors: Float32[np.ndarray, "n E"]) -> None:
        self._vectors = vectors
        self._max_norm = max((_max_norm(block) for _, block in _blocks(vectors)), default=0.0)

    def scores(
        self, queries: Float32[np.ndarray, "q E"], rows: Int64[np.ndarray, " m"] | None
    ) -> Float32[np.ndarray, "q m"]:
        if rows is not None:
            return _by_blocks(rows, lambda part: queries @ self._vectors[part].T, len(queries))
        product: Float32[np.ndarray, "q m"] = queries @ self._vectors.T
        return product

    def error(
        self, queries: Float32[np.ndarray, "q E"], scores: Float32[np.ndarray, "q m"]
    ) -> Float64[np.ndarray, " q"]:
        return _rounding(queries.shape[1]) * self._max_norm * _norms(queries)


class _Bf16:
    """Rows rounded to bfloat16; products by PyTorch."""

    def __init__(self, vectors: Float32[np.ndarray, "n E"]) -> None:
        self._codes = torch.empty(vectors.shape, dtype=torch.bfloat16)
        self._max_norm = self._code_error = 0.0
        for place, block in _blocks(vectors):
            self._codes[place] = torch.from_numpy(block)
            self._max_norm = max(self._max_norm, _max_norm(block))
            self._code_error = max(self._code_error, _max_norm(block - self._codes[place].float().numpy()))

    def scores(
        self, queries: Float32[np.ndarray, "q E"], rows: Int64[np.ndarray, " m"] | None
    ) -> Float32[np.ndarray, "q m"]:
        coded = torch.tensor(queries).bfloat16()
        if rows is None:
            product: Float32[np.ndarray, "q m"] = torch.mm(coded, self._codes.T).float().numpy()
            return product
        return _by_blocks(
            rows,
            lambda part: torch.mm(coded, self._codes[torch.tensor(part)].T).float().numpy(),
            len(queries),
        )

    def error(
        self, queries: Float32[np.ndarray, "q E"], scores: Float32[np.ndarray, "q m"]
    ) -> Float64[np.ndarray, " q"]:
        coded = torch.tensor(queries).bfloat16().float().numpy()
        by_rounding = (_rounding(queries.shape[1]) * self._max_norm + self._code_error) * _norms(coded)
        by_query = self._max_norm * _norms(queries - coded)
        highest = np.abs(scores).max(axis=1, initial=0).astype(np.float64)
        bound: Float64[np.ndarray, " q"] = 1.01 * (by_rounding + by_query + 2 * _BF16_UNIT * highest)
        return bound


class _Int8:
    """Rows as int8 codes with one scale each, queries as int16 codes; exact integer sums by numba."""

    def __init__(self, vectors: Float32[np.ndarray, "n E"]) -> None:
        self._codes = np.empty(vectors.shape, dtype=np.int8)
        self._scales = np.empty(len(vectors), dtype=np.float32)
        self._max_norm = self._code_error = 0.0
        # The greatest range of query codes whose sum over E products fits in 32 bits.
        self._query_limit = min(2**15 - 1, (2**31 - 1) // (127 * max(1, vectors.shape[1])))
        _kernel()  # compile now, not at the first query
        for place, block in _blocks(vectors):
            scales = np.maximum(np.abs(block).max(axis=1), np.float32(1e-30)) / np.float32(127)
            codes = np.rint(block / scales[:, None])
            self._codes[place], self._scales[place] = codes, scales
            self._max_norm = max(self._max_norm, _max_norm(block))
            codes *= scales[:, None]
            self._code_error = max(self._code_error, _max_norm(np.subtract(block, codes, out=codes)))

    def scores(
        self, queries: Float32[np.ndarray, "q E"], rows: Int64[np.ndarray, " m"] | None
    ) -> Float32[np.ndarray, "q m"]:
        coded, query_scales = self._quantise(queries)
        if rows is not None:
            return _by_blocks(
                rows,
                lambda part: _sums(self._codes[part], self._scales[part], coded, query_scales),
                len(queries),
            )
        return _sums(self._codes, self._scales, coded, query_scales)

    def error(
        self, queries: Float32[np.ndarray, "q E"], scores: Float32[np.ndarray, "q m"]
    ) -> Float64[np.ndarray, " q"]:
        coded, scales = self._quantise(queries)
        by_query = self._max_norm * _norms(queries - coded * scales[:, None])
        bound: Float64[np.ndarray, " q"] = 1.01 * (
            (self._code_error + 8 * _FP32_UNIT * self._max_norm) * _norms(queries) + by_query
        )
        return bound

    def _quantise(
        self, queries: Float32[np.ndarray, "q E"]
    ) -> tuple[Int16[np.ndarray, "q E"], Float32[np.ndarray, " q"]]:
        scales = np.maximum(np.abs(queries).max(axis=1, initial=0), np.float32(1e-30)) / np.float32(
            self._query_limit
        )
        return np.rint(queries / scales[:, None]).astype(np.int16), scales


def _sums(
    codes: Int8[np.ndarray, "m E"],
    scales: Float32[np.ndarray, " m"],
    queries: Int16[np.ndarray, "q E"],
    query_scales: Float32[np.ndarray, " q"],
) -> Float32[np.ndarray, "q m"]:
    """Products of codes on all cores, by own threads: numba's thread pool is not re-entrant."""
    out = np.empty((len(queries), len(codes)), dtype=np.float32)
    num_threads = min(torch.get_num_threads(), max(1, len(codes) // 4096))
    edges = np.linspace(0, len(codes), num_threads + 1).astype(int).tolist()

    def scan(low: int, high: int) -> None:
        _kernel()(codes[low:high], scales[low:high], queries, query_scales, out[:, low:high])

    if num_threads == 1:
        scan(0, len(codes))
        return out
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(scan, edges[:-1], edges[1:]))
    return out


@functools.cache
def _kernel() -> Callable[..., None]:
    signature = "void(int8[:, ::1], f[::1], int16[:, ::1], f[::1], f[:, :])"
    return jit.compiled(_integer_products, signature, np.dtype(np.float32))


def _integer_products(codes, scales, queries, query_scales, out):  # type: ignore[no-untyped-def]
    for row in range(codes.shape[0]):
        for query in range(queries.shape[0]):
            total = np.int32(0)
            for i in range(codes.shape[1]):
                total += np.int32(codes[row, i]) * np.int32(queries[query, i])
            out[query, row] = np.float32(total) * scales[row] * query_scales[query]


def _by_blocks(
    rows: Int64[np.ndarray, " m"], products: Callable[[Int64[np.ndarray, " b"]], np.ndarray], num_queries: int
) -> Float32[np.ndarray, "q m"]:
    """Products with some rows, gathered a block at a time."""
    out = np.empty((num_queries, len(rows)), dtype=np.float32)
    for low in range(0, len(rows), _GATHER_ROWS):
        part = rows[low : low + _GATHER_ROWS]
        out[:, low : low + len(part)] = products(part)
    return out


def _blocks(vectors: Float32[np.ndarray, "n E"]) -> Iterator[tuple[slice, Float32[np.ndarray, "b E"]]]:
    """Yield copies of the matrix a block at a time; refuse values that are not finite."""
    for low in range(0, len(vectors), _CODE_ROWS):
        place = slice(low, min(low + _CODE_ROWS, len(vectors)))
        block = np.array(vectors[place])
        if not np.isfinite(_max_norm(block)):
            raise UsageError(
                f"vectors {low} to {place.stop - 1} hold a value that is not finite; drop those rows"
            )
        yield place, block


def _norms(rows: Float32[np.ndarray, "q E"]) -> Float64[np.ndarray, " q"]:
    norms: Float64[np.ndarray, " q"] = np.sqrt(np.einsum("ij,ij->i", rows, rows).astype(np.float64))
    return norms


def _max_norm(rows: Float32[np.ndarray, "b E"]) -> float:
    return float(_norms(rows).max(initial=0))


def _rounding(width: int) -> float:
    """Relative error of a float32 sum of products in any order (Higham, section 3.1), doubled."""
    return 2 * (width + 2) * _FP32_UNIT
