"""Pool of worker processes for `validate`: an item that hangs or crashes its worker costs only that item.

Input: items. Output: their outcomes, in the same order. Each worker is a new Python process
(`python -m sensorium.data.ingest.workers`) that reads pickles from stdin and writes pickles to stdout, so the
calling script is not imported again and needs no `__main__` guard. A worker that exceeds the time limit is
killed by its own alarm or by the pool. Where the system supports it, its memory is limited.
`multiprocessing` pools, also with kills as in `pebble`, import the calling script again.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from sensorium.core.errors import SensoriumError
from sensorium.data.ingest.sources.item import Failure, Item, one_line
from sensorium.data.ingest.validate import Outcome, validate, without_bytes
from sensorium.media import Limits

_HEADER = struct.Struct("<Q")
_START_S = 60.0
_GRACE_S = 2.0
_COMMAND = [sys.executable, "-m", "sensorium.data.ingest.workers"]


class WorkerPool:
    """Worker processes that validate items; use as a context manager.

    Args:
        num_workers: Number of processes; 0 validates in this process, without time and memory limits.
        limits: Limits of each medium; `timeout_s` and `memory_bytes` also apply to the worker.
        isolate: Also decode each medium in a subprocess of its own.
    """

    def __init__(self, num_workers: int, limits: Limits, isolate: bool = False) -> None:
        self.limits = limits
        self.isolate = isolate
        self.num_workers = num_workers
        self._threads = ThreadPoolExecutor(max(num_workers, 1), thread_name_prefix="workers")
        self._local = threading.local()
        self._workers: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=kind is None, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown(wait=True)

    def map(self, jobs: Iterable[Item | Failure]) -> Iterator[Outcome | Failure]:
        """Yield the outcome of each item in order; failures pass through at their position.

        At most four items per worker are in flight, which bounds the memory.
        """
        window: deque[Future[Outcome] | Failure] = deque()
        for job in jobs:
            window.append(job if isinstance(job, Failure) else self._submit(job))
            while len(window) > 4 * max(self.num_workers, 1) or (
                window and (isinstance(window[0], Failure) or window[0].done())
            ):
                entry = window.popleft()
                yield entry if isinstance(entry, Failure) else entry.result()
        for entry in window:
            yield entry if isinstance(entry, Failure) else entry.result()

    def _submit(self, item: Item) -> Future[Outcome]:
        if self.num_workers:
            return self._threads.submit(self._work, item)
        done: Future[Outcome] = Future()
        done.set_result(validate(item, self.limits, self.isolate))
        return done

    def _work(self, item: Item) -> Outcome:
        """The outcome of an item by this thread's worker; any error in between costs only this item."""
        try:
            worker: _Worker | None = getattr(self._local, "worker", None)
            if worker is None or not worker.is_alive:
                worker = self._local.worker = _Worker(self.limits, self.isolate)
                self._workers.append(worker)
            answer = worker.send_and_receive(item, float(self.limits.timeout_s) * max(1, len(item.blobs)))
        except SensoriumError:
            raise
        except Exception as error:
            answer = one_line(f"no answer from its worker: {type(error).__name__}: {error}")
        if isinstance(answer, Outcome):
            return answer
        return Outcome(without_bytes(item), failures=(Failure(item.uri, "decode", answer),))


class _Worker:
    """One worker process and its two pipes."""

    def __init__(self, limits: Limits, isolate: bool) -> None:
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._stdout: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self.is_alive = True
        if self._exchange((limits, isolate), _START_S) != "ready":
            self.stop()
            raise SensoriumError("a worker process did not start; run: sensorium doctor")

    def send_and_receive(self, item: Item, timeout_s: float) -> Outcome | str:
        """Return the outcome of an item, or the reason in one line if the worker died."""
        answer = self._exchange((item, timeout_s), timeout_s + _GRACE_S)
        if isinstance(answer, Outcome):
            return answer
        self.stop()
        code = self._process.returncode
        if answer is TimeoutError or code == -signal.SIGALRM:
            return f"decoding took longer than {timeout_s:g} s"
        if code == -signal.SIGKILL:
            return "decoding was killed by the system, probably for lack of memory"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"decoding crashed ({name})"

    def stop(self) -> None:
        """End the process, also in the middle of an item."""
        self.is_alive = False
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()

    def _exchange(self, message: object, timeout_s: float) -> object:
        """Send a message and return the answer; None if the process died, `TimeoutError` if it was killed."""
        is_late = threading.Event()

        def kill() -> None:
            is_late.set()
            self._process.kill()

        timer = threading.Timer(timeout_s, kill)
        timer.daemon = True
        timer.start()
        try:
            _write(self._stdin, message)
            return _read(self._stdout)
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            return TimeoutError if is_late.is_set() else None
        finally:
            timer.cancel()


def _environment() -> dict[str, str]:
    """Environment of a worker: one thread each, and this package on the path."""
    package = str(Path(__file__).parents[3])
    known = os.environ.get("PYTHONPATH", "")
    paths = {"PYTHONPATH": f"{package}{os.pathsep}{known}" if known else package}
    return {**os.environ, **paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _write(stream: BinaryIO, message: object) -> None:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_HEADER.pack(len(body)))
    stream.write(body)
    stream.flush()


def _read(stream: BinaryIO) -> object:
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    (size,) = _HEADER.unpack(header)
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    return pickle.loads(body)


def _serve() -> None:
    """Main loop of a worker: reads the limits, then items until stdin ends."""
    output = io.BufferedWriter(io.FileIO(os.dup(1), "wb"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # text that a decoder prints must not mix with the answers
    limits, isolate = cast("tuple[Limits, bool]", _read(sys.stdin.buffer))
    if not isolate:
        _limit_memory(limits.memory_bytes + limits.file_bytes)
    _write(output, "ready")
    while True:
        try:
            item, timeout_s = cast("tuple[Item, float]", _read(sys.stdin.buffer))
        except EOFError:
            return
        _set_alarm(timeout_s)
        outcome = validate(item, limits, isolate)
        _set_alarm(0.0)
        _write(output, outcome)


def _set_alarm(seconds: float) -> None:
    """Make the system end this process after `seconds`, also inside a decoder; 0 cancels the alarm."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory(extra_bytes: int) -> None:
    """Limit the address space to the present use plus `extra_bytes`, where the system supports it."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    _serve()
