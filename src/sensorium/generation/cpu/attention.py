"""Machine code for the attention of one query, z = sum_j softmax_j(q . k_j / sqrt K) v_j, in float16.

Keys stand in blocks of sixteen, coordinate by coordinate, so that a register holds one coordinate of sixteen
keys: [block][coordinate][key]; values stand one after another: [place][coordinate].
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from sensorium.generation.cpu.simd import F32, FLOATS, HALVES, I64, Lanes

_I64, _F32 = types.int64, types.float32


@intrinsic
def score(typingctx, query, keys, blocks, head_dim, scale, out):  # type: ignore[no-untyped-def]
    """Write scale q . k_j for all keys of the blocks."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v, b = Lanes(builder), builder
        query, keys, blocks, head_dim, scale, out = args

        def write(block: Any) -> None:
            first = b.add(keys, b.mul(block, b.mul(head_dim, I64(32))))
            slots = v.variables([v.all(0.0)] * 4)

            def add(four: Any) -> None:
                for lane, slot in enumerate(slots):
                    place = b.add(b.mul(four, I64(4)), I64(lane))
                    coordinate = v.splat(v.load(v.offset(query, place, 4), 0, F32))
                    of_keys = b.fpext(v.load(v.offset(first, place, 32), 0, HALVES, align=32), FLOATS)
                    b.store(v.fma(coordinate, of_keys, b.load(slot)), slot)

            v.each(b.sdiv(head_dim, I64(4)), add)
            sums = [b.load(slot) for slot in slots]
            total = b.fadd(b.fadd(sums[0], sums[1]), b.fadd(sums[2], sums[3]))
            v.store(b.fmul(total, v.splat(scale)), v.offset(out, block, 64))

        v.each(blocks, write)
        return context.get_dummy_value()

    return types.void(_I64, _I64, _I64, _I64, _F32, _I64), codegen


@intrinsic
def soften(typingctx, scores, count):  # type: ignore[no-untyped-def]
    """Turn the first `count` scores into shares that sum to 1; the block's others become 0."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v, b = Lanes(builder), builder
        scores, count = args
        blocks = b.sdiv(b.add(count, I64(15)), I64(16))
        lanes = ir.Constant(ir.VectorType(I64, 16), list(range(16)))
        [top, total] = v.variables([v.all(-1e30), v.all(0.0)])

        def real(block: Any) -> Any:
            places = b.add(lanes, v.splat(b.mul(block, I64(16))))
            return b.icmp_signed("<", places, v.splat(count))

        def look(block: Any) -> None:
            here = v.load(v.offset(scores, block, 64), 0, FLOATS)
            b.store(v.greatest(b.load(top), b.select(real(block), here, v.all(-1e30))), top)

        v.each(blocks, look)
        greatest = v.splat(v.peak(b.load(top)))

        def raise_(block: Any) -> None:
            place = v.offset(scores, block, 64)
            share = v.exp(b.fsub(v.load(place, 0, FLOATS), greatest))
            share = b.select(real(block), share, v.all(0.0))
            b.store(b.fadd(b.load(total), share), total)
            v.store(share, place)

        v.each(blocks, raise_)
        factor = v.splat(b.fdiv(F32(1.0), v.sum(b.load(total))))

        def divide(block: Any) -> None:
            place = v.offset(scores, block, 64)
            v.store(b.fmul(v.load(place, 0, FLOATS), factor), place)

        v.each(blocks, divide)
        return context.get_dummy_value()

    return types.void(_I64, _I64), codegen


@intrinsic
def mix(typingctx, shares, values, count, head_dim, out):  # type: ignore[no-untyped-def]
    """Write the values weighted by their shares, sixty-four coordinates at a time, or sixteen."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v, b = Lanes(builder), builder
        shares, values, count, head_dim, out = args
        row = b.mul(head_dim, I64(2))

        def emit(registers: int) -> None:
            def write(part: Any) -> None:
                first, slots = v.offset(values, part, 32 * registers), v.variables([v.all(0.0)] * registers)

                def add(place: Any) -> None:
                    share = v.splat(v.load(v.offset(shares, place, 4), 0, F32))
                    here = b.add(first, b.mul(place, row))
                    for register, slot in enumerate(slots):
                        value = b.fpext(v.load(here, 32 * register, HALVES, align=32), FLOATS)
                        b.store(v.fma(share, value, b.load(slot)), slot)

                v.each(count, add)
                for register, slot in enumerate(slots):
                    v.store(b.load(slot), v.offset(out, part, 64 * registers), 64 * register)

            v.each(b.sdiv(head_dim, I64(16 * registers)), write)

        is_wide = b.icmp_signed("==", b.srem(head_dim, I64(64)), I64(0))
        with b.if_else(is_wide) as (wide, narrow):
            with wide:
                emit(4)
            with narrow:
                emit(1)
        return context.get_dummy_value()

    return types.void(_I64, _I64, _I64, _I64, _I64), codegen


@intrinsic
def put_half(typingctx, address, value):  # type: ignore[no-untyped-def]
    """Write a number as float16, the greatest finite one for those that are greater."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        address, value = args
        for sign, edge in (("<", F32(65504.0)), (">", F32(-65504.0))):
            value = builder.select(builder.fcmp_ordered(sign, value, edge), value, edge)
        Lanes(builder).store(builder.fptrunc(value, ir.HalfType()), address, align=2)
        return context.get_dummy_value()

    return types.void(_I64, _F32), codegen
