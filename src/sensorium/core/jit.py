"""Just-in-time compilation of numba kernels with fixed signatures, cached on disk.

Input: a plain function of arrays and its signature, where `f` stands for the float type. Output: the compiled
function, which releases the GIL. Kernels call no other kernel and allocate little. If numba does not work,
`usable()` returns False and callers use the PyTorch implementation.
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
"""Stand-in for infinity; finite, so that fast-math compilation is valid and sums do not overflow."""
_FASTMATH = frozenset({"nnan", "ninf", "nsz", "contract", "reassoc"})


def unreached(dtype: np.dtype[Any]) -> float:
    """Finite stand-in for infinity: the cost of an unreachable cell. Half of it already means no path."""
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
    """Compile `function` for one float type.

    Args:
        function: Source of the kernel; it may use arrays, scalars and NumPy names only.
        signature: Numba signature with `f` for the float type, such as `void(f[:, ::1], int64)`.
        dtype: float32 or float64.
        progress: Called while the function is compiled, but not when it is loaded from disk.
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
    except RuntimeError:  # no cache folder
        kernel = build()(function)
    return kernel


@contextlib.contextmanager
def _told(progress: Progress) -> Iterator[None]:
    """Report numba's compile events as progress; numba emits none if the code is cached on disk."""
    from numba.core import event

    message, is_compiling = "compiling for this processor, once", False

    class Listener(event.Listener):
        def on_start(self, event: object) -> None:
            nonlocal is_compiling
            if not is_compiling:
                progress(0, 1, message)
            is_compiling = True

        def on_end(self, event: object) -> None:
            """Nothing: the compiled function may be a part of the requested one."""

    with event.install_listener("numba:compile", Listener()):
        yield
    if is_compiling:
        progress(1, 1, message)


def _successor(value):  # type: ignore[no-untyped-def]
    return value + 1
