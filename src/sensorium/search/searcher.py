"""Search of a media table with one model: a text, file, medium or vector in, the best rows out.

`Searcher` reads the vectors of a table once and keeps them. A text query also returns rows with a caption
that contains it word for word (`full_text`), and these rank first. `min_score` filters by a relevance that is
comparable between queries (`relevance`). Search is exact unless `ann=True` selects the approximate index.
`find` additionally handles sums of terms (`query`) for the command line.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64

from sensorium.core.errors import UsageError, warn
from sensorium.core.types import FIELDS, Embedder, Embeddings
from sensorium.data.curation.language import detect_foreign
from sensorium.media import Text
from sensorium.media.path_or_text import as_words
from sensorium.search.approximate import ApproximatePool, open_approximate
from sensorium.search.embedding_log import no_vectors
from sensorium.search.exact import Pool, best_rows, gather
from sensorium.search.full_text import PhraseIndex
from sensorium.search.query import Hit, Query, Term, embed_query, query_vector
from sensorium.search.relevance import Background, build_background, check_min_score, keep_relevant

if TYPE_CHECKING:
    from sensorium.data.table.table import Table


class Searcher:
    """Searches one table with one model. Several threads may share a searcher.

    Args:
        table: Holds vectors of the model (`sensorium embed`).
        model: Embeds the queries.

    Example:
        >>> searcher = Searcher(table, model)                    # doctest: +SKIP
        >>> searcher.search("a red fruit", k=3)[0].uri           # doctest: +SKIP
        'stamps/food/fruit/apple.png'
    """

    def __init__(self, table: Table, model: Embedder) -> None:
        self.table, self.model = table, model
        self._cache = _Cache(PhraseIndex(table), table.num_vector_writes)

    def with_model(self, model: Embedder) -> Searcher:
        """A searcher that shares the vectors in memory; `model` has the same fingerprint."""
        other = copy.copy(self)
        other.model = model
        return other

    def search(
        self,
        query: Query,
        k: int = 10,
        where: str | None = None,
        min_score: float | None = None,
        ann: bool = False,
        *,
        fields: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Find the rows nearest to a query, best first.

        Args:
            query: A text (`str`), a file (`Path`), opened media, or a vector (E,). Rows with a caption that
                contains a text query come first, unless `fields` excludes captions.
            k: Maximum number of rows.
            where: SQL filter, as for `Table.where`.
            min_score: Minimum relevance, 0..1, comparable between queries.
            ann: Search the approximate index (`sensorium data index`); scores stay exact.
            fields: Fields to search. None: image, video and audio, or captions of rows without these.

        Raises:
            NotFoundError: If the table holds no vectors of this model, or no such index.
            TableError: If the index is older than the vectors.
            UsageError: If the filter does not parse, `min_score` is not in 0..1, `ann` comes with `fields`,
                or a `str` names a file.
        """
        check_min_score(min_score)
        vectors = self._vectors(fields, ann)
        vector = embed_query(query, self.model)
        words = query.text if isinstance(query, Text) else query if isinstance(query, str) else ""
        has_captions = words != "" and (fields is None or "text" in fields)
        matches = self._cache.phrases.find(words) if has_captions else []
        hits = _search(self.table, vectors.pool, vector, k, where, matches)
        if min_score is None:
            return hits
        return keep_relevant(vector, hits, vectors.pool, self._background(vectors), min_score)

    def _vectors(self, fields: Sequence[str] | None, ann: bool) -> _Vectors:
        if ann and fields is not None:
            raise UsageError("an approximate index holds the default fields; give fields or ann, not both")
        key = "ann" if ann else None if fields is None else tuple(fields)
        cache, fingerprint = self._cache, self.model.fingerprint
        with cache.lock:
            if cache.num_writes != self.table.num_vector_writes:
                cache.vectors.clear()
                cache.num_writes = self.table.num_vector_writes
            if key not in cache.vectors:
                opened = open_approximate(self.table, fingerprint) if ann else None
                cache.vectors[key] = _Vectors(opened or gather(self.table, fingerprint, fields))
            return cache.vectors[key]

    def _background(self, vectors: _Vectors) -> Background:
        with self._cache.lock:
            if vectors.background is None:
                vectors.background = build_background(self.table, vectors.pool, self.model)
            return vectors.background


