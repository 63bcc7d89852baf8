"""Append-only Lance dataset: one process writes at a time, any number reads by position.

Input and output are Arrow tables. The position of a row is its insertion order: rows are never updated or
deleted, and compaction keeps the order. Measurements: `docs/adr/001-vectors-beside-rows.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import filelock
import lance
import numpy as np
import pyarrow as pa

from sensorium.core.errors import NotFoundError, SensoriumError, TableError, UsageError
from sensorium.core.files import storage_error

T = TypeVar("T")
LOCK_WAIT_S = 5.0
MANY_FRAGMENTS = 16
FRAGMENT_BYTES = 512 * 1024 * 1024
KEEP_VERSIONS_FOR = timedelta(minutes=10)


@contextmanager
def wrap_errors(path: Path, failed: str = "cannot be read", remedy: str = "") -> Iterator[None]:
    """Convert any error of Lance and Arrow, also panics of their native code, to one of ours.

    Args:
        path: The dataset.
        failed: The failed operation, for the message.
        remedy: The next step, for the message; "": the usual one for this dataset.

    Raises:
        StorageError: If the disk is the cause.
        TableError: Otherwise.
    """
    try:
        yield
    except (SensoriumError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic is not an Exception
        message = f"{path} {failed}: {_reason(error)}; {remedy or remedy_for(path)}"
        if str(path).encode("utf-8", "replace") != str(path).encode("utf-8", "surrogatepass"):
            message = f"{path} {failed}: its path is not UTF-8; rename its folder"
        raise storage_error(error, path, failed) or TableError(message) from error


def remedy_for(path: Path) -> str:
    """The next step for the user if the dataset at `path` is damaged."""
    if path.name.startswith("vectors-"):
        return f"delete that folder, then run: sensorium embed {path.parent} --model RUN"
    if path.name.startswith("features-"):
        return "delete that folder: its content is computed again when needed"
    if path.name.startswith("ann-"):
        return f"run: sensorium data index {path.parent}"
    return "restore it from a copy, or prepare the table again"


@contextmanager
def locked(path: Path, wait_s: float, busy: str) -> Iterator[None]:
    """Hold the lock of the dataset at `path`; the system releases it if the process dies.

    Args:
        path: The dataset; the lock file is beside it.
        wait_s: How long to wait for another process.
        busy: What the other process does, for the message.

    Raises:
        TableError: If another process holds the lock for longer.
        StorageError: If the folder is not writable.
    """
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=wait_s)
    except filelock.Timeout as error:
        raise TableError(f"{path} {busy} by another process; wait for it or stop it") from error
    except OSError as error:
        message = f"{path} cannot be locked: {_reason(error)}; choose another folder"
        raise storage_error(error, path) or TableError(message) from error
    try:
        yield
    finally:
        lock.release()


class Store:
    """An append-only Lance dataset.

    Args:
        path: Its folder.
        dataset: The opened dataset.
        is_numbered: Whether column `row` is 0..n-1, as in the rows of a table; each read checks it.
    """

    def __init__(self, path: Path, dataset: lance.LanceDataset, *, is_numbered: bool = False) -> None:
        self.path = path
        self._dataset = dataset
        self._is_numbered = is_numbered
        self._kept: dict[str, list[str]] = {}

    @classmethod
    def create(cls, path: Path, schema: pa.Schema, *, is_numbered: bool = False) -> Store:
        """Create an empty dataset with `schema` and its metadata.

        Raises:
            TableError: If it exists already.
            StorageError: If the folder is not writable.
        """
        if cls.exists(path):
            raise TableError(f"{path} exists; open it, or choose another path")
        with wrap_errors(path, "cannot be created", "choose another path"):
            path.parent.mkdir(parents=True, exist_ok=True)
            dataset = lance.write_dataset(schema.empty_table(), path, schema=schema, mode="create")
        return cls(path, dataset, is_numbered=is_numbered)

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a complete dataset is here; one whose creation was killed does not count."""
        return any((path / "_versions").glob("*.manifest"))

    @staticmethod
    def is_vacant(folder: Path, name: str) -> bool:
        """Whether a folder is empty but for the remains of a killed creation of dataset `name`."""
        if not folder.is_dir() or Store.exists(folder / name):
            return False
        return all(path.name in (name, f".{name}.lock") for path in folder.iterdir())

    @classmethod
    def open(cls, path: Path, *, is_numbered: bool = False) -> Store:
        """Open the newest version.

        Raises:
            NotFoundError: If there is no such folder.
            TableError: If the folder holds no dataset, or a damaged one.
            StorageError: If it may not be read.
        """
        if not path.is_dir():
            raise NotFoundError(f"no dataset at {path}")
        with wrap_errors(path, "does not open as a Lance dataset"):
            dataset = lance.dataset(path)
        if dataset.version < (newest := _newest_version(path)):
            raise TableError(
                f"{path} lacks its newest version {newest} and would show an older state; {remedy_for(path)}"
            )
        return cls(path, dataset, is_numbered=is_numbered)

    @property
    def schema(self) -> pa.Schema:
        """Columns and metadata of the dataset."""
        return self._dataset.schema

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata given at creation."""
        with wrap_errors(self.path):
            return {key.decode(): value.decode() for key, value in (self.schema.metadata or {}).items()}

    @property
    def dataset(self) -> lance.LanceDataset:
        """The Lance dataset itself, to build an index."""
        return self._dataset

    @property
    def num_fragments(self) -> int:
        """Number of fragments (files)."""
        return len(self._dataset.get_fragments())

    def __len__(self) -> int:
        return int(self._dataset.count_rows())

    def refresh(self) -> None:
        """Switch to the newest version."""
        with wrap_errors(self.path):
            self._dataset.checkout_latest()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock and switch to the newest version (errors: see `locked`)."""
        with locked(self.path, LOCK_WAIT_S, "is being written"):
            self.refresh()
            yield

    def append(self, rows: pa.Table) -> None:
        """Add rows as one commit: after a crash all of them are stored, or none. Call inside `writing`.

        Raises:
            StorageError: If the disk is full.
        """
        with wrap_errors(self.path, "cannot be written"):
            self._dataset.insert(rows.cast(self._plain_schema))

    def take(self, positions: Sequence[int] | np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Read rows by position, in the given order; repeats are allowed.

        Raises:
            TableError: If the files are damaged.
        """
        rows = np.asarray(positions, dtype=np.int64)
        if not len(rows):
            return pa.schema([self.schema.field(name) for name in columns]).empty_table()
        names = self._with_number(columns)
        found = self._read(lambda dataset: dataset.take(rows.tolist(), columns=names))
        return self._checked(found, rows).select(list(columns))

    def scan(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """Read columns of all rows in order, or of those that match a SQL filter.

        Raises:
            UsageError: If the filter does not parse or names no column.
            TableError: If the files are damaged.
        """
        names = self._with_number(columns)
        if where is None:
            found = self._read(lambda dataset: dataset.to_table(columns=names, scan_in_order=True))
            return self._checked(found, np.arange(len(self))).select(list(columns))
        try:
            self._dataset.scanner(columns=list(columns), filter=where).explain_plan()
        except (ValueError, OSError) as error:
            known = ", ".join(self.schema.names)
            raise UsageError(f"filter '{where}': {_reason(error)}; columns: {known}") from error
        try:
            found = self._read(
                lambda dataset: dataset.to_table(columns=names, filter=where, scan_in_order=True)
            )
        except TableError as error:
            self.scan(columns)  # if this succeeds, the filter is the cause: a cast or a division by 0
            raise UsageError(f"filter '{where}': {_reason(error.__cause__ or error)}") from error
        if self._is_numbered and not _is_rising(_numbers(found), len(self)):
            raise self._disorder()
        return found.select(list(columns))

    def cached_column(self, column: str) -> list[str]:
        """A column of texts, cached: rows never change, so later calls read only new rows."""
        kept = self._kept.setdefault(column, [])
        if len(kept) < len(self):
            more = self.take(range(len(kept), len(self)), [column]) if kept else self.scan([column])
            with wrap_errors(self.path):
                kept += more[column].to_pylist()
        return kept

    def optimize(self) -> None:
        """Merge small fragments if there are many, and delete versions that no reader still uses."""
        with self.writing(), wrap_errors(self.path, "cannot be compacted"):
            if self.num_fragments >= MANY_FRAGMENTS:
                self._dataset.optimize.compact_files(target_rows_per_fragment=self._fragment_rows())
                self.refresh()
            self._dataset.cleanup_old_versions(older_than=KEEP_VERSIONS_FOR)

    @property
    def _plain_schema(self) -> pa.Schema:
        return self.schema.remove_metadata()

    def _fragment_rows(self) -> int:
        """Rows of a full fragment; full fragments are not rewritten at each optimize."""
        size = sum(file.stat().st_size for file in (self.path / "data").rglob("*.lance"))
        return int(min(1 << 20, max(1024, FRAGMENT_BYTES * len(self) // max(size, 1))))

    def _read(self, read: Callable[[lance.LanceDataset], T]) -> T:
        """Read, and once more from the newest version if another process has compacted the files."""
        with wrap_errors(self.path):
            try:
                return read(self._dataset)
            except (OSError, ValueError, RuntimeError):
                self.refresh()
                return read(self._dataset)

    def _with_number(self, columns: Sequence[str]) -> list[str]:
        return list(dict.fromkeys([*columns, "row"] if self._is_numbered else columns))

    def _checked(self, found: pa.Table, rows: np.ndarray) -> pa.Table:
        """`found`, if it has exactly the given rows."""
        if len(found) != len(rows) or (self._is_numbered and not np.array_equal(_numbers(found), rows)):
            raise self._disorder()
        return found

    def _disorder(self) -> TableError:
        return TableError(
            f"{self.path}: rows are missing or out of order (another program changed it); "
            f"{remedy_for(self.path)}"
        )


def _newest_version(path: Path) -> int:
    """The version that Lance writes to a hint file at each commit; 0 if the file is missing or damaged."""
    try:
        return int(json.loads((path / "_versions" / "latest_version_hint.json").read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return 0


def _numbers(found: pa.Table) -> np.ndarray:
    column = found["row"]
    return np.asarray((column.fill_null(-1) if column.null_count else column).to_numpy())


def _is_rising(numbers: np.ndarray, below: int) -> bool:
    """Whether row numbers are strictly ascending and within 0..below-1."""
    return not len(numbers) or bool(
        numbers[0] >= 0 and numbers[-1] < below and np.all(numbers[1:] > numbers[:-1])
    )


def _reason(error: BaseException) -> str:
    """The first line of a message, without source positions of the library."""
    if isinstance(error, UnicodeError):
        return "a text or a name is not UTF-8"
    text = re.sub(r",?\s*(/\S+|[A-Z]:\\\S+)?\.rs:\d+(:\d+)?", "", str(error).split(" Valid fields")[0])
    while (short := _PREFIX.sub("", text)) != text:
        text = short
    return (text.strip().splitlines() or [type(error).__name__])[0][:200].rstrip(" .;,")


_PREFIX = re.compile(
    r"^(LanceError\(\w+\)|External error|Invalid user input|Schema error|Generic [\w/]+ error): "
)
