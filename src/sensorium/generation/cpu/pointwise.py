"""Machine code for one token by itself: norms, activations, rounding it for the next product.

Widths are multiples of 32 floats; what lies behind the true width is zero and stays so.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from sensorium.generation.cpu.matmul import TOKEN_GROUP_BYTES
from sensorium.generation.cpu.simd import BYTES, F32, FLOATS, I32, I64, SHORTS, Lanes

_I64, _F32 = types.int64, types.float32


@intrinsic
def normalise(typingctx, x, gain, bias, out, width, padded, eps, is_centred):  # type: ignore[no-untyped-def]
    """Write (x - mean) / sqrt(variance + eps) gain + bias, or without the mean (RMS)."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v, b = Lanes(builder), builder
        x, gain, bias, out, width, padded, eps, is_centred = args
        steps, size = b.sdiv(padded, I64(16)), b.sitofp(width, F32)
        mean = b.fdiv(_total(v, steps, lambda step: v.load(v.offset(x, step, 64), 0, FLOATS)), size)
        mean = b.select(b.icmp_signed("!=", is_centred, I64(0)), mean, F32(0.0))
        centre = v.splat(mean)

        def square(step: Any) -> Any:
            gap = b.fsub(v.load(v.offset(x, step, 64), 0, FLOATS), centre)
            return b.fmul(gap, gap)

        behind = b.fmul(b.sitofp(b.sub(padded, width), F32), b.fmul(mean, mean))
        variance = b.fdiv(b.fsub(_total(v, steps, square), behind), size)
        root = v.splat(b.fdiv(F32(1.0), _root(b, b.fadd(variance, eps))))

        def write(step: Any) -> None:
            here = v.offset(x, step, 64)
            scaled = b.fmul(b.fsub(v.load(here, 0, FLOATS), centre), root)
            factor, shift = (v.load(v.offset(one, step, 64), 0, FLOATS) for one in (gain, bias))
            v.store(v.fma(scaled, factor, shift), v.offset(out, step, 64))

        v.each(steps, write)
        return context.get_dummy_value()

    return types.void(_I64, _I64, _I64, _I64, _I64, _I64, _F32, _I64), codegen


@intrinsic
def encode_bf16(typingctx, x, out, padded):  # type: ignore[no-untyped-def]
    """Round to bfloat16."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v = Lanes(builder)
        x, out, padded = args

        def write(step: Any) -> None:
            bits = v.bfloat(v.load(v.offset(x, step, 64), 0, FLOATS))
            v.store(builder.trunc(bits, SHORTS), v.offset(out, step, 32))

        v.each(builder.sdiv(padded, I64(16)), write)
        return context.get_dummy_value()

    return types.void(_I64, _I64, _I64), codegen


@intrinsic
def encode_bytes(typingctx, x, out, padded):  # type: ignore[no-untyped-def]
    """Round groups of 32 to bytes with a scale of their own: see `products.TOKEN_GROUP_BYTES`."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v, b = Lanes(builder), builder
        x, out, padded = args

        def write(step: Any) -> None:
            here, there = v.offset(x, step, 128), v.offset(out, step, TOKEN_GROUP_BYTES)
            parts = [v.load(here, 64 * part, FLOATS) for part in (0, 1)]
            sizes = [v.greatest(part, b.fneg(part)) for part in parts]
            scale = b.fdiv(v.peak(v.greatest(*sizes)), F32(127.0))
            is_zero = b.fcmp_ordered("==", scale, F32(0.0))
            inverse = v.splat(b.select(is_zero, F32(0.0), b.fdiv(F32(1.0), scale)))
            wholes = [b.fptosi(v.round(b.fmul(part, inverse)), v.ints(0).type) for part in parts]
            for part, whole in enumerate(wholes):
                v.store(b.trunc(whole, BYTES), there, 16 * part)
            total = v.whole_sum(b.add(*wholes))
            v.store(scale, there, 32)
            v.store(b.fmul(scale, b.sitofp(total, F32)), there, 36)
            v.store(b.mul(total, I32(-128)), there, 40)

        v.each(b.sdiv(padded, I64(32)), write)
        return context.get_dummy_value()

    return types.void(_I64, _I64, _I64), codegen


@intrinsic
def silu_gate(typingctx, gate, up, out, padded):  # type: ignore[no-untyped-def]
    """Write g / (1 + e^-g) u."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v, b = Lanes(builder), builder
        gate, up, out, padded = args

        def write(step: Any) -> None:
            g, u = (v.load(v.offset(one, step, 64), 0, FLOATS) for one in (gate, up))
            below = b.fadd(v.all(1.0), v.exp(b.fneg(g)))
            v.store(b.fmul(b.fdiv(g, below), u), v.offset(out, step, 64))

        v.each(b.sdiv(padded, I64(16)), write)
        return context.get_dummy_value()

    return types.void(_I64, _I64, _I64, _I64), codegen


@intrinsic
def gelu(typingctx, x, out, padded):  # type: ignore[no-untyped-def]
    """Write x (1 + erf(x / sqrt 2)) / 2."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v, b = Lanes(builder), builder
        x, out, padded = args

        def write(step: Any) -> None:
            value = v.load(v.offset(x, step, 64), 0, FLOATS)
            half = b.fmul(value, v.all(0.5))
            share = v.erf(b.fmul(value, v.all(0.7071067811865476)))
            v.store(v.fma(half, share, half), v.offset(out, step, 64))

        v.each(b.sdiv(padded, I64(16)), write)
        return context.get_dummy_value()

    return types.void(_I64, _I64, _I64), codegen


def _total(v: Lanes, steps: Any, term: Any) -> Any:
    [slot] = v.variables([v.all(0.0)])
    v.each(steps, lambda step: v.builder.store(v.builder.fadd(v.builder.load(slot), term(step)), slot))
    return v.sum(v.builder.load(slot))


def _root(b: Any, x: Any) -> Any:
    from llvmlite import ir
    from numba.core import cgutils

    kind = ir.FunctionType(F32, [F32])
    return b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.sqrt.f32"), [x])
