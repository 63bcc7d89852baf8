"""Runs a reader on many inputs in a child process; tells how each ended, and its memory and processor time.

The child warms up on a good input first, so that imports and compiled kernels are not charged to the inputs.
Its address space is capped (512 MB and some slack above what it has then), and so is the processor time of an
input: a reader that takes too much ends the child, not the test run. Linux only: peaks are read from /proc.
"""

import importlib
import multiprocessing
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from sensorium.core.errors import SensoriumError

MEMORY_BYTES = 512 << 20
CPU_S = 10


@dataclass(frozen=True)
class Outcome:
    """How one input ended.

    kind: "value" (the reader returned), "refused" (a `SensoriumError`), "escaped" (any other exception) or
    "killed" (the child died: too much memory or processor time, or a crash of native code).
    text: repr of the value, the message, or the traceback.
    """

    kind: str
    text: str = ""
    memory_bytes: int = 0
    cpu_s: float = 0.0


def assert_sound(outcome: Outcome) -> None:
    """Fails unless the input gave a value or one line of a `SensoriumError`, within the bounds."""
    assert outcome.kind in ("value", "refused"), f"{outcome.kind}: {outcome.text}"
    if outcome.kind == "refused":
        assert outcome.text.strip(), "an empty message"
        assert "\n" not in outcome.text, outcome.text
    assert outcome.memory_bytes <= MEMORY_BYTES, f"{outcome.memory_bytes >> 20} MB: {outcome.text[:200]}"
    assert outcome.cpu_s <= CPU_S, f"{outcome.cpu_s:.1f} s: {outcome.text[:200]}"


class BoundedReader:
    """A reader in a child process: `BoundedReader("module:function", good)`; call it with a path.

    Args:
        target: A function of one path, by module and name. What it returns is only looked at by `repr`, so
            let it check its value by `assert` and return something small.
        warm_up: A good input; the child reads it before limits are set. It must give a value.
        cpu_s: Twice as much processor time of one input ends the child.
    """

    def __init__(self, target: str, warm_up: Path, cpu_s: int = CPU_S) -> None:
        self._target, self._warm_up, self._cpu_s = target, warm_up, cpu_s
        self._child: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __call__(self, path: Path) -> Outcome:
        pipe = self._pipe or self._start()
        pipe.send(path)
        try:
            return pipe.recv()
        except (EOFError, ConnectionResetError):
            self._child.join()
            text = f"the child died with code {self._child.exitcode} over {path}"
            self._stop()
            return Outcome("killed", text)

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(
            target=_serve, args=(self._target, self._warm_up, self._cpu_s, theirs), daemon=True
        )
        self._child.start()
        theirs.close()
        first = self._pipe.recv()
        assert first.kind == "value", f"the warm-up input failed: {first.text}"
        return self._pipe

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.join()
        if self._pipe is not None:
            self._pipe.close()
        self._child = self._pipe = None


def _serve(target: str, warm_up: Path, cpu_s: int, pipe: Connection) -> None:
    module, name = target.split(":")
    reader = getattr(importlib.import_module(module), name)
    pipe.send(_outcome(reader, warm_up))
    room = _status_bytes("VmSize") + 2 * MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            path = pipe.recv()
        except EOFError:
            return
        seconds = int(time.process_time()) + 2 * cpu_s
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        pipe.send(_outcome(reader, path))


def _outcome(reader: Callable[[Path], Any], path: Path) -> Outcome:
    Path("/proc/self/clear_refs").write_text("5")  # peak memory starts again from what is held now
    before, began = _status_bytes("VmRSS"), time.process_time()
    try:
        kind, text = "value", repr(reader(path))[:1000]
    except SensoriumError as error:
        kind, text = "refused", str(error)
    except BaseException:
        kind, text = "escaped", traceback.format_exc()
    peak = max(_status_bytes("VmHWM") - before, 0)
    return Outcome(kind, text, peak, time.process_time() - began)


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise KeyError(field)
