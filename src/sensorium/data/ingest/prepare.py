"""`sensorium data prepare`: fills a media table from a folder, a table file, tars, or `Item`s.

Output: rows in the order of the source, failed inputs in `errors.jsonl` beside the table, and counts.

- A bad input never stops the run: it becomes one line with the reason.
- Batches are committed as they fill. A killed run keeps what it reported, and the next run continues.
- An item whose stamp (paths, sizes, times) is in the table is not read again. A row whose content id is in
  the table is not added again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sensorium.core.errors import NotFoundError, SensoriumError, UsageError
from sensorium.core.registry import Registry
from sensorium.core.runtime import Progress, quiet
from sensorium.data.ingest.errors import ErrorLog
from sensorium.data.ingest.sources import (
    Failure,
    Item,
    coco,
    flickr30k_entities,
    folder,
    odvg,
    refcoco,
    table_rows,
    tabular,
    webdataset,
)
from sensorium.data.ingest.sources.item import name_of, one_line
from sensorium.data.ingest.sources.urls import Fetcher, Politeness
from sensorium.data.ingest.validate import STAMP, Outcome
from sensorium.data.ingest.workers import WorkerPool
from sensorium.data.table.sample import Sample
from sensorium.data.table.schema import to_arrow
from sensorium.data.table.table import BATCH_BYTES, BATCH_ROWS, Table
from sensorium.media import Limits

BATCH_S = 15.0
"""A batch is committed when it reaches this many rows or bytes, or this age."""

_STAMP_CHUNK = 65_536
_BOX_FORMATS: tuple[tuple[Callable[[Path], bool], Callable[..., Iterator[Item | Failure]]], ...] = (
    (coco.is_coco, coco.items),
    (odvg.is_odvg, odvg.items),
    (flickr30k_entities.is_entities, flickr30k_entities.items),
    (refcoco.is_refcoco, refcoco.items),
)
"""Formats with phrases and boxes: a test of the content, and the source that reads it."""


@dataclass(frozen=True)
class Options:
    """Options of `prepare`.

    Attributes:
        columns: For table files: role to columns (see `sources.tabular.items`).
        root: For table files and annotations: media paths must lie inside this folder.
        source: Name of the collection; "" uses the name of the folder or file.
        licence: Licence of rows that state none.
        limits: Limits of each medium.
        isolate: Decode each medium in a subprocess with its own memory limit.
        num_workers: Worker processes; None: one per core, at most 8; 0: decode in this process.
        politeness: Limits on requests to web servers.
    """

    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    root: Path | None = None
    source: str = ""
    licence: str = ""
    limits: Limits = field(default_factory=Limits)
    isolate: bool = False
    num_workers: int | None = None
    politeness: Politeness = field(default_factory=Politeness)


@dataclass(frozen=True)
class Counts:
    """Counts of one run.

    Attributes:
        rows: Rows in the table after the run.
        added: Rows added by this run.
        failed: Inputs that gave no row.
        duplicates: Inputs whose row was in the table already, from an earlier run or an equal input.
    """

    rows: int
    added: int
    failed: int
    duplicates: int


def prepare(
    src: str | Path, out: str | Path, options: Options | None = None, *, progress: Progress = quiet
) -> Counts:
    """Fill a table from a source; create the table if it does not exist.

    Args:
        src: A folder, a CSV/TSV/JSONL/Parquet file, a `.tar`, or a pattern of tars (`shards-{000..099}.tar`);
            with phrases and boxes: COCO JSON, ODVG JSONL, folders of Flickr30k Entities or RefCOCO.
        out: The table.
        options: Options; None for the defaults.
        progress: Reports the number of inputs done.

    Raises:
        NotFoundError: If there is no such source.
        UsageError: If the source is of no known kind, or a column is unknown.
        TableError: If `out` exists and is not a media table.
    """
    chosen = Options() if options is None else options
    path = Path(out)
    stream = _guarded(list_items(src, chosen), src)
    first = list(itertools.islice(stream, 1))  # a source that is refused raises before a table is created
    if Path(os.path.abspath(src)) == Path(os.path.abspath(out)):
        raise UsageError(f"{src} is both source and table; choose another path for the table")
    table = Table.open(path) if path.exists() else Table.create(path, licence=chosen.licence)
    return fill(table, itertools.chain(first, stream), chosen, progress=progress)


def list_items(src: str | Path, options: Options) -> Iterator[Item | Failure]:
    """Choose the source module for `src` and list its items.

    Raises:
        NotFoundError: If there is nothing at `src`.
        UsageError: If no source reads it, or an option does not apply to it.
    """
    try:
        return _source(src, options)
    except SensoriumError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot read {src}: {reason}; check its path and permissions") from error


SOURCES: Registry[Iterator[Item | Failure]] = Registry("source")
"""Sources of plug-ins: `NAME:PLACE` is read by the source registered as NAME."""


def _source(src: str | Path, options: Options) -> Iterator[Item | Failure]:
    path = Path(src)
    name, colon, place = str(src).partition(":")
    is_plug_in = bool(colon) and not path.exists() and name in SOURCES
    boxes = next((read for is_one, read in _BOX_FORMATS if is_one(path)), None)
    if not is_plug_in and boxes is not None and not options.columns:
        return boxes(path, root=options.root, source=options.source)
    is_table = path.is_file() and path.suffix.lower() in table_rows.SUFFIXES
    if not is_table and (options.columns or options.root is not None):
        raise UsageError(f"--map and --root apply to table files, which {src} is not; leave them out")
    if is_plug_in:
        return SOURCES.build(name, place=place, source=options.source or name)
    if is_table:
        return tabular.items(path, columns=options.columns, root=options.root, source=options.source)
    if path.is_dir():
        shards = webdataset.shards_in(path)
        return (
            webdataset.items(shards, source=options.source or path.resolve().name)
            if shards
            else folder.items(path, source=options.source)
        )
    shards = webdataset.expand(str(src))
    if shards:
        return webdataset.items(shards, source=options.source)
    if path.is_file():
        raise UsageError(
            f"{src} is not a source; expected a folder, {', '.join(sorted(table_rows.SUFFIXES))} or .tar"
        )
    raise NotFoundError(f"nothing at {src}; give a folder, a table file or tars")


def _guarded(stream: Iterator[Item | Failure], src: str | Path) -> Iterator[Item | Failure]:
    """The entries of a source; an unexpected exception ends them with one failure."""
    try:
        yield from stream
    except SensoriumError:
        raise
    except Exception as error:
        reason = one_line(f"cannot list further items: {type(error).__name__}: {error}")
        yield Failure(name_of(src), "read", reason)


def fill(
    table: Table, stream: Iterable[Item | Failure], options: Options, *, progress: Progress = quiet
) -> Counts:
    """Add the items of `stream` to `table`; see the module docstring for the guarantees."""
    run = _Run(table, options, progress)
    workers = min(os.cpu_count() or 1, 8) if options.num_workers is None else options.num_workers
    pool = WorkerPool(workers, options.limits, options.isolate)
    fetcher = Fetcher(options.politeness, options.limits.file_bytes)
    with contextlib.ExitStack() as stack:
        stack.callback(run.close)
        stack.enter_context(pool)
        for outcome in pool.map(fetcher.fetch(run.unseen(stream))):
            run.take(outcome)
    return run.counts()


class _Run:
    """State of one run: known stamps and ids, the batch to commit, the counts."""

    def __init__(self, table: Table, options: Options, progress: Progress) -> None:
        self._table = table
        self._options = options
        self._progress = progress
        self._error_log = ErrorLog(table.path)
        self._stamps = _stamps(table)
        self._ids = set(table.ids)
        self._batch: list[Sample] = []
        self._batch_bytes = 0
        self._batch_start = time.monotonic()
        self._added = self._failed = self._duplicates = 0

    def unseen(self, stream: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
        """Yield the entries to read; an item whose stamp is known is counted as a duplicate."""
        for entry in stream:
            if isinstance(entry, Failure):
                yield entry
                continue
            item = entry if entry.licence else replace(entry, licence=self._options.licence)
            if item.stamp in self._stamps:
                self._error_log.forget(item.uris)
                self._duplicates += 1
                self._report()
            else:
                yield item

    def take(self, outcome: Outcome | Failure) -> None:
        """Add the rows of an outcome to the batch and its failures to the error log."""
        if isinstance(outcome, Failure):
            self._fail(outcome)
        else:
            self._error_log.forget(outcome.item.uris)
            for failure in outcome.failures:
                self._fail(failure)
            for sample in outcome.samples:
                self._offer(sample)
        self._report()
        if self._is_full():
            self.commit()

    def commit(self) -> None:
        """Write the batch and the failures to disk."""
        if self._batch:
            added = self._add(self._batch)
            self._added += added
            self._duplicates += len(self._batch) - added
        self._error_log.flush()
        self._batch, self._batch_bytes, self._batch_start = [], 0, time.monotonic()
        self._report()

    def close(self) -> None:
        """Commit the rest (also after an interrupt), rewrite the error log and compact the table."""
        self.commit()
        self._error_log.close()
        if self._added:
            self._table.optimize()

    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(len(self._table), self._added, self._failed, self._duplicates)

    def _add(self, batch: list[Sample]) -> int:
        """Write rows; if some cannot be stored, write the others."""
        try:
            return self._table.add(batch)
        except OSError:  # a full disk
            raise
        except Exception:
            bad = [sample for sample in batch if self._is_refused(sample)]
            if not bad:
                raise
        for sample in bad:
            batch.remove(sample)
            self._ids.discard(sample.id)
        return self._table.add(batch)

    def _is_refused(self, sample: Sample) -> bool:
        """Whether a row cannot be converted to Arrow; adds a failure if so."""
        try:
            to_arrow([sample], 0)
        except Exception as error:  # Arrow raises many types over a bad value
            self._fail(Failure(sample.uri, "store", one_line(f"{type(error).__name__}: {error}")))
            return True
        return False

    def _offer(self, sample: Sample) -> None:
        if sample.id in self._ids:
            self._duplicates += 1
            return
        self._ids.add(sample.id)
        self._batch.append(sample)
        self._batch_bytes += sample.num_bytes

    def _fail(self, failure: Failure) -> None:
        self._failed += 1
        self._error_log.add(failure)

    def _is_full(self) -> bool:
        age = time.monotonic() - self._batch_start
        return len(self._batch) >= BATCH_ROWS or self._batch_bytes >= BATCH_BYTES or age >= BATCH_S

    def _report(self) -> None:
        done = self._added + len(self._batch) + self._failed + self._duplicates
        bad = f", {self._failed:,} failed" if self._failed else ""
        self._progress(done, None, f"prepare ({self._added:,} rows on disk{bad})")


def _stamps(table: Table) -> set[str]:
    """Stamps of the rows in the table."""
    found: set[str] = set()
    for start in range(0, len(table), _STAMP_CHUNK):
        numbers = range(start, min(start + _STAMP_CHUNK, len(table)))
        found.update(str(row.meta.get(STAMP, "")) for row in table.rows(numbers, columns=["meta"]))
    return found - {""}
