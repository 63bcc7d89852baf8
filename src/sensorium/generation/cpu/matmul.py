"""Matrix multiplication kernels: packed bfloat16, int8 or int4 weights (`weights`) times a few tokens.

A unit of rows is loaded once for all tokens. The order of each sum does not depend on the number of tokens,
so the result of a token is bit-equal in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core.types import int64

from sensorium.generation.cpu.simd import F32, FLOATS, HALVES, I32, I64, INTS, Simd, kernel

GROUP = 32
"""Consecutive weights of a row with one scale."""
TOKEN_GROUP_BYTES = 48
"""Quantised activations: 32 bytes s, scale d (float32), d sum(s) (float32), -128 sum(s) (int32), 4 unused."""


def _dot(num_registers: int, step: Callable[..., None]) -> Any:
    """Build an intrinsic that multiplies a unit of 16 `num_registers` rows with tokens.

    Its arguments are: number of tokens, address of the unit, number of steps over its columns, address and
    stride of the tokens, address and stride of the results, whether to add to the results, address of the
    biases. It computes 1, 4 or 8 tokens; results after the last token are not used.
    """

    def emit(num_tokens: int, v: Simd, arguments: Sequence[Any]) -> None:
        b, (unit, steps, x, x_bytes, out, out_bytes, adds, bias) = v.builder, arguments
        slots = v.variables([v.floats(0.0)] * (num_tokens * num_registers))
        xs = [v.offset(x, x_bytes, token) for token in range(num_tokens)]
        v.loop(steps, lambda number: step(v, unit, number, xs, slots))
        is_adding = b.icmp_signed("!=", adds, I64(0))
        for token in range(num_tokens):
            row = v.offset(out, out_bytes, token)
            for register in range(num_registers):
                base = b.select(is_adding, v.load(row, 64 * register, FLOATS), v.floats(0.0))
                total = b.load(slots[token * num_registers + register])
                total = b.fadd(total, v.load(bias, 64 * register, FLOATS))
                v.store(b.fadd(base, total), row, 64 * register)

    @kernel(*[int64] * 9)
    def dot(v, count, unit, steps, x, x_bytes, out, out_bytes, adds, bias):  # type: ignore[no-untyped-def]
        b, arguments = v.builder, (unit, steps, x, x_bytes, out, out_bytes, adds, bias)
        with b.if_else(b.icmp_signed("==", count, I64(1))) as (one, several):
            with one:
                emit(1, v, arguments)
            with several, b.if_else(b.icmp_signed("<=", count, I64(4))) as (few, many):
                with few:
                    emit(4, v, arguments)
                with many:
                    emit(8, v, arguments)

    return dot


def _bf16(v: Simd, unit: Any, step: Any, xs: list[Any], slots: list[Any]) -> None:
    """One step: two columns of 32 rows."""
    weights = v.offset(unit, step, 128)
    rows = [v.load(weights, 64 * register, INTS, align=64) for register in (0, 1)]
    for token, x in enumerate(xs):
        pair = v.splat(v.load(v.offset(x, step, 4), 0, I32))
        for register in (0, 1):
            slot = slots[2 * token + register]
            v.builder.store(v.dot_bf16x2(v.builder.load(slot), rows[register], pair), slot)


def _int8(v: Simd, unit: Any, step: Any, xs: list[Any], slots: list[Any]) -> None:
    """One step: a group of 32 columns of 16 rows, w = d (u - 128)."""
    weights = v.offset(unit, step, 544)
    columns = [v.load(weights, 64 * four, INTS, align=32) for four in range(8)]
    scale = v.builder.fpext(v.load(weights, 512, HALVES, align=32), FLOATS)
    for x, slot in zip(xs, slots, strict=True):
        group = v.offset(x, step, TOKEN_GROUP_BYTES)
        _add_group(v, columns, scale, group, slot, v.splat(v.load(group, 40, I32)))


def _int4(v: Simd, unit: Any, step: Any, xs: list[Any], slots: list[Any]) -> None:
    """One step: a group of 32 columns of 16 rows, w = d u + m."""
    b, weights = v.builder, v.offset(unit, step, 320)
    columns = []
    for eight in range(4):
        packed = v.load(weights, 64 * eight, INTS, align=64)
        columns.append(b.and_(packed, v.ints(0x0F0F0F0F)))
        columns.append(b.and_(b.lshr(packed, v.ints(4)), v.ints(0x0F0F0F0F)))
    scale = b.fpext(v.load(weights, 256, HALVES, align=32), FLOATS)
    least = b.fpext(v.load(weights, 288, HALVES, align=32), FLOATS)
    for x, slot in zip(xs, slots, strict=True):
        group = v.offset(x, step, TOKEN_GROUP_BYTES)
        total = v.splat(v.load(group, 36, F32))
        b.store(v.fma(least, total, b.load(slot)), slot)
        _add_group(v, columns, scale, group, slot, v.ints(0))


def _add_group(v: Simd, columns: list[Any], scale: Any, group: Any, slot: Any, start: Any) -> None:
    b = v.builder
    for four, column in enumerate(columns):
        start = v.dot_int8x4(start, column, v.splat(v.load(group, 4 * four, I32)))
    factor = b.fmul(scale, v.splat(v.load(group, 32, F32)))
    b.store(v.fma(factor, b.sitofp(start, ir.VectorType(F32, 16)), b.load(slot)), slot)


bf16, int8, int4 = _dot(2, _bf16), _dot(1, _int8), _dot(1, _int4)
