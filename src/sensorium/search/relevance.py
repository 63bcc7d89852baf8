"""Relevance of hits on a scale that is comparable between queries, for `min_score`.

Input: a query's scores over a table, and background queries. Output: a relevance in 0..1 for each hit.
Cosines of different queries (long texts, other modalities) are not comparable, so a fixed threshold does not
work. Each score is standardised over the rows, z = (score - mean) / deviation. The relevance is the share of
background queries whose best *wrong* answer has a lower z. Background queries are captions of the table; rows
of their own group are right answers. A wrong answer reaches a relevance of 0.95 in at most 1 of 20 queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sensorium.core.errors import UsageError
from sensorium.core.types import Embedder
from sensorium.search.exact import Pool
from sensorium.search.query import Hit

if TYPE_CHECKING:
    from sensorium.data.table.table import Table
    from sensorium.search.approximate import ApproximatePool

NUM_BACKGROUND = 200
_FEW = 32
_PHRASES = (
    "a person at a desk",
    "a dog in the snow",
    "heavy rain at night",
    "an old wooden door",
    "a plate of food",
    "traffic in a city",
    "the sea at sunset",
    "a child playing",
    "a musical instrument",
    "mountains under clouds",
    "a red car",
    "a map of the world",
    "people at a party",
    "a train arriving",
    "a flower in a garden",
    "a laughing face",
    "a page of a book",
    "a machine in a factory",
    "birds singing",
    "a football match",
    "an empty street",
    "a clock on a wall",
    "a boat on a lake",
    "a computer screen",
    "an insect on a leaf",
    "a tall building",
    "a pair of shoes",
)


@dataclass(frozen=True)
class Background:
    """Best wrong answers of background queries: their z, ascending, (m,)."""

    best: Float32[np.ndarray, " m"]

    def relevance(
        self, scores: Float32[np.ndarray, " k"], all_scores: Float32[np.ndarray, " n"]
    ) -> Float32[np.ndarray, " k"]:
        """Share of the background below each of `scores`.

        Args:
            scores: Cosines of hits.
            all_scores: Cosines of the same query with every vector of the table.
        """
        places = np.searchsorted(self.best, _standardise(scores, all_scores), side="left")
        return np.asarray(places / len(self.best), dtype=np.float32)


def check_min_score(min_score: float | None) -> None:
    """Raise UsageError if a minimum relevance is not in 0..1."""
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"min_score={min_score}; expected a relevance between 0 and 1, such as 0.9")


def keep_relevant(
    query: Float32[np.ndarray, " E"],
    hits: Sequence[Hit],
    pool: Pool | ApproximatePool,
    background: Background,
    min_score: float,
) -> list[Hit]:
    """Set the relevance of each hit, and keep hits of at least `min_score`, 0..1.

    Args:
        query: Unit vector.
        hits: Hits of the query.
        pool: The vectors that were searched.
        background: Background of that pool.
        min_score: Minimum relevance.
    """
    scores = np.array([hit.score for hit in hits], dtype=np.float32)
    kept = []
    for hit, share in zip(hits, background.relevance(scores, pool.sample @ query).tolist(), strict=True):
        relevance = 1.0 if hit.is_phrase_match else share
        if relevance >= min_score:
            kept.append(replace(hit, relevance=relevance))
    return kept


def build_background(
    table: Table, pool: Pool | ApproximatePool, model: Embedder, *, seed: int = 0
) -> Background:
    """Search a table by background queries and keep the best wrong answer of each.

    Args:
        table: Its captions are the background queries if the model embedded them; else built-in phrases.
        pool: The vectors that are searched; statistics of an approximate pool use its random sample.
        model: Embeds the built-in phrases.
        seed: Seed for drawing captions.

    Raises:
        UsageError: If there are too few rows.
    """
    queries, owners = _background_queries(table, model, seed)
    groups = np.unique(np.asarray(table.groups), return_inverse=True)[1]
    pool_groups = groups[pool.rows]
    best = []
    for query, owner in zip(queries, owners, strict=True):
        is_wrong = pool_groups != (groups[owner] if owner >= 0 else -1)
        scores = pool.sample @ query
        wrong = _best_wrong(pool, query, scores, is_wrong)
        if len(wrong):
            best.append(_standardise(wrong, scores)[0])
    if not best:
        raise UsageError("too few rows to compute a relevance; search without --min-score")
    return Background(np.sort(np.asarray(best, dtype=np.float32)))


def _best_wrong(
    pool: Pool | ApproximatePool,
    query: Float32[np.ndarray, " E"],
    scores: Float32[np.ndarray, " s"],
    is_wrong: Bool[np.ndarray, " n"],
) -> Float32[np.ndarray, " one"]:
    """Score of the best wrong vector; empty if there is none."""
    if not is_wrong.any():
        return np.zeros(0, np.float32)
    if isinstance(pool, Pool):
        best: Float32[np.ndarray, " one"] = scores[is_wrong].max(keepdims=True)
        return best
    wanted = _FEW
    while True:
        found, places = (part[0] for part in pool.index.search(query[None], wanted))
        wrong: Float32[np.ndarray, " w"] = found[is_wrong[places]]
        if len(wrong) or wanted >= len(is_wrong):
            return wrong[:1]
        wanted = min(8 * wanted, len(is_wrong))


def _background_queries(
    table: Table, model: Embedder, seed: int
) -> tuple[Float32[np.ndarray, "m E"], Int64[np.ndarray, " m"]]:
    """Unit vectors, and the row that each describes (-1: no row)."""
    if "text" in table.fields_embedded().get(model.fingerprint, []):
        rows, vectors = table.draw_vectors("text", model.fingerprint, NUM_BACKGROUND, seed=seed)
        return vectors, rows
    vectors = model.embed(list(_PHRASES)).vectors
    return vectors, np.full(len(vectors), -1, dtype=np.int64)


def _standardise(
    scores: Float32[np.ndarray, " k"], all_scores: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, " k"]:
    deviation = max(float(all_scores.std()), 1e-6)
    return np.asarray((scores - all_scores.mean()) / deviation, dtype=np.float32)
