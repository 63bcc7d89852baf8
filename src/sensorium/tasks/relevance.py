"""How relevant a hit is, on one scale for every query: the share of background queries that it beats.

In: a query's scores over a table and a background of other queries. Out: a number in 0..1 for each score.
A cosine means different things for different queries (long texts, other modalities), so a flat threshold
finds everything for one and nothing for another. Here a score becomes z = (score - mean) / deviation over
the rows, as its query sees them, and is compared with the best *wrong* answer of each background query: a
caption of the table, its own group left out. A relevance of 0.95 is reached by one wrong answer in twenty
queries at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from sensorium.core.errors import UsageError
from sensorium.core.types import Embedder
from sensorium.data.query import Pool
from sensorium.data.table import Table

NUM_BACKGROUND = 200
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


def build_background(
    table: Table, pool: Pool, model: Embedder | None, *, fingerprint: str, seed: int = 0
) -> Background:
    """Ask a table other questions and keep the best wrong answer to each.

    Args:
        table: Whose captions are the background, where the model embedded them; else plain phrases are.
        pool: The vectors that are searched.
        model: Embeds the phrases; may be None where captions are embedded.
        fingerprint: Of the model.
        seed: Draws the captions.

    Raises:
        UsageError: If there are no captions and no model.
    """
    queries, owners = _background_queries(table, model, fingerprint, seed)
    groups = np.unique(np.asarray(table.groups), return_inverse=True)[1]
    pool_groups = groups[pool.rows]
    best = []
    for query, owner in zip(queries, owners, strict=True):
        scores = pool.index.vectors @ query
        wrong = scores[pool_groups != groups[owner]] if owner >= 0 else scores
        if len(wrong):
            best.append(_standardise(wrong.max(keepdims=True), scores)[0])
    if not best:
        raise UsageError("too few rows to tell what is relevant; leave --min-score out")
    return Background(np.sort(np.asarray(best, dtype=np.float32)))


def _background_queries(
    table: Table, model: Embedder | None, fingerprint: str, seed: int
) -> tuple[Float32[np.ndarray, "m E"], Int64[np.ndarray, " m"]]:
    """Unit vectors, and the row that each describes (-1: none)."""
    if "text" in table.fields_embedded().get(fingerprint, []):
        rows, vectors = table.vectors("text", fingerprint)
        chosen = np.random.default_rng(seed).permutation(len(rows))[:NUM_BACKGROUND]
        return vectors[chosen], rows[chosen]
    if model is None:
        raise UsageError(
            "--min-score needs a background of texts; give --model RUN, or embed the table's texts"
        )
    vectors = model.embed(list(_PHRASES)).vectors
    return vectors, np.full(len(vectors), -1, dtype=np.int64)


def _standardise(
    scores: Float32[np.ndarray, " k"], all_scores: Float32[np.ndarray, " n"]
) -> Float32[np.ndarray, " k"]:
    deviation = max(float(all_scores.std()), 1e-6)
    return np.asarray((scores - all_scores.mean()) / deviation, dtype=np.float32)
