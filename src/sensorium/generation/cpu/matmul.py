"""Machine code for rows of weights times some tokens at once: bfloat16, 8 and 4 bits, laid out by `packing`.

A unit of rows is loaded once for all tokens. Each sum is taken in the same order however many tokens there
are, so what a token becomes does not depend, to the last bit, on who is there beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from sensorium.generation.cpu.simd import F32, FLOATS, HALVES, I32, I64, INTS, Lanes

GROUP = 32
"""Weights of a row that share a scale."""
TOKEN_GROUP_BYTES = 48
"""32 bytes s of a token, then as float32 their scale d and d sum(s), as int32 -128 sum(s), and 4 unused."""
_ARGUMENTS = types.void(*[types.int64] * 8)


def _dot(num_tokens: int, num_registers: int, loop: Callable[..., None]) -> Any:
    """An intrinsic that multiplies a unit of 16 `num_registers` rows with `num_tokens` tokens.

    Its arguments: the unit's address, how many steps its columns take, the first token's address and the
    bytes to the next, the address of the first result and the bytes to the next token's, whether to add to
    what stands there, the address of the biases.
    """

    @intrinsic
    def dot(typingctx, unit, steps, x, x_bytes, out, out_bytes, adds, bias):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            v = Lanes(builder)
            unit, steps, x, x_bytes, out, out_bytes, adds, bias = args
            slots = v.variables([v.all(0.0)] * (num_tokens * num_registers))
            xs = [builder.add(x, builder.mul(x_bytes, I64(token))) for token in range(num_tokens)]
            v.each(steps, lambda step: loop(v, unit, step, xs, slots))
            is_adding = builder.icmp_signed("!=", adds, I64(0))
            for token in range(num_tokens):
                row = builder.add(out, builder.mul(out_bytes, I64(token)))
                for register in range(num_registers):
                    there = v.load(row, 64 * register, FLOATS)
                    base = builder.select(is_adding, there, v.all(0.0))
                    total = builder.load(slots[token * num_registers + register])
                    total = builder.fadd(total, v.load(bias, 64 * register, FLOATS))
                    v.store(builder.fadd(base, total), row, 64 * register)
            return context.get_dummy_value()

        return _ARGUMENTS, codegen

    return dot


def _bf16(v: Lanes, unit: Any, step: Any, xs: list[Any], slots: list[Any]) -> None:
    """Two columns of 32 rows."""
    weights = v.offset(unit, step, 128)
    rows = [v.load(weights, 64 * register, INTS, align=64) for register in (0, 1)]
    for token, x in enumerate(xs):
        pair = v.splat(v.load(v.offset(x, step, 4), 0, I32))
        for register in (0, 1):
            slot = slots[2 * token + register]
            v.builder.store(v.pairs(v.builder.load(slot), rows[register], pair), slot)


def _int8(v: Lanes, unit: Any, step: Any, xs: list[Any], slots: list[Any]) -> None:
    """A group of 32 columns of 16 rows: w = d (u - 128)."""
    weights = v.offset(unit, step, 544)
    columns = [v.load(weights, 64 * four, INTS, align=32) for four in range(8)]
    scale = v.builder.fpext(v.load(weights, 512, HALVES, align=32), FLOATS)
    for x, slot in zip(xs, slots, strict=True):
        group = v.offset(x, step, TOKEN_GROUP_BYTES)
        _add_group(v, columns, scale, group, slot, v.splat(v.load(group, 40, I32)))


def _int4(v: Lanes, unit: Any, step: Any, xs: list[Any], slots: list[Any]) -> None:
    """A group of 32 columns of 16 rows: w = d u + m."""
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


def _add_group(v: Lanes, columns: list[Any], scale: Any, group: Any, slot: Any, start: Any) -> None:
    b = v.builder
    for four, column in enumerate(columns):
        start = v.fours(start, column, v.splat(v.load(group, 4 * four, I32)))
    factor = b.fmul(scale, v.splat(v.load(group, 32, F32)))
    b.store(v.fma(factor, b.sitofp(start, ir.VectorType(F32, 16)), b.load(slot)), slot)


bf16_1, bf16_4, bf16_8 = (_dot(count, 2, _bf16) for count in (1, 4, 8))
int8_1, int8_4, int8_8 = (_dot(count, 1, _int8) for count in (1, 4, 8))
int4_1, int4_4, int4_8 = (_dot(count, 1, _int4) for count in (1, 4, 8))
