"""Deduplication by equal keys, by perceptual hash and by embedding.

Input: one key, hash or vector per row, the preferred row first. Output: for each row the position of the kept
row that it duplicates, or its own position. Greedy: a row is dropped only if it is near a row that is kept,
never along a chain a ~ b ~ c.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from sensorium.core.errors import UsageError

MAX_DISTANCE = 16
"""At larger distances, 64-bit hashes of unrelated images match."""

_BLOCK = 1024


def same_key(keys: Sequence[Hashable]) -> Int64[np.ndarray, " n"]:
    """For each key the position of its first occurrence.

    Example:
        >>> same_key(["a", "b", "a"]).tolist()
        [0, 1, 0]
    """
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, index) for index, key in enumerate(keys)], dtype=np.int64)


def near_hash(hashes: Int64[np.ndarray, " n"], max_distance: int) -> Int64[np.ndarray, " n"]:
    """For each 64-bit hash the position of the kept hash within `max_distance` bits, or its own.

    Uses multi-index hashing (Norouzi et al., arXiv:1307.2982, section 3): hashes within distance d share at
    least one of d + 1 substrings, so only rows that share a substring are compared.

    Raises:
        UsageError: If the distance is not 0 to 16.

    Example:
        >>> near_hash(np.array([0b0000, 0b1111, 0b0001]), 1).tolist()
        [0, 1, 0]
    """
    if not 0 <= max_distance <= MAX_DISTANCE:
        raise UsageError(f"distance {max_distance} is out of range; expected 0 to {MAX_DISTANCE} of 64 bits")
    codes, first, inverse = np.unique(hashes.view(np.uint64), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    kept = np.arange(len(codes))
    left, right = _near_pairs(codes[order], max_distance)
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        if kept[one] == one and kept[other] == other:
            kept[other] = one
    return first[order][kept][rank[inverse.reshape(-1)]].astype(np.int64)


def near_vector(vectors: Float32[np.ndarray, "n E"], min_cosine: float) -> Int64[np.ndarray, " n"]:
    """For each unit vector the position of a kept one whose cosine is at least `min_cosine`, or its own.

    Time: n times the number of kept rows. Memory: the vectors and one block of similarities.

    Example:
        >>> near_vector(np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32), 0.75).tolist()
        [0, 1, 0]
    """
    num_rows = len(vectors)
    result = np.arange(num_rows)
    kept_rows = np.empty(num_rows, dtype=np.int64)
    kept = np.empty_like(vectors)
    num_kept = 0
    for start in range(0, num_rows, _BLOCK):
        block = vectors[start : start + _BLOCK]
        fresh = np.arange(len(block))
        if num_kept:
            cosines = block @ kept[:num_kept].T
            best = cosines.argmax(axis=1)
            is_near = cosines[fresh, best] >= min_cosine
            result[start + fresh[is_near]] = kept_rows[best[is_near]]
            fresh = fresh[~is_near]
        chosen = _within(block[fresh], min_cosine)
        result[start + fresh] = start + fresh[chosen]
        new = fresh[chosen == np.arange(len(fresh))]
        kept[num_kept : num_kept + len(new)] = block[new]
        kept_rows[num_kept : num_kept + len(new)] = start + new
        num_kept += len(new)
    return result


def _within(block: Float32[np.ndarray, "b E"], min_cosine: float) -> Int64[np.ndarray, " b"]:
    """`near_vector` within one block; loops only over rows that are near an earlier one."""
    chosen = np.arange(len(block))
    is_near = np.tril(block @ block.T >= min_cosine, k=-1)
    for row in np.flatnonzero(is_near.any(axis=1)):
        before = np.flatnonzero(is_near[row])
        heads = before[chosen[before] == before]
        if len(heads):
            chosen[row] = heads[0]
    return chosen


def _near_pairs(
    codes: UInt64[np.ndarray, " u"], max_distance: int
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    """Pairs (i < j) within the distance, sorted by j, then i."""
    found = [np.zeros(0, dtype=np.int64)]
    edges = np.linspace(0, 64, max_distance + 2).astype(np.int64)
    for low, high in itertools.pairwise(edges):
        mask = np.uint64((1 << int(high - low)) - 1)
        keys = (codes >> np.uint64(low)) & mask
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        active = np.arange(len(codes) - 1)
        step = 1
        while len(active):
            active = active[active + step < len(codes)]
            active = active[keys[active] == keys[active + step]]
            left, right = order[active], order[active + step]
            is_near = _popcount(codes[left] ^ codes[right]) <= max_distance
            found.append(right[is_near] * len(codes) + left[is_near])
            step += 1
    pairs = np.unique(np.concatenate(found))
    return pairs % max(len(codes), 1), pairs // max(len(codes), 1)


def _popcount(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Number of set bits, by adding neighbours in parallel."""
    for shift, mask in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        low = np.uint64(mask)
        values = (values & low) + ((values >> np.uint64(shift)) & low)
    return (values * np.uint64(0x0101010101010101)) >> np.uint64(56)
