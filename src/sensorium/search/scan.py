"""Fast products of queries with all rows of a matrix, with a proven bound on their error.

In: a float32 matrix, kept as float32, bfloat16 or int8 codes. Out: scores that differ from the true inner
product by no more than `error`, so that whoever picks candidates by them can prove that none is missed. It
does not know about k, filters or ties.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int8, Int16, Int64

from sensorium.core.errors import UsageError

GATHER_ROWS = 65_536
"""Rows gathered at a time where some are scanned: 128 MiB at 512 wide."""
CODE_ROWS = 2048
"""Rows coded at a time: 4 MiB at 512 wide, which stay in the cache."""

_FP32_UNIT, _BF16_UNIT = 2.0**-24, 2.0**-9


@runtime_checkable
class Scan(Protocol):
    """All rows in one number format."""

    def scores(
        self, queries: Float32[np.ndarray, "q E"], rows: Int64[np.ndarray, " m"] | None
    ) -> Float32[np.ndarray, "q m"]:
        """Nearly the inner product of each query with each of the rows (all of them: None)."""

    def error(
        self, queries: Float32[np.ndarray, "q E"], scores: Float32[np.ndarray, "q m"]
    ) -> Float64[np.ndarray, " q"]:
        """No score of a query is further than this from the true inner product."""


def scan_of(vectors: Float32[np.ndarray, "n E"], dtype: str) -> Scan:
    """Prepare a matrix for scanning in `fp32` (no copy), `bf16` (half the size) or `int8` (a quarter).

    Raises:
        UsageError: If the format is unknown or a row is not finite.
    """
    kinds: dict[str, type[_Fp32 | _Bf16 | _Int8]] = {"fp32": _Fp32, "bf16": _Bf16, "int8": _Int8}
    if dtype not in kinds:
        raise UsageError(f"index dtype '{dtype}' is unknown; use one of {', '.join(kinds)}")
    return kinds[dtype](vectors)


class _Fp32:
    """The matrix itself; one product by BLAS."""

    def __init__(self, vectors: Float32[np.ndarray, "n E"]) -> None:
        self._vectors = vectors
        self._longest = max((_longest(block) for _, block in _blocks(vectors)), default=0.0)

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
        return _rounding(queries.shape[1]) * self._longest * _lengths(queries)


class _Bf16:
    """Rows rounded to bfloat16; products by torch."""

    def __init__(self, vectors: Float32[np.ndarray, "n E"]) -> None:
        self._codes = torch.empty(vectors.shape, dtype=torch.bfloat16)
        self._longest = self._lost = 0.0
        for place, block in _blocks(vectors):
            self._codes[place] = torch.from_numpy(block)
            self._longest = max(self._longest, _longest(block))
            self._lost = max(self._lost, _longest(block - self._codes[place].float().numpy()))

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
        by_rounding = (_rounding(queries.shape[1]) * self._longest + self._lost) * _lengths(coded)
        by_query = self._longest * _lengths(queries - coded)
        highest = np.abs(scores).max(axis=1, initial=0).astype(np.float64)
        bound: Float64[np.ndarray, " q"] = 1.01 * (by_rounding + by_query + 2 * _BF16_UNIT * highest)
        return bound


class _Int8:
    """Rows as 8-bit codes with a scale each, queries as 16-bit codes; exact integer sums by numba."""

    def __init__(self, vectors: Float32[np.ndarray, "n E"]) -> None:
        self._codes = np.empty(vectors.shape, dtype=np.int8)
        self._steps = np.empty(len(vectors), dtype=np.float32)
        self._longest = self._lost = 0.0
        # The greatest range of query codes whose sum over E products still fits in 32 bits.
        self._query_limit = min(2**15 - 1, (2**31 - 1) // (127 * max(1, vectors.shape[1])))
        _kernel()  # compiled now if it never was on this machine, not at the first query
        for place, block in _blocks(vectors):
            steps = np.maximum(np.abs(block).max(axis=1), np.float32(1e-30)) / np.float32(127)
            codes = np.rint(block / steps[:, None])
            self._codes[place], self._steps[place] = codes, steps
            self._longest = max(self._longest, _longest(block))
            codes *= steps[:, None]
            self._lost = max(self._lost, _longest(np.subtract(block, codes, out=codes)))

    def scores(
        self, queries: Float32[np.ndarray, "q E"], rows: Int64[np.ndarray, " m"] | None
    ) -> Float32[np.ndarray, "q m"]:
        coded, query_steps = self._code(queries)
        if rows is not None:
            return _by_blocks(
                rows,
                lambda part: _sums(self._codes[part], self._steps[part], coded, query_steps),
                len(queries),
            )
        return _sums(self._codes, self._steps, coded, query_steps)

    def error(
        self, queries: Float32[np.ndarray, "q E"], scores: Float32[np.ndarray, "q m"]
    ) -> Float64[np.ndarray, " q"]:
        coded, steps = self._code(queries)
        by_query = self._longest * _lengths(queries - coded * steps[:, None])
        bound: Float64[np.ndarray, " q"] = 1.01 * (
            (self._lost + 8 * _FP32_UNIT * self._longest) * _lengths(queries) + by_query
        )
        return bound

    def _code(
        self, queries: Float32[np.ndarray, "q E"]
    ) -> tuple[Int16[np.ndarray, "q E"], Float32[np.ndarray, " q"]]:
        steps = np.maximum(np.abs(queries).max(axis=1, initial=0), np.float32(1e-30)) / np.float32(
            self._query_limit
        )
        return np.rint(queries / steps[:, None]).astype(np.int16), steps


def _sums(
    codes: Int8[np.ndarray, "m E"],
    steps: Float32[np.ndarray, " m"],
    queries: Int16[np.ndarray, "q E"],
    query_steps: Float32[np.ndarray, " q"],
) -> Float32[np.ndarray, "q m"]:
    """Products of codes on all cores, by threads of our own: numba's may not be entered from two at once."""
    out = np.empty((len(queries), len(codes)), dtype=np.float32)
    num_threads = min(torch.get_num_threads(), max(1, len(codes) // 4096))
    edges = np.linspace(0, len(codes), num_threads + 1).astype(int).tolist()

    def scan(low: int, high: int) -> None:
        _kernel()(codes[low:high], steps[low:high], queries, query_steps, out[:, low:high])

    if num_threads == 1:
        scan(0, len(codes))
        return out
    with ThreadPoolExecutor(num_threads) as pool:
        for job in [pool.submit(scan, low, high) for low, high in pairwise(edges)]:
            job.result()
    return out


@functools.cache
def _kernel() -> Callable[..., None]:
    """The loop below as machine code, kept on disk; only int8 needs numba, so only it imports it."""
    import numba

    # Unwrapped: under test the import hook wraps functions in type checks, which numba cannot compile.
    signature = "void(int8[:, ::1], float32[::1], int16[:, ::1], float32[::1], float32[:, :])"
    kernel: Callable[..., None] = numba.njit(signature, nogil=True, cache=True)(
        inspect.unwrap(_integer_products)
    )
    return kernel


def _integer_products(codes, steps, queries, query_steps, out):  # type: ignore[no-untyped-def]
    for row in range(codes.shape[0]):
        for query in range(queries.shape[0]):
            total = np.int32(0)
            for i in range(codes.shape[1]):
                total += np.int32(codes[row, i]) * np.int32(queries[query, i])
            out[query, row] = np.float32(total) * steps[row] * query_steps[query]


def _by_blocks(
    rows: Int64[np.ndarray, " m"], products: Callable[[Int64[np.ndarray, " b"]], np.ndarray], num_queries: int
) -> Float32[np.ndarray, "q m"]:
    """Products with some rows, which are gathered a block at a time."""
    out = np.empty((num_queries, len(rows)), dtype=np.float32)
    for low in range(0, len(rows), GATHER_ROWS):
        part = rows[low : low + GATHER_ROWS]
        out[:, low : low + len(part)] = products(part)
    return out


def _blocks(vectors: Float32[np.ndarray, "n E"]) -> Iterator[tuple[slice, Float32[np.ndarray, "b E"]]]:
    """The matrix a block at a time, copied, checked to be finite."""
    for low in range(0, len(vectors), CODE_ROWS):
        place = slice(low, min(low + CODE_ROWS, len(vectors)))
        block = np.array(vectors[place])
        if not np.isfinite(_longest(block)):
            raise UsageError(
                f"vectors {low} to {place.stop - 1} hold a value that is not finite; drop those rows"
            )
        yield place, block


def _lengths(rows: Float32[np.ndarray, "q E"]) -> Float64[np.ndarray, " q"]:
    lengths: Float64[np.ndarray, " q"] = np.sqrt(np.einsum("ij,ij->i", rows, rows).astype(np.float64))
    return lengths


def _longest(rows: Float32[np.ndarray, "b E"]) -> float:
    return float(_lengths(rows).max(initial=0))


def _rounding(width: int) -> float:
    """Relative error of a float32 sum of products in any order (Higham, section 3.1), doubled."""
    return 2 * (width + 2) * _FP32_UNIT
