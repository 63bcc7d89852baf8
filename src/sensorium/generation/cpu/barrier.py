"""Kernels of thread synchronisation: an atomic counter to claim work, and a spinning barrier."""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils
from numba.core.types import int64
from numba.extending import intrinsic

from sensorium.generation.cpu.simd import I32, I64, Simd, kernel

_SPINS = 256
"""Loops of a waiting thread before it yields its processor."""


@intrinsic
def claim(typingctx, address, count):  # type: ignore[no-untyped-def]
    """Atomically add `count` to a counter; return its old value, the first unit of claimed work."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address, count = args
        pointer = builder.inttoptr(address, ir.PointerType())
        return builder.atomic_rmw("add", pointer, count, "acq_rel")

    return int64(int64, int64), codegen


@kernel(int64, int64)
def await_count(v: Simd, address: Any, target: Any) -> None:
    """Wait until a counter reaches `target`."""
    b = v.builder
    pointer = b.inttoptr(address, ir.PointerType())
    check, wait, done = (b.function.append_basic_block(name) for name in ("check", "wait", "done"))
    spins = cgutils.alloca_once_value(b, I64(0))
    b.branch(check)
    b.position_at_end(check)
    count = b.load_atomic(pointer, "acquire", 8, typ=I64)
    b.cbranch(b.icmp_signed(">=", count, target), done, wait)
    b.position_at_end(wait)
    spun = b.add(b.load(spins), I64(1))
    b.store(spun, spins)
    if binding.get_process_triple().startswith(("x86", "i686", "amd64")):
        v.call("llvm.x86.sse2.pause", ir.VoidType())
    is_long = b.icmp_signed("==", b.srem(spun, I64(_SPINS)), I64(0))
    with b.if_then(is_long, likely=False):
        v.call("SwitchToThread" if sys.platform == "win32" else "sched_yield", I32)
    b.branch(check)
    b.position_at_end(done)
