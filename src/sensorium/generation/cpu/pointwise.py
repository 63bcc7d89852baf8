"""Kernels on single tokens: norms, activation functions, quantisation for the next matrix multiplication.

Widths are padded to multiples of 32 floats; the padding is zero.
"""

from __future__ import annotations

from typing import Any

from numba.core.types import float32, int64

from sensorium.generation.cpu.matmul import TOKEN_GROUP_BYTES
from sensorium.generation.cpu.simd import BYTES, F32, FLOATS, I32, I64, SHORTS, Simd, kernel


@kernel(int64, int64, int64, int64, int64, int64, float32, int64)
def normalise(
    v: Simd, x: Any, gain: Any, bias: Any, out: Any, width: Any, padded: Any, eps: Any, is_centred: Any
) -> None:
    """Layer norm, (x - mean) / sqrt(variance + eps) gain + bias, or without the mean: RMS norm."""
    b = v.builder
    steps, size = b.sdiv(padded, I64(16)), b.sitofp(width, F32)
    mean = b.fdiv(_total(v, steps, lambda step: v.load(v.offset(x, step, 64), 0, FLOATS)), size)
    mean = b.select(b.icmp_signed("!=", is_centred, I64(0)), mean, F32(0.0))
    centre = v.splat(mean)

    def square(step: Any) -> Any:
        difference = b.fsub(v.load(v.offset(x, step, 64), 0, FLOATS), centre)
        return b.fmul(difference, difference)

    of_padding = b.fmul(b.sitofp(b.sub(padded, width), F32), b.fmul(mean, mean))
    variance = b.fdiv(b.fsub(_total(v, steps, square), of_padding), size)
    factor = v.splat(b.fdiv(F32(1.0), v.sqrt(b.fadd(variance, eps))))

    def write(step: Any) -> None:
        here = v.offset(x, step, 64)
        scaled = b.fmul(b.fsub(v.load(here, 0, FLOATS), centre), factor)
        scale, shift = (v.load(v.offset(one, step, 64), 0, FLOATS) for one in (gain, bias))
        v.store(v.fma(scaled, scale, shift), v.offset(out, step, 64))

    v.loop(steps, write)


@kernel(int64, int64, int64)
def round_bf16(v: Simd, x: Any, out: Any, padded: Any) -> None:
    """Round to bfloat16."""

    def write(step: Any) -> None:
        bits = v.to_bf16(v.load(v.offset(x, step, 64), 0, FLOATS))
        v.store(v.builder.trunc(bits, SHORTS), v.offset(out, step, 32))

    v.loop(v.builder.sdiv(padded, I64(16)), write)


@kernel(int64, int64, int64)
def quantise_int8(v: Simd, x: Any, out: Any, padded: Any) -> None:
    """Quantise groups of 32 to int8 with a scale each; layout: `matmul.TOKEN_GROUP_BYTES`."""
    b = v.builder

    def write(step: Any) -> None:
        here, there = v.offset(x, step, 128), v.offset(out, step, TOKEN_GROUP_BYTES)
        parts = [v.load(here, 64 * part, FLOATS) for part in (0, 1)]
        magnitudes = [v.maximum(part, b.fneg(part)) for part in parts]
        scale = b.fdiv(v.max(v.maximum(*magnitudes)), F32(127.0))
        is_zero = b.fcmp_ordered("==", scale, F32(0.0))
        inverse = v.splat(b.select(is_zero, F32(0.0), b.fdiv(F32(1.0), scale)))
        levels = [b.fptosi(v.round(b.fmul(part, inverse)), v.ints(0).type) for part in parts]
        for part, level in enumerate(levels):
            v.store(b.trunc(level, BYTES), there, 16 * part)
        total = v.sum_ints(b.add(*levels))
        v.store(scale, there, 32)
        v.store(b.fmul(scale, b.sitofp(total, F32)), there, 36)
        v.store(b.mul(total, I32(-128)), there, 40)

    v.loop(b.sdiv(padded, I64(32)), write)


@kernel(int64, int64, int64, int64)
def silu_gate(v: Simd, gate: Any, up: Any, out: Any, padded: Any) -> None:
    """SwiGLU: g / (1 + e^-g) u."""
    b = v.builder

    def write(step: Any) -> None:
        g, u = (v.load(v.offset(one, step, 64), 0, FLOATS) for one in (gate, up))
        denominator = b.fadd(v.floats(1.0), v.exp(b.fneg(g)))
        v.store(b.fmul(b.fdiv(g, denominator), u), v.offset(out, step, 64))

    v.loop(b.sdiv(padded, I64(16)), write)


@kernel(int64, int64, int64)
def gelu(v: Simd, x: Any, out: Any, padded: Any) -> None:
    """GELU: x (1 + erf(x / sqrt 2)) / 2."""
    b = v.builder

    def write(step: Any) -> None:
        value = v.load(v.offset(x, step, 64), 0, FLOATS)
        half = b.fmul(value, v.floats(0.5))
        erf = v.erf(b.fmul(value, v.floats(0.7071067811865476)))
        v.store(v.fma(half, erf, half), v.offset(out, step, 64))

    v.loop(b.sdiv(padded, I64(16)), write)


def _total(v: Simd, steps: Any, term: Any) -> Any:
    [slot] = v.variables([v.floats(0.0)])
    v.loop(steps, lambda step: v.builder.store(v.builder.fadd(v.builder.load(slot), term(step)), slot))
    return v.sum(v.builder.load(slot))
