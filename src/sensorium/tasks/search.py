"""Search in a media table by anything: the query of a person in, rows and how relevant they are out.

Composes `query` (what is asked), `Table.search` (what is near) and `relevance` (what is near enough).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import FIELDS, Embedder, Embeddings
from sensorium.data.query import Hit
from sensorium.data.table import Table
from sensorium.tasks.query import Term, query_vector
from sensorium.tasks.relevance import build_background


@dataclass(frozen=True)
class SearchRequest:
    """What is asked for.

    Attributes:
        terms: Operands of the query.
        k: How many rows at most.
        where: SQL filter.
        min_score: Least relevance, 0..1: the share of background queries whose best wrong answer a hit beats.
        fields: Fields to search; empty: those that show the thing.
        ann: Whether the table's approximate index is searched, which holds the default fields alone.
    """

    terms: Sequence[Term]
    k: int = 10
    where: str | None = None
    min_score: float | None = None
    fields: Sequence[str] = ()
    ann: bool = False


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        hits: Best first.
        relevance: Of each hit, where a least relevance was asked for.
    """

    hits: Sequence[Hit]
    relevance: Sequence[float] = ()


@dataclass(frozen=True)
class Space:
    """A model that is known by its vectors alone: enough for queries of rows and vectors."""

    fingerprint: str
    requires: str = field(
        default="a text or a file needs the model that embedded the table; give --model RUN"
    )

    def embed(self, items: Sequence[object]) -> Embeddings:
        """Refuse: there is no model.

        Raises:
            UsageError: Always.
        """
        raise UsageError(self.requires)


def find(table: Table, request: SearchRequest, model: Embedder) -> Found:
    """Search.

    Args:
        table: Where; it must hold vectors of the model.
        request: What is asked for.
        model: Embeds texts and files of the query, or a `Space`.

    Raises:
        UsageError: If the request is out of range.
        NotFoundError: If the table holds no vectors of the model, or no index that is asked for.
    """
    if request.k < 1:
        raise UsageError(f"k={request.k}; ask for at least 1 row")
    if request.min_score is not None and not 0 <= request.min_score <= 1:
        raise UsageError(f"min score {request.min_score} is a relevance between 0 and 1, as in 0.9")
    fields = tuple(request.fields) or None
    for name in request.fields:
        if name not in FIELDS:
            raise UsageError(f"no field '{name}'; known: {', '.join(FIELDS)}")
    if model.fingerprint not in table.fields_embedded():
        raise NotFoundError(
            f"{table.path} has no vectors of this model; run: sensorium embed {table.path} --model RUN"
        )
    first = fields[0] if fields else "image"
    vector = query_vector(request.terms, model, table, field=first, fingerprint=model.fingerprint)
    itself = {term.item for term in request.terms if isinstance(term.item, int)}
    hits = table.search(
        vector, model=model, k=request.k + len(itself), where=request.where, fields=fields, ann=request.ann
    )
    hits = [hit for hit in hits if hit.row not in itself][: request.k]
    if request.min_score is None:
        return Found(hits)
    relevance = hit_relevance(table, vector, hits, model, fields)
    kept = [
        (hit, share)
        for hit, share in zip(hits, relevance.tolist(), strict=True)
        if share >= request.min_score
    ]
    return Found([hit for hit, _ in kept], [share for _, share in kept])


def hit_relevance(
    table: Table,
    vector: Float32[np.ndarray, " E"],
    hits: Sequence[Hit],
    model: Embedder,
    fields: Sequence[str] | None = None,
) -> Float32[np.ndarray, " k"]:
    """Relevance of hits (see `relevance`)."""
    pool = table.pool(model.fingerprint, fields)
    embedder = None if isinstance(model, Space) else model
    background = build_background(table, pool, embedder, fingerprint=model.fingerprint)
    scores = np.array([hit.score for hit in hits], dtype=np.float32)
    return background.relevance(scores, pool.index.vectors @ vector)
