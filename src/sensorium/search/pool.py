"""Vectors of several fields as one pool, and the rows of a pool that are nearest to a query vector.

The score of a row is the greatest cosine between the query and one of its vectors. Image, video and audio
vectors are searched where the model embedded them. Text and speech vectors count only for rows that have none
of these: captions are nearer to captions than to pictures, and would rank above all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int64

from sensorium.core.errors import NotFoundError, UsageError
from sensorium.core.types import FIELDS, Embedder
from sensorium.data.table.sample import Sample
from sensorium.media import Audio, Image, Text, Video
from sensorium.media.path_or_text import refuse_file_name

if TYPE_CHECKING:
    from sensorium.data.table.table import Table
    from sensorium.search.approximate import ApproximatePool
    from sensorium.search.exact import ExactIndex

SHOWN = frozenset({"image", "video", "audio"})
"""Fields that show the thing itself; `text` and `speech` are captions of it."""

Query = str | Path | bytes | Image | Audio | Video | Text | np.ndarray


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    Attributes:
        id: Its content id.
        row: Its number.
        score: Cosine between the query and the best of its vectors that were searched.
        uri: Where it came from.
        texts: Its first caption in each language.
        field: Which field's vector was the best.
        relevance: Share of other queries whose best wrong answer it beats, where that was asked for; 1 for a
            row that is quoted.
        is_quote: Whether the query is, or is in, one of its captions, word for word: such rows come first,
            whatever their score.
    """

    id: str
    row: int
    score: float
    uri: str
    texts: dict[str, str]
    field: str
    relevance: float | None = None
    is_quote: bool = False


@dataclass(frozen=True)
class Pool:
    """Search vectors of several fields, one under the other.

    Attributes:
        rows: Row of each vector, (n,).
        fields: Its field, as an index into `FIELDS`, (n,).
        index: Unit vectors, (n, E), ready to be searched.
    """

    rows: Int64[np.ndarray, " n"]
    fields: Int64[np.ndarray, " n"]
    index: ExactIndex

    @property
    def sample(self) -> Float32[np.ndarray, "s E"]:
        """Vectors that stand for all: all of them."""
        return self.index.vectors


def gather(table: Table, fingerprint: str, fields: Sequence[str] | None) -> Pool:
    """Collect what a search looks through.

    Args:
        table: Where.
        fingerprint: Of the model.
        fields: Which fields; None: those that show the thing, and captions of rows without these.

    Raises:
        UsageError: If a field is unknown.
        NotFoundError: If the model embedded one of them not at all, or no row of any.
    """
    from sensorium.search.exact import ExactIndex  # imports numba: not for those who only read rows

    unknown = [name for name in fields or () if name not in FIELDS]
    if unknown:
        raise UsageError(f"no field '{unknown[0]}'; known: {', '.join(FIELDS)}")
    embedded = table.fields_embedded().get(fingerprint, [])
    chosen = [name for name in FIELDS if name in (embedded if fields is None else fields)]
    missing = sorted(set(chosen) - set(embedded)) if chosen else ["anything"]
    if missing:
        raise no_vectors(table, f"no vectors of {missing[0]} by this model ({fingerprint})")
    parts = {name: table.vectors(name, fingerprint) for name in chosen}
    if fields is None:
        shown = np.concatenate([np.zeros(0, np.int64), *(parts[name][0] for name in SHOWN & set(parts))])
        for name in set(parts) - SHOWN:
            rows, vectors = parts[name]
            is_alone = ~np.isin(rows, shown)
            parts[name] = (rows[is_alone], vectors[is_alone])
    if not any(len(rows) for rows, _ in parts.values()):
        raise no_vectors(table, f"no vectors of any row by this model ({fingerprint})")
    return Pool(
        rows=np.concatenate([rows for rows, _ in parts.values()]),
        fields=np.concatenate([np.full(len(rows), FIELDS.index(name)) for name, (rows, _) in parts.items()]),
        index=ExactIndex(np.concatenate([vectors for _, vectors in parts.values()])),
    )


