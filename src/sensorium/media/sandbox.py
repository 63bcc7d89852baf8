"""Decodes untrusted files in a subprocess with limits on memory and time.

Input: an open file. Output: the result of `open`, or one `MediaError`. Workers start on demand, are reused,
and serve one call at a time; inside a worker each file has its own process. Requires POSIX; the memory limit
is enforced on Linux only.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time

from sensorium.core.errors import LimitError, MediaError, UsageError
from sensorium.media import serialize
from sensorium.media.limits import Limits
from sensorium.media.source import Source
from sensorium.media.types import Media

_START_S = 60.0


def decode_isolated(source: Source, limits: Limits, target_px: int | None) -> Media:
    """Decode in a worker.

    Raises:
        MediaError: If the file is damaged, or crashes its decoder.
        LimitError: If it is beyond `limits`, including memory and time.
        UsageError: Where processes cannot be forked.
    """
    if not hasattr(os, "fork"):
        raise UsageError("isolate=True needs a POSIX system; here, decode in a container or leave it out")
    worker = _POOL.take()
    try:
        answer = worker.ask(source, limits, target_px)
    except BaseException:
        worker.kill()
        raise
    _POOL.give_back(worker)
    header, body = answer
    return serialize.unpack_media(header, body, source.uri)


class Worker:
    """A running worker process, used by one thread at a time.

    Attributes:
        peak_bytes: Peak resident memory of the last decode, including libraries.
    """

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sensorium.media.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None, "a pipe"
        assert self._process.stdout is not None, "a pipe"
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._deadline = time.monotonic() + _START_S
        self.peak_bytes = 0
        self._read(1)

    def ask(self, source: Source, limits: Limits, target_px: int | None) -> tuple[bytes, bytearray]:
        """Send a file; header and body of the answer. MediaError after a crash, LimitError beyond a limit."""
        request, content = serialize.pack_request(limits, target_px, source.uri), source.content()
        self._deadline = time.monotonic() + limits.timeout_s
        try:
            self._write(serialize.FRAME.pack(len(request), len(content)) + request)
            self._write(content)
            header_bytes, body_bytes = serialize.FRAME.unpack(self._read(serialize.FRAME.size))
            # Text may be stored in fewer bytes than its UTF-8 takes; hence the sum.
            if (
                header_bytes > serialize.MAX_HEADER_BYTES
                or body_bytes > limits.decoded_bytes + 2 * limits.text_bytes
            ):
                raise MediaError(f"{source.name}: the isolated decoder gave an answer that is too large")
            header, body = bytes(self._read(header_bytes)), self._read(body_bytes)
            (self.peak_bytes,) = serialize.STATUS.unpack(self._read(serialize.STATUS.size))
            return header, body
        except TimeoutError as error:
            raise LimitError(
                f"{source.name}: decoding took more than {limits.timeout_s:g} s; raise Limits(timeout_s=...)"
            ) from error
        except (EOFError, OSError) as error:
            raise MediaError(
                f"{source.name}: the decoder crashed ({self._cause()}); the file is damaged"
            ) from error

    def kill(self) -> None:
        """Kill the worker and its decoding process."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close this process's ends of the pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _cause(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=1.0)
            number = 256 - code if code > 128 else 0
            with contextlib.suppress(ValueError):
                return signal.Signals(number).name
        return "no answer"

    def _read(self, count: int) -> bytearray:
        buffer = bytearray(count)
        view = memoryview(buffer)
        while len(view):
            self._wait(self._from, select.POLLIN)
            got = os.readv(self._from, [view])
            if got == 0:
                raise EOFError
            view = view[got:]
        return buffer

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while len(view):
            self._wait(self._to, select.POLLOUT)
            view = view[os.write(self._to, view) :]

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0 or not poll.poll(remaining_s * 1000):
            raise TimeoutError


class _Pool:
    """Pool of idle workers; a forked process starts with an empty pool, because workers are not shared."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Worker] = []

    def take(self) -> Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Worker()

    def give_back(self, worker: Worker) -> None:
        with self._lock:
            self._idle.append(worker)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().kill()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        for worker in self._idle:
            worker.forget()
        self._idle = []


_POOL = _Pool()
atexit.register(_POOL.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.after_fork)
