"""How relevant a hit is, on one scale for every query: the share of background queries that it beats.

In: a query's scores over a table and a background of other queries. Out: a number in 0..1 for each score.
A cosine means different things for different queries (long texts, other modalities), so a flat threshold
finds everything for one and nothing for another. Here a score becomes z = (score - mean) / deviation over
the rows, as its query sees them, and is compared with the best *wrong* answer of each background query: a
caption of the table, its own group left out. A relevance of 0.95 is reached by one wrong answer in twenty
queries at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sensorium.core.errors import UsageError
from sensorium.core.types import Embedder
from sensorium.search.pool import Hit, Pool

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
    """The best wrong answers of other queries.

    Attributes:
        best: z of each background query's best wrong answer, ascending, (m,).
    """

    best: Float32[np.ndarray, " m"]

    def relevance(
        self, scores: Float32[np.ndarray, " k"], all_scores: Float32[np.ndarray, " n"]
    ) -> Float32[np.ndarray, " k"]:
        """Share of the background that each of `scores` beats.

        Args:
            scores: Cosines of hits.
            all_scores: The same query's cosines with every vector of the table.
        """
        places = np.searchsorted(self.best, _standardise(scores, all_scores), side="left")
        return np.asarray(places / len(self.best), dtype=np.float32)


def check_share(min_score: float | None) -> None:
    """Refuse a least relevance that is none.

    Raises:
        UsageError: If it is not in 0..1.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"min_score={min_score} is a relevance between 0 and 1, as in 0.9")


def keep_relevant(
    query: Float32[np.ndarray, " E"],
    hits: Sequence[Hit],
    pool: Pool | ApproximatePool,
    background: Background,
    min_score: float,
) -> list[Hit]:
    """Give each hit its relevance and keep those that reach `min_score`.

    Args:
        query: Unit vector.
        hits: What was found, best first.
        pool: The vectors that were searched.
        background: Of that pool.
        min_score: Least relevance, 0..1.
    """
    scores = np.array([hit.score for hit in hits], dtype=np.float32)
    shares = background.relevance(scores, pool.sample @ query).tolist()
    judged = [
        replace(hit, relevance=1.0 if hit.is_quote else share)
        for hit, share in zip(hits, shares, strict=True)
    ]
    return [hit for hit in judged if hit.relevance is not None and hit.relevance >= min_score]


def build_background(
    table: Table, pool: Pool | ApproximatePool, model: Embedder, *, seed: int = 0
) -> Background:
    """Ask a table other questions and keep the best wrong answer to each.

    Args:
        table: Whose captions are the background, where the model embedded them; else plain phrases are.
        pool: The vectors that are searched; of an approximate one, the index is asked and a sample stands for
            all.
        model: Embeds the phrases.
        seed: Draws the captions.

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
        raise UsageError("too few rows to tell what is relevant; leave --min-score out")
    return Background(np.sort(np.asarray(best, dtype=np.float32)))


def _best_wrong(
    pool: Pool | ApproximatePool,
    query: Float32[np.ndarray, " E"],
    scores: Float32[np.ndarray, " s"],
    is_wrong: Bool[np.ndarray, " n"],
) -> Float32[np.ndarray, " one"]:
    """Score of the best of the wrong vectors; nothing where all are right."""
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
    """Unit vectors, and the row that each describes (-1: none)."""
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