@dataclass
class _Vectors:
    """Vectors in memory or an opened index, and the background queries for relevance."""

    pool: Pool | ApproximatePool
    background: Background | None = None


@dataclass
class _Cache:
    """What searchers of one table and fingerprint share; `vectors` are those after `num_writes` writes."""

    phrases: PhraseIndex
    num_writes: int
    vectors: dict[tuple[str, ...] | str | None, _Vectors] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)


@dataclass(frozen=True)
class SearchRequest:
    """A search by a sum of terms.

    Attributes:
        terms: Operands of the query.
        k: Maximum number of rows.
        where: SQL filter.
        min_score: Minimum relevance, 0..1.
        fields: Fields to search; empty: the default fields.
        ann: Whether to search the approximate index, which holds the default fields only.
    """

    terms: Sequence[Term]
    k: int = 10
    where: str | None = None
    min_score: float | None = None
    fields: Sequence[str] = ()
    ann: bool = False


@dataclass(frozen=True)
class UnloadedModel:
    """A model of which only the fingerprint is known; enough for queries of rows and vectors."""

    fingerprint: str

    def embed(self, items: Sequence[object]) -> Embeddings:
        """Refuse.

        Raises:
            UsageError: Always.
        """
        raise UsageError("a text or a file needs the model that embedded the table; give --model RUN")


def find(table: Table, request: SearchRequest, model: Embedder) -> list[Hit]:
    """Search by a sum of terms; rows that are terms of the query are left out.

    Args:
        table: Holds vectors of the model.
        request: Terms and options.
        model: Embeds texts and files of the query; `UnloadedModel` if there are none.

    Raises:
        UsageError: If the request is out of range.
        NotFoundError: If the table holds no vectors of the model, or no approximate index.
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
        as_words(only.item)  # not as a vector, so that captions are matched by words too
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


def _search(
    table: Table,
    pool: Pool | ApproximatePool,
    query: Float32[np.ndarray, " E"],
    k: int,
    where: str | None,
    matches: Sequence[Int64[np.ndarray, " _"]],
) -> list[Hit]:
    """The k best rows; groups of `matches` come first, in this order, each sorted by score."""
    if k < 1:
        raise UsageError(f"k={k}; ask for at least 1 row")
    if query.shape != (pool.index.dim,):
        raise UsageError(f"the query vector is {len(query)} wide, the table's are {pool.index.dim}")
    allowed = None if where is None else np.isin(pool.rows, table.where(where))
    first: list[tuple[int, float, str]] = []
    for rows in matches:
        if len(rows) and len(first) < k:
            is_in = np.isin(pool.rows, rows)
            first += best_rows(pool, query, k - len(first), is_in if allowed is None else is_in & allowed)
    matched = {row for row, _, _ in first}
    rest = best_rows(pool, query, k, allowed) if len(first) < k else []
    best = [*first, *(one for one in rest if one[0] not in matched)][:k]
    ids, samples = table.ids, table.rows([row for row, _, _ in best], columns=["uri", "texts"])
    hits = []
    for (row, score, name), sample in zip(best, samples, strict=True):
        texts = {caption.language: caption.text for caption in reversed(sample.texts)}
        hits.append(Hit(ids[row], row, score, sample.uri, texts, name, is_phrase_match=row in matched))
    return hits


def _warn_of_language(request: SearchRequest, model: Embedder) -> None:
    """Warn about texts in a language that the model's text encoder does not know."""
    known = getattr(model, "text_languages", ())
    for term in request.terms:
        found = detect_foreign(term.item, known) if isinstance(term.item, str) else ""
        if found:
            language = "another language" if found == "und" else f"the language '{found}'"
            warn(
                f"'{term.item}' seems to be in {language}; this model's text encoder knows only "
                f"{', '.join(known)}, so the results are unreliable"
            )
