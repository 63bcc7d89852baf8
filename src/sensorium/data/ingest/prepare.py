"""`sensorium data prepare`: from a source to a media table, row by row, over any accident.

In: a folder, a table file, tars, or `Item`s. Out: rows in the table, bad inputs in `errors.jsonl` beside
it, and the counts. What is listed unchanged since an earlier run is not read again (its stamp is kept
with the row); what is read and already there (same content id) is not added again. Batches are committed
as they fill, so a killed run loses nothing that was reported, and the next run goes on. Rows keep the
order of the source. No input ends a run: what cannot be listed, read, fetched, decoded or stored is one
line with its reason.
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
from sensorium.data.table.table import Table
from sensorium.media import Limits

BATCH_ROWS = 1024
BATCH_BYTES = 64 * 1024 * 1024
BATCH_S = 15.0
"""A batch is committed when it has so many rows or bytes, or is so old."""

_STAMP_CHUNK = 65_536
_BOXED: tuple[tuple[Callable[[Path], bool], Callable[..., Iterator[Item | Failure]]], ...] = (
    (coco.is_coco, coco.items),
    (odvg.is_odvg, odvg.items),
    (flickr30k_entities.is_entities, flickr30k_entities.items),
    (refcoco.is_refcoco, refcoco.items),
)
"""Formats with phrases and boxes, told by their content."""


@dataclass(frozen=True)
class Options:
    """How to prepare a table.

    Attributes:
        columns: For table files: role to columns (see `sources.tabular.items`).
        root: For table files and annotations: folder that media paths may not leave.
        source: Name of the collection; "" takes the name of the folder or file.
        licence: Licence of rows that state none.
        limits: Bounds on each medium.
        isolate: Decode each medium in a subprocess with a memory limit of its own.
        num_workers: Worker processes; None = one a core, at most 8; 0 = none.
        politeness: How URLs are fetched.
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
    """What a run did.

    Attributes:
        rows: Rows in the table afterwards.
        added: Rows added by this run.
        failed: Inputs that gave no row.
        duplicates: Inputs whose row was there already, from an earlier run or from an equal input.
    """

    rows: int
    added: int
    failed: int
    duplicates: int


def prepare(
    src: str | Path, out: str | Path, options: Options | None = None, *, progress: Progress = quiet
) -> Counts:
    """Fill a table from a source; the table is made if it is not there.

    Args:
        src: A folder, a CSV/TSV/JSONL/Parquet file, a `.tar`, or a pattern of tars (`shards-{000..099}.tar`);
            with phrases and boxes: COCO JSON, ODVG JSONL, folders of Flickr30k Entities or RefCOCO.
        out: The table.
        options: How; None for the defaults.
        progress: Told how many inputs are done.

    Raises:
        NotFoundError: If there is no such source.
        UsageError: If it is of no known kind, or a column is unknown.
        TableError: If `out` exists and is not a media table.
    """
    chosen = Options() if options is None else options
    path = Path(out)
    stream = _begun(list_items(src, chosen), src)
    if Path(os.path.abspath(src)) == Path(os.path.abspath(out)):
        raise UsageError(f"{src} is both source and table; choose another path for the table")
    table = Table.open(path) if path.exists() else Table.create(path, licence=chosen.licence)
    return fill(table, stream, chosen, progress=progress)


