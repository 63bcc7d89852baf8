"""The media table: a folder with samples, cached features and search vectors.

The folder is a LanceDB database of Lance datasets: `rows.lance` (one row per sample), `features-*.lance`
(outputs of frozen encoders), `vectors-*.lance` (search vectors of one field and model) and `ann-*.lance` (an
approximate index of one model). The number of a row never changes. One process writes at a time, any number
read. Rows that `add` has reported survive a crash. The table does not decode media.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, Int64

from sensorium.core.errors import NotFoundError, TableError, UsageError
from sensorium.core.registry import Registry
from sensorium.core.runtime import Progress, quiet
from sensorium.core.types import FIELDS, Embedder
from sensorium.data.table import schema as rows_schema
from sensorium.data.table.sample import Sample
from sensorium.data.table.store import Store, wrap_errors
from sensorium.data.table.vectors import Ragged, VectorFolder, by_row

if TYPE_CHECKING:
    from sensorium.search.query import Hit, Query
    from sensorium.search.searcher import Searcher

ROWS = "rows.lance"
BATCH_ROWS = 1024
BATCH_BYTES = 64 * 1024 * 1024
SEARCHERS: Registry[Searcher] = Registry("searcher")
"""Search implementations; `sensorium.search` registers by an entry point, so it is not imported here."""


class Table:
    """A media table at its newest version; create it with `Table.create` or `Table.open`.

    Attributes:
        path: Its folder.
        num_vector_writes: Increases with each write of vectors and each refresh; caches compare it.

    Example:
        >>> import tempfile
        >>> from sensorium.data.table.sample import Caption
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Table.create(Path(folder) / "frogs.lance", licence="CC0-1.0")
        ...     added = table.add([Sample("a", texts=[Caption("en", "a frog")])])
        ...     added, len(table), table.rows([0])[0].texts[0].text
        (1, 1, 'a frog')
    """

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self._store = store
        self._beside = VectorFolder(path)
        self._seen = _SeenIds()
        self._searchers: dict[str, Searcher] = {}
        self.num_vector_writes = 0

    @classmethod
    def create(cls, path: str | Path, *, description: str = "", licence: str = "") -> Table:
        """Create an empty table.

        Args:
            path: Folder to create; the usual ending is `.lance`.
            description: Description of the content.
            licence: SPDX expression or a sentence; rows may have their own.

        Raises:
            TableError: If the folder exists and is not empty.
            StorageError: If the folder is not writable.
        """
        folder = Path(path)
        if folder.exists() and not Store.is_vacant(folder, ROWS):
            raise TableError(f"{folder} exists and is not empty; open it, or choose another path")
        schema = rows_schema.with_metadata(description, licence)
        return cls(folder, Store.create(folder / ROWS, schema, is_numbered=True))

    @classmethod
    def open(cls, path: str | Path) -> Table:
        """Open a table.

        Raises:
            NotFoundError: If there is no such folder.
            TableError: If the folder is not a media table, is damaged, or is from a newer sensorium.
        """
        folder = Path(path)
        if not os.path.exists(folder):
            raise NotFoundError(f"no table at {folder}; create it: sensorium data prepare SRC -o {folder}")
        if not Store.exists(folder / ROWS):
            raise TableError(
                f"{folder} is not a media table, it has no {ROWS}; "
                f"create one: sensorium data prepare {folder} -o NEW"
            )
        store = Store.open(folder / ROWS, is_numbered=True)
        rows_schema.check_version(store.metadata, folder)
        rows_schema.check_columns(store.schema, folder)
        return cls(folder, store)

    def __len__(self) -> int:
        return len(self._store)

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        """Pickle as the path: the other process opens the table again."""
        return Table.open, (self.path.absolute(),)

    def __repr__(self) -> str:
        return f"Table({str(self.path)!r}, {len(self)} rows, {', '.join(self.fields) or 'empty'})"

    @property
    def info(self) -> dict[str, str]:
        """Metadata: `description`, `licence`, `created_by`, `schema_version`."""
        return {key.removeprefix("sensorium."): value for key, value in self._store.metadata.items()}

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that at least one row has."""
        flags = self._store.scan([f"has_{name}" for name in FIELDS])
        return tuple(name for name in FIELDS if np.any(rows_schema.numbers(flags[f"has_{name}"])))

    @property
    def ids(self) -> list[str]:
        """Content id of each row."""
        return self._store.cached_column("id")

    @property
    def groups(self) -> list[str]:
        """Group of each row; a split keeps rows of one group together."""
        return self._store.cached_column("group")

    def add(self, samples: Iterable[Sample], *, progress: Progress = quiet) -> int:
        """Append samples; skip those whose content id is in the table.

        Rows are written in batches. `progress` reports rows on disk, which survive `kill -9`.

        Returns:
            Number of rows added.

        Raises:
            TableError: If another process is writing.
        """
        with self._store.writing():
            before = len(self)
            seen = self._seen.up_to_date(self.ids)
            for batch in batches(seen.new(samples)):
                self._store.append(rows_schema.to_arrow(batch, len(self), self._store.schema.names))
                progress(len(self) - before, None, "rows")
            return len(self) - before

    def optimize(self) -> None:
        """Merge small files and delete old versions; row numbers do not change."""
        self._store.optimize()
        self._beside.optimize()

    def refresh(self) -> None:
        """Switch to the newest version, with rows that other processes added."""
        self._store.refresh()
        self.num_vector_writes += 1  # other processes may have written vectors, too

    def rows(self, numbers: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> list[Sample]:
        """Read rows by number, in the given order; repeats are allowed.

        Args:
            numbers: Row numbers, 0..len-1.
            columns: Attributes of `Sample` to read; the others stay empty, and `Sample.id` is then invalid
                (use `ids`). None reads all.

        Raises:
            NotFoundError: If a number is out of range.
            UsageError: If a column is not one of a sample.
        """
        asked = np.asarray(numbers, dtype=np.int64)
        self._check_range(asked)
        names = rows_schema.SAMPLE_COLUMNS if columns is None else tuple(columns)
        unknown = set(names) - set(rows_schema.SAMPLE_COLUMNS)
        if unknown:
            known = ", ".join(rows_schema.SAMPLE_COLUMNS)
            raise UsageError(f"no column '{min(unknown)}' in a sample; known: {known}")
        found = self._store.take(asked, rows_schema.present_columns(names, self._store.schema.names))
        with wrap_errors(self._store.path):
            return rows_schema.from_arrow(found)

    def column(self, name: str) -> np.ndarray | list[Any]:
        """Read one column of all rows: numbers as an array (missing: -1 or NaN), others as a list.

        Raises:
            UsageError: If there is no such column.
        """
        if name not in rows_schema.SCHEMA.names:
            raise UsageError(f"no column '{name}'; known: {', '.join(rows_schema.SCHEMA.names)}")
        if name not in self._store.schema.names:
            return [()] * len(self)
        values = self._store.scan([name])[name]
        is_number = rows_schema.is_number(values.type)
        with wrap_errors(self._store.path):
            return rows_schema.numbers(values) if is_number else rows_schema.python_values(values, name)

    def where(self, expression: str) -> Int64[np.ndarray, " n"]:
        """Row numbers that match a SQL filter, e.g. `has_audio AND width_px >= 64 AND source = 'stamps'`.

        Raises:
            UsageError: If the filter does not parse or names no column.
        """
        return np.sort(rows_schema.numbers(self._store.scan(["row"], where=expression)["row"]))

    def rows_with(self, field: str) -> Int64[np.ndarray, " n"]:
        """Numbers of the rows that have `field`."""
        if field not in FIELDS:
            raise UsageError(f"no field '{field}'; known: {', '.join(FIELDS)}")
        return np.flatnonzero(self.column(f"has_{field}")).astype(np.int64)

    def set_features(
        self,
        name: str,
        row_numbers: Sequence[int] | np.ndarray,
        offsets: Sequence[int] | np.ndarray,
        values: Float[np.ndarray, "M D"],
    ) -> None:
        """Store outputs of a frozen encoder for some rows, durably and as one commit.

        Args:
            name: `field:encoder:fingerprint`, e.g. `image:efficientnet-lite0:9f3a`.
            row_numbers: n rows, each once; earlier features of a row are replaced.
            offsets: Row i has `values[offsets[i]:offsets[i + 1]]`, (n + 1,); a row may have none.
            values: Vectors of all items (views, captions, clips).

        Raises:
            NotFoundError: If a row number is out of range.
            TableError: If a value is not finite.
        """
        rows = np.asarray(row_numbers, dtype=np.int64)
        self._check_range(rows)
        self._beside.append("features", name, rows, np.asarray(offsets), values)

    def features(self, name: str) -> Ragged:
        """Cached features of all rows; a row may have none.

        Raises:
            NotFoundError: If there are no features of `name`.
        """
        return self._beside.get("features", name).read(len(self))

    def features_missing(self, name: str, field: str | None = None) -> Int64[np.ndarray, " n"]:
        """Rows that have `field` (None: all rows) but no features of `name` yet."""
        wanted = np.arange(len(self)) if field is None else self.rows_with(field)
        return self._beside.missing("features", name, wanted)

    def feature_names(self) -> list[str]:
        """Names of all cached features."""
        return self._beside.names("features")

    def set_vectors(
        self,
        field: str,
        model_fingerprint: str,
        row_numbers: Sequence[int] | np.ndarray,
        values: Float[np.ndarray, "n E"],
    ) -> None:
        """Store search vectors of one field and one model, as one commit.

        Args:
            field: One of `FIELDS`.
            model_fingerprint: `Embedder.fingerprint`.
            row_numbers: Row of each vector, (n,); a row with several captions occurs several times. Earlier
                vectors of a row are replaced.
            values: Unit vectors.

        Raises:
            NotFoundError: If a row number is out of range.
            TableError: If a value is not finite.
        """
        rows = np.asarray(row_numbers, dtype=np.int64)
        self._check_range(rows)
        name = self._vector_name(field, model_fingerprint)
        self.num_vector_writes += 1
        self._beside.append("vectors", name, *by_row(rows, values))

    def vectors(
        self, field: str, fingerprint: str
    ) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, "n E"]]:
        """Search vectors of one field: the row of each vector, ascending, and the vectors.

        Raises:
            NotFoundError: If the field was not embedded by that model.
        """
        found = self._beside.get("vectors", self._vector_name(field, fingerprint)).read(len(self))
        return np.repeat(np.arange(len(found)), found.counts), found.values

    def row_vectors(self, field: str, fingerprint: str, row: int) -> Float32[np.ndarray, "m E"]:
        """Search vectors of one row, without reading others; (0, E) if it has none.

        Raises:
            NotFoundError: If the field was not embedded by that model.
        """
        return self._beside.get("vectors", self._vector_name(field, fingerprint)).read_row(row)

    def draw_vectors(
        self, field: str, fingerprint: str, num: int, *, seed: int = 0
    ) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, "n E"]]:
        """Rows and values of at most `num` random search vectors of a field.

        Raises:
            NotFoundError: If the field was not embedded by that model.
        """
        return self._beside.get("vectors", self._vector_name(field, fingerprint)).draw(num, seed)

    def caption_lists(self, first_row: int = 0) -> Iterator[tuple[int, pa.ListArray]]:
        """Captions of the rows from `first_row`, in chunks: (number of the first row, caption lists)."""
        wanted = range(first_row, len(self))
        texts = self._store.take(wanted, ["texts"]) if first_row else self._store.scan(["texts"])
        with wrap_errors(self._store.path):
            for chunk in texts["texts"].chunks:
                yield first_row, chunk
                first_row += len(chunk)

    def vectors_missing(self, field: str, fingerprint: str) -> Int64[np.ndarray, " n"]:
        """Rows that have `field` but no search vector of that model yet."""
        return self._beside.missing("vectors", self._vector_name(field, fingerprint), self.rows_with(field))

    def fields_embedded(self) -> dict[str, list[str]]:
        """For each model's fingerprint the fields that it has embedded."""
        found: dict[str, list[str]] = {}
        for name in self._beside.names("vectors"):
            field, _, fingerprint = name.partition(":")
            found.setdefault(fingerprint, []).append(field)
        return found

    def search(
        self,
        query: Query,
        *,
        model: Embedder,
        k: int = 10,
        where: str | None = None,
        min_score: float | None = None,
        fields: Sequence[str] | None = None,
        ann: bool = False,
    ) -> list[Hit]:
        """Find the rows nearest to a query, best first; short for `sensorium.search.Searcher`.

        Args:
            query: A text (`str`), a file (`Path`), opened media, or a vector (E,).
            model: Embeds the query; the table needs vectors of the same model (`sensorium embed`).
            k: Maximum number of rows.
            where: SQL filter, as for `where`.
            min_score: Minimum relevance, 0..1, comparable between queries.
            fields: Fields to search. None: image, video and audio, or captions of rows without these.
            ann: Search the approximate index (`sensorium data index`).

        Raises:
            NotFoundError: If the table has no vectors of this model, or no such index.
            TableError: If the index is older than the vectors.
            UsageError: If the filter does not parse, `min_score` is not in 0..1, `ann` comes with `fields`,
                or a `str` names a file.
        """
        searcher = self._searchers.get(model.fingerprint)
        if searcher is None:
            if "default" not in SEARCHERS:
                raise NotFoundError(
                    "Table.search is not registered, since the metadata of the package is missing; "
                    "reinstall the package, or use sensorium.search.Searcher(table, model)"
                )
            made = SEARCHERS.build("default", table=self, model=model)
            searcher = self._searchers.setdefault(model.fingerprint, made)
        return searcher.with_model(model).search(query, k, where, min_score, ann, fields=fields)

    def _vector_name(self, field: str, fingerprint: str) -> str:
        if field not in FIELDS:
            raise UsageError(f"no field '{field}'; known: {', '.join(FIELDS)}")
        return f"{field}:{fingerprint}"

    def _check_range(self, numbers: np.ndarray) -> None:
        wrong = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(wrong):
            rows = f"it has rows 0 to {len(self) - 1}" if len(self) else "it is empty"
            raise NotFoundError(f"no row {wrong[0]} in {self.path}; {rows}")


class _SeenIds:
    """Content ids of the rows on disk, kept between calls of `Table.add`.

    Ids of a write in progress are not added, so that a failed write can be repeated.
    """

    def __init__(self) -> None:
        self._on_disk: set[str] = set()
        self._num_rows = 0

    def up_to_date(self, ids: list[str]) -> _SeenIds:
        """Add the ids of new rows."""
        self._on_disk.update(ids[self._num_rows :])
        self._num_rows = len(ids)
        return self

    def new(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield samples that are not on disk, each content once."""
        passed: set[str] = set()
        for sample in samples:
            if sample.id not in self._on_disk and sample.id not in passed:
                passed.add(sample.id)
                yield sample


def batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Group samples into batches for one commit each, limited in rows and bytes."""
    batch: list[Sample] = []
    size = 0
    for sample in samples:
        batch.append(sample)
        size += sample.num_bytes
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
