"""Attention kernels for one query, z = sum_j softmax_j(q . k_j / sqrt K) v_j, with float16 keys and values.

Keys are stored in blocks of 16 as [block][dimension][key], so that a register holds one dimension of 16 keys.
Values are stored as [position][dimension].
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.types import float32, int64

from sensorium.generation.cpu.simd import F32, FLOATS, HALVES, I64, Simd, kernel


@kernel(int64, int64, int64, int64, float32, int64)
def scaled_scores(v: Simd, query: Any, keys: Any, blocks: Any, head_dim: Any, scale: Any, out: Any) -> None:
    """Write scale * q . k_j for all keys of the blocks."""
    b = v.builder

    def write(block: Any) -> None:
        first = b.add(keys, b.mul(block, b.mul(head_dim, I64(32))))
        slots = v.variables([v.floats(0.0)] * 4)

        def add(four: Any) -> None:
            for lane, slot in enumerate(slots):
                place = b.add(b.mul(four, I64(4)), I64(lane))
                component = v.splat(v.load(v.offset(query, place, 4), 0, F32))
                of_keys = b.fpext(v.load(v.offset(first, place, 32), 0, HALVES, align=32), FLOATS)
                b.store(v.fma(component, of_keys, b.load(slot)), slot)

        v.loop(b.sdiv(head_dim, I64(4)), add)
        sums = [b.load(slot) for slot in slots]
        total = b.fadd(b.fadd(sums[0], sums[1]), b.fadd(sums[2], sums[3]))
        v.store(b.fmul(total, v.splat(scale)), v.offset(out, block, 64))

    v.loop(blocks, write)


@kernel(int64, int64)
def softmax(v: Simd, scores: Any, count: Any) -> None:
    """Replace the first `count` scores by their softmax, and the others of the last block by 0."""
    b = v.builder
    blocks = b.sdiv(b.add(count, I64(15)), I64(16))
    numbers = ir.Constant(ir.VectorType(I64, 16), list(range(16)))
    [top, total] = v.variables([v.floats(-1e30), v.floats(0.0)])

    def is_key(block: Any) -> Any:
        places = b.add(numbers, v.splat(b.mul(block, I64(16))))
        return b.icmp_signed("<", places, v.splat(count))

    def update_max(block: Any) -> None:
        here = v.load(v.offset(scores, block, 64), 0, FLOATS)
        b.store(v.maximum(b.load(top), b.select(is_key(block), here, v.floats(-1e30))), top)

    v.loop(blocks, update_max)
    largest = v.splat(v.max(b.load(top)))

    def exponentiate(block: Any) -> None:
        place = v.offset(scores, block, 64)
        weight = v.exp(b.fsub(v.load(place, 0, FLOATS), largest))
        weight = b.select(is_key(block), weight, v.floats(0.0))
        b.store(b.fadd(b.load(total), weight), total)
        v.store(weight, place)

    v.loop(blocks, exponentiate)
    factor = v.splat(b.fdiv(F32(1.0), v.sum(b.load(total))))

    def normalise(block: Any) -> None:
        place = v.offset(scores, block, 64)
        v.store(b.fmul(v.load(place, 0, FLOATS), factor), place)

    v.loop(blocks, normalise)


@kernel(int64, int64, int64, int64, int64)
def weighted_sum(v: Simd, weights: Any, values: Any, count: Any, head_dim: Any, out: Any) -> None:
    """Write sum_j weights_j values_j, 64 dimensions at a time, or 16."""
    b = v.builder
    row = b.mul(head_dim, I64(2))

    def emit(registers: int) -> None:
        def write(part: Any) -> None:
            first, slots = v.offset(values, part, 32 * registers), v.variables([v.floats(0.0)] * registers)

            def add(place: Any) -> None:
                weight = v.splat(v.load(v.offset(weights, place, 4), 0, F32))
                here = b.add(first, b.mul(place, row))
                for register, slot in enumerate(slots):
                    value = b.fpext(v.load(here, 32 * register, HALVES, align=32), FLOATS)
                    b.store(v.fma(weight, value, b.load(slot)), slot)

            v.loop(count, add)
            for register, slot in enumerate(slots):
                v.store(b.load(slot), v.offset(out, part, 64 * registers), 64 * register)

        v.loop(b.sdiv(head_dim, I64(16 * registers)), write)

    is_wide = b.icmp_signed("==", b.srem(head_dim, I64(64)), I64(0))
    with b.if_else(is_wide) as (wide, narrow):
        with wide:
            emit(4)
        with narrow:
            emit(1)


@kernel(int64, float32)
def store_half(v: Simd, address: Any, value: Any) -> None:
    """Write a number as float16, clipped to the finite range."""
    b = v.builder
    for sign, edge in (("<", F32(65504.0)), (">", F32(-65504.0))):
        value = b.select(b.fcmp_ordered(sign, value, edge), value, edge)
    v.store(b.fptrunc(value, ir.HalfType()), address, align=2)