def list_items(src: str | Path, options: Options) -> Iterator[Item | Failure]:
    """Choose the source that reads `src` and list what it finds.

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
        raise UsageError(f"cannot read {src}: {reason}; check its path and rights") from error


SOURCES: Registry[Iterator[Item | Failure]] = Registry("source")
"""Sources of plug-ins: `NAME:PLACE` is listed by the source of that name."""


def _source(src: str | Path, options: Options) -> Iterator[Item | Failure]:
    path = Path(src)
    name, colon, place = str(src).partition(":")
    if colon and not path.exists() and name in SOURCES:
        if options.columns or options.root is not None:
            raise UsageError(f"--map and --root are for table files, and {src} is none; leave them out")
        return SOURCES.build(name, place=place, source=options.source or name)
    boxed = next((read for is_one, read in _BOXED if is_one(path)), None)
    if boxed is not None and not options.columns:
        return boxed(path, root=options.root, source=options.source)
    is_table = path.is_file() and path.suffix.lower() in table_rows.SUFFIXES
    if not is_table and (options.columns or options.root is not None):
        raise UsageError(f"--map and --root are for table files, and {src} is none; leave them out")
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
            f"{src} is no source; expected a folder, {', '.join(sorted(table_rows.SUFFIXES))} or .tar"
        )
    raise NotFoundError(f"nothing at {src}; give a folder, a table file or tars")


def _begun(stream: Iterator[Item | Failure], src: str | Path) -> Iterator[Item | Failure]:
    """Look at the first entry, so that a source which is refused leaves no table behind; guard the rest."""
    guarded = _guarded(stream, src)
    first = next(guarded, None)
    return itertools.chain([] if first is None else [first], guarded)


def _guarded(stream: Iterator[Item | Failure], src: str | Path) -> Iterator[Item | Failure]:
    """What a source lists; where it breaks off for a reason that it did not foresee, one failure."""
    try:
        yield from stream
    except SensoriumError:
        raise
    except Exception as error:
        reason = one_line(f"cannot be listed on: {type(error).__name__}: {error}")
        yield Failure(name_of(src), "read", reason)


def fill(
    table: Table, stream: Iterable[Item | Failure], options: Options, *, progress: Progress = quiet
) -> Counts:
    """Add to `table` what `stream` names; see the module for what is guaranteed."""
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
    """The state of one filling: what is known, what waits to be committed, what was counted."""

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
        """Pass on what has to be read; what is as it was when its row was made is counted here."""
        for entry in stream:
            if isinstance(entry, Item):
                item = self._named(entry)
                if item.stamp in self._stamps:
                    self._error_log.forget(item.uris)
                    self._duplicates += 1
                    self._report()
                    continue
                yield item
            else:
                yield entry

    def take(self, outcome: Outcome | Failure) -> None:
        """Count an outcome; its rows join the batch, its failures the error_log."""
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
        """Put the batch and the failures on disk."""
        if self._batch:
            added = self._add(self._batch)
            self._added += added
            self._duplicates += len(self._batch) - added
        self._error_log.flush()
        self._batch, self._batch_bytes, self._batch_start = [], 0, time.monotonic()
        self._report()

    def close(self) -> None:
        """Commit what is left, also after an interrupt, and leave the table and the error_log tidy."""
        self.commit()
        self._error_log.close()
        if self._added:
            self._table.optimize()

    def counts(self) -> Counts:
        """What was done so far."""
        return Counts(len(self._table), self._added, self._failed, self._duplicates)

    def _add(self, batch: list[Sample]) -> int:
        """Write rows; where one of them cannot be stored, the others are."""
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
        """Whether a row has no form in the table; that is told."""
        try:
            to_arrow([sample], 0)
        except Exception as error:  # Arrow raises whatever it likes over a value
            self._fail(Failure(sample.uri, "store", one_line(f"{type(error).__name__}: {error}")))
            return True
        return False

    def _named(self, item: Item) -> Item:
        return item if item.licence else replace(item, licence=self._options.licence)

    def _offer(self, sample: Sample) -> None:
        if sample.id in self._ids:
            self._duplicates += 1
            return
        self._ids.add(sample.id)
        self._batch.append(sample)
        self._batch_bytes += _num_bytes(sample)

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
    """Stamps of the rows that are there."""
    found: set[str] = set()
    for start in range(0, len(table), _STAMP_CHUNK):
        numbers = range(start, min(start + _STAMP_CHUNK, len(table)))
        found.update(str(row.meta.get(STAMP, "")) for row in table.rows(numbers, columns=["meta"]))
    return found - {""}


def _num_bytes(sample: Sample) -> int:
    media = (sample.image, sample.audio, sample.video, *(clip.data for clip in sample.speech))
    return sum(len(data) for data in media if data is not None)
