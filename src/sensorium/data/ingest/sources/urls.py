"""Fetching what rows name by URL: many at a time, few from one host, patient with servers.

In: items, some of whose media are URLs (from `tabular`). Out: the same items with bytes, in the order in
which they arrive, or a `Failure`. What a single request may do is `http`'s business. `robots.txt` is not
read, as img2dataset does not read it; response headers are honoured.
"""

from __future__ import annotations

import random
import time
import urllib.parse
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from sensorium.core.errors import UsageError
from sensorium.data.ingest.sources import http, tabular
from sensorium.data.ingest.sources.item import Blob, Failure, Item, one_line

_IDLE_S = 0.5


@dataclass(frozen=True)
class Politeness:
    """How servers are treated.

    Attributes:
        num_connections: Requests under way at a time.
        per_host: Of these, to one host.
        delay_s: Least time between the starts of two requests to one host.
        num_retries: Further tries after a failure that may pass.
        backoff_s: Wait before the first further try; doubled for each next one, with jitter.
        max_wait_s: Longest wait that a server may ask for; one that asks for more is not asked again.
        timeout_s: Time for one URL.
        allow_private: Whether addresses that are not public may be reached.
    """

    num_connections: int = 32
    per_host: int = 4
    delay_s: float = 0.1
    num_retries: int = 2
    backoff_s: float = 1.0
    max_wait_s: float = 60.0
    timeout_s: float = 30.0
    allow_private: bool = False

    def __post_init__(self) -> None:
        if min(self.num_connections, self.per_host) < 1 or self.timeout_s <= 0:
            raise UsageError(f"{self}: connections and times must be positive")


@dataclass
class _Job:
    """A URL of an item and how often it was tried."""

    item: Item
    place: int
    num_tries: int = 0
    not_before: float = 0.0

    @property
    def url(self) -> str:
        return self.item.blobs[self.place].url or ""

    @property
    def host(self) -> str:
        try:
            return urllib.parse.urlsplit(self.url).hostname or ""
        except ValueError:
            return ""


def items(
    path: Path, *, columns: Mapping[str, Sequence[str]] | None = None, politeness: Politeness | None = None
) -> Iterator[Item | Failure]:
    """List the rows of a table file and fetch what they name by URL (see `tabular.items`)."""
    listed = tabular.items(path, columns=columns)
    return Fetcher(politeness or Politeness(), http.Bounds().max_bytes).fetch(listed)


class Fetcher:
    """Fetches the URLs in a stream of items.

    Args:
        politeness: How servers are treated.
        max_bytes: Size of one medium.
    """

    def __init__(self, politeness: Politeness, max_bytes: int) -> None:
        self._politeness = politeness
        self._bounds = http.Bounds(
            max_bytes=max_bytes, timeout_s=politeness.timeout_s, allow_private=politeness.allow_private
        )
        self._queues: dict[str, deque[_Job]] = defaultdict(deque)
        self._busy: dict[str, int] = defaultdict(int)
        self._free_at: dict[str, float] = defaultdict(float)
        self._running: dict[Future[bytes], _Job] = {}

    def fetch(self, stream: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
        """Yield each item once its URLs are bytes, or a failure; what names no URL passes at once.

        At most eight items a connection are held back, so that memory is bounded.
        """
        source = iter(stream)
        is_open = True
        with ThreadPoolExecutor(self._politeness.num_connections, thread_name_prefix="fetch") as threads:
            try:
                while is_open or self._num_waiting or self._running:
                    while is_open and self._num_waiting < 8 * self._politeness.num_connections:
                        entry = next(source, None)
                        if entry is None:
                            is_open = False
                        elif isinstance(entry, Failure) or _next_url(entry) is None:
                            yield entry
                        else:
                            self._enqueue(entry)
                    if self._num_waiting or self._running:
                        self._start(threads)
                        yield from self._finished()
            finally:
                for future in self._running:
                    future.cancel()

    @property
    def _num_waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def _enqueue(self, item: Item) -> None:
        place = _next_url(item)
        assert place is not None
        job = _Job(item, place)
        self._queues[job.host].append(job)

    def _start(self, threads: ThreadPoolExecutor) -> None:
        """Start whatever the hosts' limits permit now."""
        for host in [name for name, queue in self._queues.items() if queue]:
            queue = self._queues[host]
            for _ in range(len(queue)):
                now = time.monotonic()
                has_room = len(self._running) < self._politeness.num_connections
                if not has_room or self._busy[host] >= self._politeness.per_host or now < self._free_at[host]:
                    break
                job = queue.popleft()
                if now < job.not_before:
                    queue.append(job)
                    continue
                self._busy[host] += 1
                self._free_at[host] = now + self._politeness.delay_s
                self._running[threads.submit(http.get, job.url, self._bounds)] = job
        for host in [name for name, queue in self._queues.items() if not queue]:
            del self._queues[host]

    def _finished(self) -> Iterator[Item | Failure]:
        """Wait until something ends or may start; yield what is complete."""
        if not self._running:
            time.sleep(self._pause())
            return
        done, _ = wait(self._running, timeout=self._pause(), return_when=FIRST_COMPLETED)
        for future in done:
            job = self._running.pop(future)
            self._busy[job.host] -= 1
            try:
                item = _with_bytes(job.item, job.place, future.result())
            except http.Refusal as refusal:
                if not self._retry(job, refusal):
                    yield Failure(job.url, "fetch", str(refusal))
                continue
            except Exception as error:  # whatever a server answers costs its own row only
                yield Failure(job.url, "fetch", one_line(f"{type(error).__name__}: {error}"))
                continue
            if _next_url(item) is None:
                yield item
            else:
                self._enqueue(item)

    def _retry(self, job: _Job, refusal: http.Refusal) -> bool:
        """Put a job back if that makes sense; say whether it was."""
        asked = refusal.retry_after_s or 0.0
        if (
            not refusal.is_transient
            or job.num_tries >= self._politeness.num_retries
            or asked > self._politeness.max_wait_s
        ):
            return False
        backoff = self._politeness.backoff_s * 2**job.num_tries * (1 + random.random() / 2)
        now = time.monotonic()
        if asked:
            self._free_at[job.host] = max(self._free_at[job.host], now + asked)
        job.num_tries += 1
        job.not_before = now + max(backoff, asked)
        self._queues[job.host].append(job)
        return True

    def _pause(self) -> float:
        """Time until a waiting job may start, within reason."""
        now = time.monotonic()
        starts = [
            max(self._free_at[host], min(job.not_before for job in queue))
            for host, queue in self._queues.items()
            if queue and self._busy[host] < self._politeness.per_host
        ]
        return max(0.001, min([_IDLE_S, *(start - now for start in starts)]))


def _next_url(item: Item) -> int | None:
    """Place of the first medium that is still to be fetched."""
    places = (place for place, blob in enumerate(item.blobs) if blob.url is not None and blob.data is None)
    return next(places, None)


def _with_bytes(item: Item, place: int, data: bytes) -> Item:
    blobs: list[Blob] = list(item.blobs)
    blobs[place] = replace(blobs[place], data=data)
    return replace(item, blobs=tuple(blobs))
