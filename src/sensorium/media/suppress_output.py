"""Suppresses warnings of decoding libraries; relevant problems are raised as errors instead."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import warnings
from functools import cache
from types import TracebackType


class _Silence:
    """Context in which Python warnings are dropped.

    `warnings.catch_warnings` alone is not safe in threads: contexts that overlap restore each other's
    filters. Here the first to enter saves the filters and the last to leave restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._saved is not None:
                self._saved.__exit__(kind, error, trace)
                self._saved = None


silence = _Silence()
"""The one context that all decoders share."""


@cache
def quiet_libtiff() -> None:
    """Stop Pillow's libtiff from printing errors to standard error.

    Pillow's own log of them is suppressed too while logging is not configured.
    """
    from PIL import _imaging

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # The symbols are looked up in the extension and what it is linked with; elsewhere there is nothing to do.
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
