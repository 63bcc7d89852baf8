"""Search in a media table: a text, a file, opened media or a vector in, the best rows out.

A row counts by the best of its vectors. Fields that show the thing (image, video, audio) are searched
where they are embedded; a caption's vector (text, speech) counts only for rows that have none of these,
since captions lie nearer to captions than to pictures of the same things and would push all pictures
down. Scores are cosines.
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
from sensorium.data.sample import Sample
from sensorium.media import Audio, Image, Text, Video

if TYPE_CHECKING:
    from sensorium.data.approximate import ApproximatePool
    from sensorium.data.index import ExactIndex
    from sensorium.data.table import Table

SHOWN = frozenset({"image", "video", "audio"})
"""Fields that show the thing itself; `text` and `speech` are captions of it."""

Query = str | Path | bytes | Image | Audio | Video | Text | np.ndarray


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    Attributes:
        id: Its content id.
        row: Its number.
        score: Cosine between the query and the best of its vectors.
        uri: Where it came from.
        texts: Its first caption in each language.
        field: Which field's vector was the best.
        relevance: Share of other queries whose best wrong answer it beats, where that was asked for.
    """

    id: str
    row: int
    score: float
    uri: str
    texts: dict[str, str]
    field: str
    relevance: float | None = None


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


def gather(table: Table, fingerprint: str, fields: Sequence[str] | None) -> Pool:
    """Collect what a search looks through.

    Args:
        table: Where.
        fingerprint: Of the model.
        fields: Which fields; None: those that show the thing, and captions of rows without these.

    Raises:
        UsageError: If a field is unknown.
        NotFoundError: If the model embedded one of them not at all.
    """
    from sensorium.data.index import ExactIndex  # imports numba: not for those who only read rows

    unknown = [name for name in fields or () if name not in FIELDS]
    if unknown:
        raise UsageError(f"no field '{unknown[0]}'; known: {', '.join(FIELDS)}")
    embedded = table.fields_embedded().get(fingerprint, [])
    chosen = [name for name in FIELDS if name in (embedded if fields is None else fields)]
    missing = sorted(set(chosen) - set(embedded)) if chosen else ["anything"]
    if missing:
        raise NotFoundError(
            f"{table.path} holds no vectors of {missing[0]} by this model ({fingerprint}); "
            f"make them: sensorium embed {table.path} --model RUN"
        )
    parts = {name: table.vectors(name, fingerprint) for name in chosen}
    if fields is None:
        shown = np.concatenate([np.zeros(0, np.int64), *(parts[name][0] for name in SHOWN & set(parts))])
        for name in set(parts) - SHOWN:
            rows, vectors = parts[name]
            is_alone = ~np.isin(rows, shown)
            parts[name] = (rows[is_alone], vectors[is_alone])
    return Pool(
        rows=np.concatenate([rows for rows, _ in parts.values()]),
        fields=np.concatenate([np.full(len(rows), FIELDS.index(name)) for name, (rows, _) in parts.items()]),
        index=ExactIndex(np.concatenate([vectors for _, vectors in parts.values()])),
    )


class Pools:
    """What searches of one table look through: read once, kept until it is cleared."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, tuple[str, ...] | None], Pool] = {}
        self._approximate: dict[str, ApproximatePool] = {}

    def clear(self) -> None:
        """Forget them, as vectors were written."""
        self._exact.clear()
        self._approximate.clear()

    def exact(self, table: Table, fingerprint: str, fields: Sequence[str] | None) -> Pool:
        """Vectors in memory (see `gather`)."""
        key = (fingerprint, None if fields is None else tuple(fields))
        if key not in self._exact:
            self._exact[key] = gather(table, *key)
        return self._exact[key]

    def pick(
        self, table: Table, fingerprint: str, fields: Sequence[str] | None, ann: bool
    ) -> Pool | ApproximatePool:
        """Vectors in memory, or the approximate index if `ann`, which holds the default fields alone.

        Raises:
            UsageError: If `fields` and `ann` are both given.
            NotFoundError: If there are no such vectors or no index.
            TableError: If the index is stale.
        """
        if not ann:
            return self.exact(table, fingerprint, fields)
        if fields is not None:
            raise UsageError("an approximate index holds the default fields; give fields or ann, not both")
        from sensorium.data.approximate import open_approximate  # imports numba, as `gather` does

        if fingerprint not in self._approximate:
            self._approximate[fingerprint] = open_approximate(table, fingerprint)
        return self._approximate[fingerprint]


def embed_query(query: Query, model: Embedder) -> Float32[np.ndarray, " E"]:
    """Unit vector of a query; a vector is brought to length 1.

    Raises:
        UsageError: If a vector is not of shape (E,), or has no direction.
    """
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
) -> list[Hit]:
    """Find the best rows and read what a person wants to know of them.

    Raises:
        UsageError: If the vector is of another width than the pool's, k < 1, or the filter does not parse.
    """
    if k < 1:
        raise UsageError(f"k={k}; ask for at least 1 row")
    if query.shape != (pool.index.dim,):
        raise UsageError(f"the query vector is {len(query)} wide, the table's are {pool.index.dim}")
    allowed = None if where is None else np.isin(pool.rows, table.where(where))
    best = best_rows(pool, query, k, allowed)
    numbers = [row for row, _, _ in best]
    ids = table.ids
    samples = table.rows(numbers, columns=["uri", "texts"])
    return [
        Hit(ids[row], row, score, sample.uri, _texts(sample), field)
        for (row, score, field), sample in zip(best, samples, strict=True)
    ]


def _texts(sample: Sample) -> dict[str, str]:
    """First caption in each language."""
    return {caption.language: caption.text for caption in reversed(sample.texts)}
