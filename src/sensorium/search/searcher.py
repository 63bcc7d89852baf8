"""Search of a media table with one model: a text, a file, opened media or a vector in, the best rows out.

A `Searcher` reads the vectors of a table once and keeps them. A text query also returns rows with a caption
that contains it word for word (`full_text`), and these come first. `min_score` filters by a relevance that is
comparable between queries (`relevance`). Search is exact unless `ann=True` asks for the approximate index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sensorium.core.errors import UsageError
from sensorium.core.types import Embedder
from sensorium.media import Text
from sensorium.search.full_text import Quotes
from sensorium.search.pool import Hit, Pool, Query, embed_query, gather, search
from sensorium.search.relevance import Background, build_background, check_share, keep_relevant

if TYPE_CHECKING:
    from sensorium.data.table.table import Table
    from sensorium.search.approximate import ApproximatePool


class Searcher:
    """Searches one table with one model.

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
        self._quotes = Quotes()
        self._pools: dict[tuple[str, ...] | None, Pool] = {}
        self._approximate: ApproximatePool | None = None
        self._backgrounds: dict[int, Background] = {}
        self._num_writes = table.num_vector_writes

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
        check_share(min_score)
        pool = self._pool(fields, ann)
        vector = embed_query(query, self.model)
        words = query.text if isinstance(query, Text) else query if isinstance(query, str) else ""
        has_captions = words != "" and (fields is None or "text" in fields)
        quoted = self._quotes.find(self.table, words) if has_captions else []
        hits = search(self.table, pool, vector, k=k, where=where, quoted=quoted)
        if min_score is None:
            return hits
        return keep_relevant(vector, hits, pool, self._background(pool), min_score)

    def _pool(self, fields: Sequence[str] | None, ann: bool) -> Pool | ApproximatePool:
        if self._num_writes != self.table.num_vector_writes:
            self._pools.clear()
            self._backgrounds.clear()
            self._approximate, self._num_writes = None, self.table.num_vector_writes
        return self._open_index(fields) if ann else self._read(None if fields is None else tuple(fields))

    def _read(self, fields: tuple[str, ...] | None) -> Pool:
        if fields not in self._pools:
            self._pools[fields] = gather(self.table, self.model.fingerprint, fields)
        return self._pools[fields]

    def _open_index(self, fields: Sequence[str] | None) -> ApproximatePool:
        if fields is not None:
            raise UsageError("an approximate index holds the default fields; give fields or ann, not both")
        from sensorium.search.approximate import open_approximate  # imports numba

        if self._approximate is None:
            self._approximate = open_approximate(self.table, self.model.fingerprint)
        return self._approximate

    def _background(self, pool: Pool | ApproximatePool) -> Background:
        if id(pool) not in self._backgrounds:
            self._backgrounds[id(pool)] = build_background(self.table, pool, self.model)
        return self._backgrounds[id(pool)]
