"""Recall@k of retrieval by the definition of CLIP_benchmark.

Input: scores or vectors of queries and items, and which are positives of each other. Output: recall@k, its
value by chance, median rank. A query is a hit at k if at least one of its positives is among its k best;
recall@k is the share of hits (CLIP_benchmark, `zeroshot_retrieval`). Of equal scores the lower item ranks
first; CLIP_benchmark leaves ties to `topk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from sensorium.core.errors import UsageError
from sensorium.evals.bootstrap import Interval, bootstrap_interval

KS = (1, 5, 10)
_SCORES_AT_ONCE = 16_000_000


@dataclass(frozen=True)
class Retrieval:
    """Result of `evaluate_retrieval` for one direction.

    Attributes:
        recall: Recall@k with its 95 % interval, by k.
        chance: Expected recall@k of a random order, by k.
        median_rank: Median over queries of the rank of the best positive; 1 is best.
        num_queries: Queries with a positive; the others are skipped.
        num_items: Number of items.
    """

    recall: dict[int, Interval]
    chance: dict[int, float]
    median_rank: float
    num_queries: int
    num_items: int


def evaluate_retrieval(
    queries: Float[np.ndarray, "q E"],
    items: Float[np.ndarray, "m E"],
    query_groups: Int64[np.ndarray, " q"],
    item_groups: Int64[np.ndarray, " m"],
    ks: Sequence[int] = KS,
    *,
    seed: int = 0,
) -> Retrieval:
    """Evaluate one direction; swap queries and items for the other.

    Args:
        queries: Unit vectors.
        items: Unit vectors.
        query_groups: A query and an item with equal group numbers are positives of each other.
        item_groups: See `query_groups`.
        ks: Values of k.
        seed: Seed of the bootstrap, which resamples whole groups of queries.

    Raises:
        UsageError: If no query has a positive, or a score is not finite.
    """
    ranks = best_ranks(queries, items, query_groups, item_groups)
    counts = _num_positives(query_groups, item_groups)
    has_any = counts > 0
    if not has_any.any():
        raise UsageError(
            f"none of {len(queries)} queries has a positive among {len(items)} items; check the groups"
        )
    ranks, groups = ranks[has_any], query_groups[has_any]
    return Retrieval(
        recall={k: bootstrap_interval(ranks < k, groups=groups, seed=seed) for k in ks},
        chance={k: chance_at(counts[has_any], len(items), k) for k in ks},
        median_rank=float(np.median(ranks + 1)),
        num_queries=len(ranks),
        num_items=len(items),
    )


def recall_at(
    scores: Float[np.ndarray, "q m"], positives: Bool[np.ndarray, "q m"], ks: Sequence[int] = KS
) -> dict[int, float]:
    """Share of queries with at least one positive among the k best; queries without positives are skipped.

    Args:
        scores: Score of each query (row) with each item (column).
        positives: True = the item is a positive of the query.
        ks: Values of k.

    Example:
        >>> scores = np.array([[0.9, 0.5, 0.5], [0.2, 0.8, 0.8]])
        >>> recall_at(scores, np.array([[0, 1, 0], [0, 0, 1]], dtype=bool), ks=[1, 2])
        {1: 0.0, 2: 1.0}
    """
    ranks = ranks_of(scores, positives)[positives.any(axis=1)]
    return {k: float(np.mean(ranks < k)) for k in ks}


def ranks_of(scores: Float[np.ndarray, "q m"], positives: Bool[np.ndarray, "q m"]) -> Int64[np.ndarray, " q"]:
    """Rank, from 0, of the best positive of each query; the number of items if it has none.

    Raises:
        UsageError: If the shapes differ or a score is not finite.
    """
    if scores.shape != positives.shape:
        raise UsageError(f"scores {scores.shape} and positives {positives.shape}; expected equal shapes")
    if not np.isfinite(scores).all():
        raise UsageError("a score is not finite; check the vectors")
    if scores.shape[1] == 0:
        return np.zeros(len(scores), dtype=np.int64)
    among = np.where(positives, scores, -np.inf)
    best = among.argmax(axis=1)  # the first of equal positives
    top = among[np.arange(len(scores)), best][:, None]
    is_before = (scores > top) | ((scores == top) & (np.arange(scores.shape[1]) < best[:, None]))
    ranks: Int64[np.ndarray, " q"] = np.where(positives.any(axis=1), is_before.sum(axis=1), scores.shape[1])
    return ranks


def best_ranks(
    queries: Float[np.ndarray, "q E"],
    items: Float[np.ndarray, "m E"],
    query_groups: Int64[np.ndarray, " q"],
    item_groups: Int64[np.ndarray, " m"],
) -> Int64[np.ndarray, " q"]:
    """`ranks_of` for vectors, a few queries at a time, so that not all scores are in memory at once."""
    ranks = np.empty(len(queries), dtype=np.int64)
    step = max(1, _SCORES_AT_ONCE // max(1, len(items)))
    for low in range(0, len(queries), step):
        part = slice(low, low + step)
        ranks[part] = ranks_of(queries[part] @ items.T, query_groups[part, None] == item_groups)
    return ranks


def chance_at(num_positives: Int64[np.ndarray, " q"], num_items: int, k: int) -> float:
    """Exact expected recall@k of a random order: mean over queries of 1 - C(M - P, k) / C(M, k).

    Example:
        >>> chance_at(np.array([1, 2]), num_items=10, k=5)  # (1/2 + (1 - 5/10 * 4/9)) / 2
        0.6388888888888888
    """
    k = min(k, num_items)
    drawn = np.arange(k)
    left: Float64[np.ndarray, "q k"] = (num_items - num_positives[:, None] - drawn) / (num_items - drawn)
    return float(np.mean(1 - np.prod(np.clip(left, 0, None), axis=1)))


def _num_positives(
    query_groups: Int64[np.ndarray, " q"], item_groups: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, " q"]:
    ordered = np.sort(item_groups)
    after = np.searchsorted(ordered, query_groups, side="right")
    counts: Int64[np.ndarray, " q"] = after - np.searchsorted(ordered, query_groups, side="left")
    return counts
