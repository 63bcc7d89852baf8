"""Machine code by which the threads of a step share work and wait for one another."""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from sensorium.generation.cpu.simd import I64

_I64 = types.int64
_SPINS = 256
"""Looks at a counter between two offers to let somebody else run."""


@intrinsic
def claim(typingctx, address, count):  # type: ignore[no-untyped-def]
    """Add to a counter and return what it was: the first of `count` pieces of work that are now one's own."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address, count = args
        pointer = builder.inttoptr(address, ir.PointerType())
        return builder.atomic_rmw("add", pointer, count, "acq_rel")

    return types.int64(_I64, _I64), codegen


@intrinsic
def await_count(typingctx, address, target):  # type: ignore[no-untyped-def]
    """Wait until a counter has come to `target`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address, target = args
        pointer = builder.inttoptr(address, ir.PointerType())
        function = builder.function
        looking, waiting, done = (function.append_basic_block(name) for name in ("look", "wait", "done"))
        spins = cgutils.alloca_once_value(builder, I64(0))
        builder.branch(looking)
        builder.position_at_end(looking)
        count = builder.load_atomic(pointer, "acquire", 8, typ=I64)
        builder.cbranch(builder.icmp_signed(">=", count, target), done, waiting)
        builder.position_at_end(waiting)
        spun = builder.add(builder.load(spins), I64(1))
        builder.store(spun, spins)
        _rest(builder)
        is_long = builder.icmp_signed("==", builder.srem(spun, I64(_SPINS)), I64(0))
        with builder.if_then(is_long, likely=False):
            _let_others_run(builder)
        builder.branch(looking)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(_I64, _I64), codegen


def _rest(builder: Any) -> None:
    if binding.get_process_triple().startswith(("x86", "i686", "amd64")):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])


def _let_others_run(builder: Any) -> None:
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    kind = ir.FunctionType(ir.IntType(32), [])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
