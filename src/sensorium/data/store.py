"""One Lance dataset that only grows: appended durably by one writer, read by position by anyone.

What comes in are Arrow tables, what goes out too. It knows no media. Position equals insertion order
always: nothing here updates or deletes, and compaction keeps the order. Figures: `docs/adr/001-vectors-
beside-rows.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import filelock
import lance
import numpy as np
import pyarrow as pa

from sensorium.core.errors import NotFoundError, TableError, UsageError

T = TypeVar("T")
LOCK_WAIT_S = 5.0
MANY_FRAGMENTS = 16
FRAGMENT_BYTES = 512 * 1024 * 1024
KEEP_VERSIONS_FOR = timedelta(minutes=10)


class Store:
    """An append-only Lance dataset."""

    def __init__(self, path: Path, dataset: lance.LanceDataset) -> None:
        self.path = path
        self._dataset = dataset
        self._kept: dict[str, list[str]] = {}

    @classmethod
    def create(cls, path: Path, schema: pa.Schema) -> Store:
        """Make an empty dataset; `schema.metadata` is kept with it.

        Raises:
            TableError: If one is there already.
        """
        if cls.exists(path):
            raise TableError(f"{path} exists; open it, or choose another path")
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, lance.write_dataset(schema.empty_table(), path, schema=schema, mode="create"))

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a dataset was created here; one whose creation was killed does not count."""
        return any((path / "_versions").glob("*.manifest"))

    @staticmethod
    def is_vacant(folder: Path, name: str) -> bool:
        """Whether dataset `name` may be made in a folder: empty, or with what a killed creation left."""
        if not folder.is_dir() or Store.exists(folder / name):
            return False
        return all(path.name in (name, f".{name}.lock") for path in folder.iterdir())

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the newest version.

        Raises:
            NotFoundError: If there is no such folder.
            TableError: If the folder holds no dataset, or a damaged one.
        """
        if not path.is_dir():
            raise NotFoundError(f"no dataset at {path}")
        try:
            return cls(path, lance.dataset(path))
        except (ValueError, OSError) as error:
            raise TableError(f"{path} does not open as a Lance dataset: {_first_line(error)}") from error

    @property
    def schema(self) -> pa.Schema:
        """Columns and metadata."""
        return self._dataset.schema

    @property
    def metadata(self) -> Mapping[str, str]:
        """Text kept with the dataset at creation."""
        return {key.decode(): value.decode() for key, value in (self.schema.metadata or {}).items()}

    @property
    def dataset(self) -> lance.LanceDataset:
        """The Lance dataset itself: for building an index on it."""
        return self._dataset

    @property
    def num_fragments(self) -> int:
        """How many pieces it lies in."""
        return len(self._dataset.get_fragments())

    def __len__(self) -> int:
        return int(self._dataset.count_rows())

    def refresh(self) -> None:
        """Move on to the newest version."""
        self._dataset.checkout_latest()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the only right to write here; it falls back when the process dies.

        Raises:
            TableError: If another process writes to this dataset for longer than a few seconds.
        """
        lock = filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=LOCK_WAIT_S)
        except filelock.Timeout as error:
            raise TableError(
                f"{self.path} is being written by another process; wait for it or stop it"
            ) from error
        try:
            self.refresh()
            yield
        finally:
            lock.release()

    def append(self, rows: pa.Table) -> None:
        """Add rows as one commit: after a crash all of them are there, or none. Call within `writing`."""
        self._dataset.insert(rows.cast(self._plain_schema))

    def take(self, positions: Sequence[int] | np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Read rows by position, in the order asked; repeats are allowed."""
        places = np.asarray(positions, dtype=np.int64)
        if not len(places):
            return pa.schema([self.schema.field(name) for name in columns]).empty_table()
        return self._read(lambda dataset: dataset.take(places.tolist(), columns=list(columns)))

    def scan(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """Read columns of all rows in order, or of those that a SQL filter keeps.

        Raises:
            UsageError: If the filter does not parse or names no column.
        """
        if where is None:
            return self._read(lambda dataset: dataset.to_table(columns=list(columns), scan_in_order=True))
        try:
            self._dataset.scanner(columns=list(columns), filter=where).explain_plan()
        except (ValueError, OSError) as error:
            known = ", ".join(self.schema.names)
            raise UsageError(f"filter '{where}': {_first_line(error)}; columns: {known}") from error
        return self._read(
            lambda dataset: dataset.to_table(columns=list(columns), filter=where, scan_in_order=True)
        )

    def kept(self, column: str) -> list[str]:
        """A column of texts, kept from call to call: rows never change, so only new ones are read."""
        kept = self._kept.setdefault(column, [])
        if not kept:
            kept += self.scan([column])[column].to_pylist()
        elif len(kept) < len(self):
            kept += self.take(range(len(kept), len(self)), [column])[column].to_pylist()
        return kept

    def optimize(self) -> None:
        """Merge small fragments where there are many and drop versions that no reader can still use."""
        with self.writing():
            if self.num_fragments >= MANY_FRAGMENTS:
                self._dataset.optimize.compact_files(target_rows_per_fragment=self._fragment_rows())
                self.refresh()
            self._dataset.cleanup_old_versions(older_than=KEEP_VERSIONS_FOR)

    @property
    def _plain_schema(self) -> pa.Schema:
        return self.schema.remove_metadata()

    def _fragment_rows(self) -> int:
        """Rows that fill a fragment: what is full already is not rewritten at each optimize."""
        size = sum(file.stat().st_size for file in (self.path / "data").rglob("*.lance"))
        return int(min(1 << 20, max(1024, FRAGMENT_BYTES * len(self) // max(size, 1))))

    def _read(self, read: Callable[[lance.LanceDataset], T]) -> T:
        """Read; where another process merged the files away meanwhile, once more from the newest version."""
        try:
            return read(self._dataset)
        except (OSError, ValueError, RuntimeError):
            self.refresh()
            return read(self._dataset)


def _first_line(error: Exception) -> str:
    text = str(error).split(", /")[0].split(" Valid fields")[0].splitlines()[0]
    return text.removeprefix("Invalid user input: ").removeprefix("Schema error: ")
