"""Search in a media table by anything: the query of a person in, rows and how relevant they are out.

Composes `query` (what is asked) and `Table.search` (what is near, and near enough).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sensorium.core.errors import UsageError, warn
from sensorium.core.types import FIELDS, Embedder, Embeddings
from sensorium.data.curation.language import detect_foreign
from sensorium.data.table.table import Table
from sensorium.media.path_or_text import as_words
from sensorium.search.parse import Term, query_vector
from sensorium.search.pool import Hit, Query, no_vectors


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


def find(table: Table, request: SearchRequest, model: Embedder) -> list[Hit]:
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
    fields = tuple(request.fields) or None
    for name in request.fields:
        if name not in FIELDS:
            raise UsageError(f"no field '{name}'; known: {', '.join(FIELDS)}")
    if model.fingerprint not in table.fields_embedded():
        raise no_vectors(table, "no vectors of this model")
    _warn_of_language(request, model)
    first = fields[0] if fields else "image"
    only = request.terms[0] if len(request.terms) == 1 else Term(0)
    query: Query = (
        as_words(only.item)  # as it is: captions that it quotes are found by their words
        if isinstance(only.item, str) and only.weight > 0
        else query_vector(request.terms, model, table, field=first, fingerprint=model.fingerprint)
    )
    itself = {term.item for term in request.terms if isinstance(term.item, int)}
    hits = table.search(
        query,
        model=model,
        k=request.k + len(itself),
        where=request.where,
        min_score=request.min_score,
        fields=fields,
        ann=request.ann,
    )
    return [hit for hit in hits if hit.row not in itself][: request.k]


def _warn_of_language(request: SearchRequest, model: Embedder) -> None:
    """Warn of words that the model's text encoder surely does not know."""
    known = getattr(model, "text_languages", ())
    for term in request.terms:
        found = detect_foreign(term.item, known) if isinstance(term.item, str) else ""
        if found:
            language = "another language" if found == "und" else f"the language '{found}'"
            warn(
                f"'{term.item}' seems to be in {language}; this model's text encoder knows "
                f"{', '.join(known)} alone, so expect little of what is found"
            )