def no_vectors(table: Table, what: str = "no vectors") -> NotFoundError:
    """What to say where a table lacks vectors: embed it, or fill it first."""
    if not len(table):
        return NotFoundError(
            f"{table.path} has no rows; fill it: sensorium data prepare SRC -o {table.path}, "
            "then: sensorium embed"
        )
    return NotFoundError(f"{table.path} has {what}; run: sensorium embed {table.path} --model RUN")


def embed_query(query: Query, model: Embedder) -> Float32[np.ndarray, " E"]:
    """Unit vector of a query; a vector is brought to length 1.

    Raises:
        UsageError: If a vector is not of shape (E,), or has no direction, or a `str` names a file.
    """
    if isinstance(query, str):
        refuse_file_name(query)
    if not isinstance(query, np.ndarray):
        embedded: Float32[np.ndarray, " E"] = model.embed([query]).vectors[0]
        return embedded
    vector = np.asarray(query, dtype=np.float32)
    length = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not np.isfinite(length) or length == 0:
        raise UsageError(
            f"a query vector has shape (E,) and a direction, got {vector.shape} of length {length}"
        )
    unit: np.ndarray = vector / np.float32(length)
    return unit


def best_rows(
    pool: Pool | ApproximatePool,
    query: Float32[np.ndarray, " E"],
    k: int,
    allowed: Bool[np.ndarray, " n"] | None = None,
) -> list[tuple[int, float, str]]:
    """The k best rows: number, cosine and field of the best vector; of equal ones the lower row is first.

    Args:
        pool: Vectors to look through.
        query: Unit vector.
        k: How many rows.
        allowed: True = this vector may be found.
    """
    wanted = k
    while True:
        scores, found = (part[0] for part in pool.index.search(query[None], wanted, allowed))
        rows, first = np.unique(pool.rows[found], return_index=True)
        if len(rows) >= k or len(found) < wanted:
            break
        wanted *= 4
    order = first[np.lexsort((rows, -scores[first]))][:k]
    return [(int(pool.rows[found[i]]), float(scores[i]), FIELDS[pool.fields[found[i]]]) for i in order]


def search(
    table: Table,
    pool: Pool | ApproximatePool,
    query: Float32[np.ndarray, " E"],
    *,
    k: int,
    where: str | None,
    quoted: Sequence[Int64[np.ndarray, " _"]] = (),
) -> list[Hit]:
    """Find the best rows and read what a person wants to know of them.

    Args:
        table: Where.
        pool: Its vectors.
        query: Unit vector.
        k: How many rows.
        where: SQL filter.
        quoted: Rows that come first, in this order of groups, where they are in the pool; by score in each.

    Raises:
        UsageError: If the vector is of another width than the pool's, k < 1, or the filter does not parse.
    """
    if k < 1:
        raise UsageError(f"k={k}; ask for at least 1 row")
    if query.shape != (pool.index.dim,):
        raise UsageError(f"the query vector is {len(query)} wide, the table's are {pool.index.dim}")
    allowed = None if where is None else np.isin(pool.rows, table.where(where))
    first: list[tuple[int, float, str]] = []
    for rows in quoted:
        if len(rows) and len(first) < k:
            is_in = np.isin(pool.rows, rows)
            first += best_rows(pool, query, k - len(first), is_in if allowed is None else is_in & allowed)
    is_first = {row for row, _, _ in first}
    rest = best_rows(pool, query, k, allowed) if len(first) < k else []
    best = [*first, *(one for one in rest if one[0] not in is_first)][:k]
    numbers = [row for row, _, _ in best]
    ids = table.ids
    samples = table.rows(numbers, columns=["uri", "texts"])
    return [
        Hit(ids[row], row, score, sample.uri, _texts(sample), field, is_quote=row in is_first)
        for (row, score, field), sample in zip(best, samples, strict=True)
    ]


def _texts(sample: Sample) -> dict[str, str]:
    """First caption in each language."""
    return {caption.language: caption.text for caption in reversed(sample.texts)}
