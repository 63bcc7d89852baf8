"""Downloads the media that rows name by URL: concurrently, with limits per host, delays and retries.

Input: items, some with URLs (from `tabular`). Output: the same items with bytes, in the order in which
downloads finish, or a `Failure`. `http` makes a single request. Like img2dataset it does not read
`robots.txt`, but honours the `X-Robots-Tag` header.
"""

from __future__ import annotations

import random
import time
import urllib.parse
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from sensorium.core.errors import UsageError
from sensorium.data.ingest.sources import http
from sensorium.data.ingest.sources.item import Failure, Item, one_line

_IDLE_S = 0.5


@dataclass(frozen=True)
class Politeness:
    """Limits on requests to web servers.

    Attributes:
        num_connections: Concurrent requests.
        per_host: Concurrent requests to one host.
        delay_s: Minimum time between the starts of two requests to one host.
        num_retries: Retries after a transient failure.
        backoff_s: Wait before the first retry; doubled for each further one, with jitter.
        max_wait_s: Longest `Retry-After` that is obeyed; a longer one ends the retries.
        timeout_s: Time limit for one URL.
        allow_private: Whether addresses that are not public are allowed.
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
    """The blob of an item to download, and the number of attempts so far."""

    item: Item
    index: int
    num_tries: int = 0
    not_before: float = 0.0

    @property
    def url(self) -> str:
        return self.item.blobs[self.index].url or ""

    @property
    def host(self) -> str:
        try:
            return urllib.parse.urlsplit(self.url).hostname or ""
        except ValueError:
            return ""


class Fetcher:
    """Downloads the URLs in a stream of items.

    Args:
        politeness: Limits on requests.
        max_bytes: Largest size of one medium.
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
        """Yield each item when its URLs are downloaded, or a failure; items without URLs pass at once.

        At most eight items per connection wait, which bounds the memory.
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
        index = _next_url(item)
        assert index is not None
        job = _Job(item, index)
        self._queues[job.host].append(job)

    def _start(self, threads: ThreadPoolExecutor) -> None:
        """Start the requests that the limits allow now."""
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
        """Wait until a request ends or may start; yield the complete items."""
        if not self._running:
            time.sleep(self._pause())
            return
        done, _ = wait(self._running, timeout=self._pause(), return_when=FIRST_COMPLETED)
        for future in done:
            job = self._running.pop(future)
            self._busy[job.host] -= 1
            try:
                blobs = list(job.item.blobs)
                blobs[job.index] = replace(blobs[job.index], data=future.result())
                item = replace(job.item, blobs=tuple(blobs))
            except http.Refusal as refusal:
                if not self._retry(job, refusal):
                    yield Failure(job.url, "fetch", str(refusal))
                continue
            except Exception as error:  # a bad answer costs only its row
                yield Failure(job.url, "fetch", one_line(f"{type(error).__name__}: {error}"))
                continue
            if _next_url(item) is None:
                yield item
            else:
                self._enqueue(item)

    def _retry(self, job: _Job, refusal: http.Refusal) -> bool:
        """Queue a job again if a retry is allowed and may help; return whether it was queued."""
        limits, wait_s = self._politeness, refusal.retry_after_s or 0.0
        if not refusal.is_transient or job.num_tries >= limits.num_retries or wait_s > limits.max_wait_s:
            return False
        backoff = limits.backoff_s * 2**job.num_tries * (1 + random.random() / 2)
        now = time.monotonic()
        if wait_s:
            self._free_at[job.host] = max(self._free_at[job.host], now + wait_s)
        job.num_tries += 1
        job.not_before = now + max(backoff, wait_s)
        self._queues[job.host].append(job)
        return True

    def _pause(self) -> float:
        """Time until a waiting job may start, at most `_IDLE_S`."""
        now = time.monotonic()
        starts = [
            max(self._free_at[host], min(job.not_before for job in queue))
            for host, queue in self._queues.items()
            if queue and self._busy[host] < self._politeness.per_host
        ]
        return max(0.001, min([_IDLE_S, *(start - now for start in starts)]))


def _next_url(item: Item) -> int | None:
    """Index of the first blob that is not downloaded yet."""
    indices = (index for index, blob in enumerate(item.blobs) if blob.url is not None and blob.data is None)
    return next(indices, None)
