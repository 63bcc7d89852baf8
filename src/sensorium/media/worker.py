"""Worker process of the sandbox: forks a child for each file and decodes it there.

Decoding libraries are loaded once. Each child has limits on memory and time, and cannot open files or sockets
(its descriptor limit is zero). A crash affects only the child. Requests and answers pass through standard
input and output in the format of `serialize`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import os
import pkgutil
import resource
import signal
import sys
from typing import BinaryIO

from sensorium import media
from sensorium.core.errors import MediaError
from sensorium.media import image, serialize
from sensorium.media.limits import Limits
from sensorium.media.opening import decode
from sensorium.media.source import Source

# Libraries import these lazily, but a child cannot open files.
_LATE = (
    "encodings.utf_8_sig",
    "encodings.utf_16",
    "numpy.ma",
    "soundfile",
    "PIL.ExifTags",
    "PIL.ImageOps",
    "PIL.ImageSequence",
    "PIL.TiffTags",
)


def main() -> None:
    """Serve requests until the input ends."""
    requests, answers = _take_over_standard_streams()
    _load_everything()
    os.write(answers, b"!")
    while sizes := requests.read(serialize.FRAME.size):
        header_bytes, body_bytes = serialize.FRAME.unpack(sizes)
        header, body = requests.read(header_bytes), requests.read(body_bytes)
        _serve(answers, header, body)


def _load_everything() -> None:
    import av

    parts = (part.name for part in pkgutil.walk_packages(av.__path__, "av."))
    readers = (part.name for part in pkgutil.iter_modules(media.__path__, "sensorium.media."))
    plugins = (f"PIL.{prefix}ImagePlugin" for prefix in image.PLUGINS.values())
    for name in (*_LATE, *readers, *plugins, *parts):
        if name not in ("av.__main__", "av.datasets", "sensorium.media.sandbox", "sensorium.media.worker"):
            importlib.import_module(name)


def _serve(answers: int, header: bytes, body: bytes) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _decode_and_answer(answers, header, body)
            status = 0
        finally:
            os._exit(status)
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        # The answer may be half written, so the stream is of no more use.
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _write(answers, serialize.STATUS.pack(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)))


def _decode_and_answer(answers: int, header: bytes, body: bytes) -> None:
    limits, target_px, uri = serialize.unpack_request(header)
    _confine(limits)
    parts: list[memoryview] = []
    try:
        packed, parts = serialize.pack_media(
            decode(Source(io.BytesIO(body), len(body), uri), limits, target_px)
        )
    except MediaError as error:
        packed = serialize.pack_error(error)
    _write(answers, serialize.FRAME.pack(len(packed), sum(len(part) for part in parts)) + packed)
    for part in parts:
        _write(answers, part)


def _confine(limits: Limits) -> None:
    with contextlib.suppress(OSError, ValueError):  # only Linux tells its size and enforces this limit
        with open("/proc/self/statm", encoding="ascii") as file:
            in_use = int(file.read().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, in_use + limits.memory_bytes)
    # The parent kills at the timeout; this applies if the parent has exited.
    _limit(resource.RLIMIT_CPU, math.ceil(limits.timeout_s) + 1)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 0)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _take_over_standard_streams() -> tuple[BinaryIO, int]:
    """Move the conversation to private descriptors, so that what libraries print or read goes nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=1 << 16), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return requests, answers


def _write(descriptor: int, content: bytes | memoryview) -> None:
    view = memoryview(content)
    while len(view):
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()
