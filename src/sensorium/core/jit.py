"""The one door to machine code: numba kernels with fixed signatures, compiled once and kept on disk.

In: a plain function of arrays and its signature, in which `f` stands for the float type. Out: the compiled
function, which releases the interpreter's lock. Kernels call no other kernel and allocate little, so each
file of them can be read alone. Where numba cannot be used, `usable()` says so and callers take the PyTorch
path.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sensorium.core.runtime import Progress, quiet

UNREACHED = {"float32": 1e30, "float64": 1e300}
"""What stands for infinity: finite, so that code may be compiled freely and sums do not overflow."""
_FASTMATH = frozenset({"nnan", "ninf", "nsz", "contract", "reassoc"})


def unreached(dtype: np.dtype[Any]) -> float:
    """Cost of a cell that no path reaches; half of it or more means that there is no path."""
    return UNREACHED[dtype.name]


@functools.cache
def usable() -> bool:
    """Whether numba is installed and compiles here."""
    try:
        import numba

        return int(numba.njit("int64(int64)")(inspect.unwrap(_successor))(1)) == 2
    except Exception:  # numba fails in many ways: no wheel, no LLVM, a read-only machine
        return False


def compiled(
    function: Callable[..., Any], signature: str, dtype: np.dtype[Any], *, progress: Progress = quiet
) -> Callable[..., Any]:
    """Machine code of `function` for one float type.

    Args:
        function: Source of the kernel; only arrays, scalars and NumPy names inside.
        signature: Numba signature with `f` for the float type, such as `void(f[:, ::1], int64)`.
        dtype: float32 or float64.
        progress: Told while the function is compiled; not where machine code is read from disk.
    """
    with contextlib.nullcontext() if progress is quiet else _told(progress):
        return _compiled(inspect.unwrap(function), signature, dtype.name)


@functools.cache
def _compiled(function: Callable[..., Any], signature: str, name: str) -> Callable[..., Any]:
    import numba

    spelled = signature.replace("f[", f"{name}[").replace("f,", f"{name},").replace("f(", f"{name}(")
    spelled = spelled.replace("f)", f"{name})")
    build = functools.partial(numba.njit, spelled, nogil=True, fastmath=set(_FASTMATH))
    try:
        kernel: Callable[..., Any] = build(cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        kernel = build()(function)
    return kernel


@contextlib.contextmanager
def _told(progress: Progress) -> Iterator[None]:
    """Report what numba compiles meanwhile; it says so itself, and only where it has no code on disk."""
    from numba.core import event

    message, is_compiling = "compiling for this processor, once", False

    class Listener(event.Listener):
        def on_start(self, event: object) -> None:
            nonlocal is_compiling
            if not is_compiling:
                progress(0, 1, message)
            is_compiling = True

        def on_end(self, event: object) -> None:
            """What was compiled may be a part of what is asked for."""

    with event.install_listener("numba:compile", Listener()):
        yield
    if is_compiling:
        progress(1, 1, message)


def _successor(value):  # type: ignore[no-untyped-def]
    return value + 1
