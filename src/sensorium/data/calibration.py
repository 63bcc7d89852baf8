"""How relevant a search result is, as a number between 0 and 1 that means the same for every query.

In: the vectors that are searched, and vectors of background queries that are about nothing in particular.
Out: for a result, the share of background queries whose *best* result over the whole collection is less
outstanding. A flat cutoff on cosines cannot do this: some queries are near to everything, some items are near
to every query, and the best of a million unrelated scores is higher than the best of a hundred. It does not
know models or modalities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sensorium.core.errors import UsageError

MIN_BACKGROUND = 20
"""Fewer background queries cannot tell 0.95."""

_PRIOR_ITEMS = 30.0
_SCORES_AT_ONCE = 16_000_000


@dataclass(frozen=True)
class Calibration:
    """The background of one collection.

    With b the mean background query, a result's score s(q, i) = q·v_i is first freed from what the item gets
    from any
    query: d(q, i) = (q - b)·v_i. Then z(q, i) = (d - mean_i d) / sd_i d tells how far it stands out among
    what this query gives to the collection (the sd is drawn towards its background mean in small
    collections). The same is done for each background query, whose greatest z is kept. Relevance = 1 - (1 +
    #{background maxima >= z}) / (m + 1).

    This is a conformal p-value of the collection's best result: for a query that is as unrelated to the
    collection as the background is, the chance that *anything* reaches relevance r is at most 1 - r (plus 1 /
    (m + 1)). It is no probability of being right: a query may stand out for a wrong reason, and a background
    query that does have a match here makes all relevances smaller, never greater.

    Attributes:
        offsets: What each item gets from the mean background query, b·v_i, (n,).
        center: Mean of the vectors, (E,).
        covariance: Of the vectors, (E, E).
        query_center: Mean of the background queries b, (E,).
        prior_variance: Mean over the background of the variance of d.
        maxima: Greatest z of each background query, ascending, (m,).
    """

    offsets: Float32[np.ndarray, " n"]
    center: Float64[np.ndarray, " E"]
    covariance: Float64[np.ndarray, "E E"]
    query_center: Float64[np.ndarray, " E"]
    prior_variance: float
    maxima: Float64[np.ndarray, " m"]

    @classmethod
    def fit(cls, vectors: Float32[np.ndarray, "n E"], background: Float32[np.ndarray, "m E"]) -> Calibration:
        """Learn what unrelated queries get from a collection; costs one search for each of them.

        Args:
            vectors: Unit vectors that will be searched.
            background: Unit vectors of m >= 20 queries; a few hundred are better. Captions of another
                collection, or common words, by the same model and of the modality of the queries to come.

        Raises:
            UsageError: If there are no vectors or too few background queries.
        """
        if len(vectors) == 0 or len(background) < MIN_BACKGROUND:
            raise UsageError(
                f"{len(vectors)} vectors and {len(background)} background queries; expected at least 1 and "
                f"{MIN_BACKGROUND}"
            )
        center, covariance = _moments(vectors)
        query_center = background.mean(axis=0, dtype=np.float64)
        offsets = vectors @ query_center.astype(np.float32)
        prior = float(np.mean(_variances(background - query_center, covariance)))
        bare = cls(offsets, center, covariance, query_center, prior, np.zeros(0))
        return cls(
            offsets, center, covariance, query_center, prior, np.sort(bare._greatest(vectors, background))
        )

    def relevance(
        self,
        scores: Float32[np.ndarray, "q k"],
        positions: Int64[np.ndarray, "q k"],
        queries: Float32[np.ndarray, "q E"],
    ) -> Float32[np.ndarray, "q k"]:
        """Relevance of results, in [0, 1).

        Args:
            scores: As `ExactIndex.search` gives them.
            positions: Of the results among the vectors.
            queries: Their queries; the mean and spread of a query's scores follow from it without a scan.
        """
        z = self._standardise(scores - self.offsets[positions], queries)
        num_above = len(self.maxima) - np.searchsorted(self.maxima, z, side="left")
        return (1 - (1 + num_above) / (len(self.maxima) + 1)).astype(np.float32)

    def _standardise(
        self, differences: Float32[np.ndarray, "q k"], queries: Float32[np.ndarray, "q E"]
    ) -> Float64[np.ndarray, "q k"]:
        turned = queries - self.query_center
        num_items = len(self.offsets)
        variance = num_items * _variances(turned, self.covariance) + _PRIOR_ITEMS * self.prior_variance
        spread = np.sqrt(np.maximum(variance / (num_items + _PRIOR_ITEMS), 1e-24))
        z: Float64[np.ndarray, "q k"] = (differences - (turned @ self.center)[:, None]) / spread[:, None]
        return z

    def _greatest(
        self, vectors: Float32[np.ndarray, "n E"], queries: Float32[np.ndarray, "m E"]
    ) -> Float64[np.ndarray, " m"]:
        best = np.full((len(queries), 1), -np.inf, dtype=np.float32)
        step = max(1, _SCORES_AT_ONCE // len(queries))
        for low in range(0, len(vectors), step):
            part = slice(low, low + step)
            differences = queries @ vectors[part].T - self.offsets[part]
            best = np.maximum(best, differences.max(axis=1, keepdims=True))
        greatest: Float64[np.ndarray, " m"] = self._standardise(best, queries)[:, 0]
        return greatest


def _moments(
    vectors: Float32[np.ndarray, "n E"],
) -> tuple[Float64[np.ndarray, " E"], Float64[np.ndarray, "E E"]]:
    """Mean and covariance; blocks are shifted by the mean before their products are summed."""
    center = vectors.mean(axis=0, dtype=np.float64)
    products = np.zeros((vectors.shape[1], vectors.shape[1]))
    for low in range(0, len(vectors), 65_536):
        block = vectors[low : low + 65_536] - center.astype(np.float32)
        products += block.T @ block
    return center, products / len(vectors)


def _variances(
    directions: Float64[np.ndarray, "q E"], covariance: Float64[np.ndarray, "E E"]
) -> Float64[np.ndarray, " q"]:
    """Variance over the collection of the products with each direction."""
    variances: Float64[np.ndarray, " q"] = np.einsum("qe,qe->q", directions @ covariance, directions)
    return variances.clip(min=0)
