"""SIMD kernels written as LLVM vectors, where numba does not vectorise automatically.

`strip` processes the rows of one pair in strips of 4 registers. Lane r of the wavefront is one column behind
lane r - 1, and only the strip's last row is written to memory. `lanes` processes one pair per lane, several
rows at once. Vectors have 64 bytes; LLVM splits them on machines with narrower registers. Called from
`distance_kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

REGISTER_BYTES = 64
REGISTERS = 4
"""Registers of a strip; enough to hide instruction latency."""
_FAST = ("nnan", "ninf", "nsz", "contract")


class Vectors:
    """Arithmetic on LLVM vectors of one float type."""

    def __init__(self, context: Any, builder: Any, number: Any) -> None:
        self.builder, self._context, self._number = builder, context, number
        self.scalar = context.get_value_type(number)
        self.width = REGISTER_BYTES * 8 // number.bitwidth
        self.type = ir.VectorType(self.scalar, self.width)

    def pointer(self, kind: Any, value: Any) -> Any:
        """Address of an array's first element."""
        return self._context.make_array(kind)(self._context, self.builder, value).data

    def load(self, pointer: Any, index: Any) -> Any:
        """Load consecutive elements from `index` on."""
        return self.builder.load(self._place(pointer, index), align=self.scalar_bytes)

    def store(self, value: Any, pointer: Any, index: Any) -> None:
        """Store consecutive elements from `index` on."""
        self.builder.store(value, self._place(pointer, index), align=self.scalar_bytes)

    @property
    def scalar_bytes(self) -> int:
        """Bytes of one lane."""
        return int(self._number.bitwidth) // 8

    def splat(self, value: Any) -> Any:
        """Broadcast a value to every lane."""
        one = self.builder.insert_element(ir.Constant(self.type, ir.Undefined), value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, one, zeros)

    def shift_in(self, before: Any, vector: Any) -> Any:
        """Shift `vector` by one lane; the last lane of `before` becomes the first."""
        places = [self.width - 1 + lane for lane in range(self.width)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.width), places)
        return self.builder.shuffle_vector(before, vector, mask)

    def least(self, *values: Any) -> Any:
        """Elementwise minimum."""
        found = values[0]
        for value in values[1:]:
            found = self.builder.select(
                self.builder.fcmp_ordered("<", value, found, flags=_FAST), value, found
            )
        return found

    def cost(self, x: Any, y: Any, power: int) -> Any:
        """|x - y|^power."""
        gap = self.builder.fsub(x, y, flags=_FAST)
        if power == 2:
            return self.builder.fmul(gap, gap, flags=_FAST)
        return self.builder.select(
            self.builder.fcmp_ordered("<", gap, self.splat(ir.Constant(self.scalar, 0.0)), flags=_FAST),
            self.builder.fneg(gap),
            gap,
        )

    def add(self, a: Any, b: Any) -> Any:
        """Sum."""
        return self.builder.fadd(a, b, flags=_FAST)

    def extra(self, slant: Any, extra: Any, cost: Any) -> Any:
        """Cost of the diagonal move before the cell's own cost: slant + extra * cost."""
        return self.add(slant, self.builder.fmul(extra, cost, flags=_FAST))

    def variables(self, values: Sequence[Any]) -> list[Any]:
        """Allocate variables with initial values; LLVM keeps them in registers."""
        slots = [cgutils.alloca_once(self.builder, self.type) for _ in values]
        for slot, value in zip(slots, values, strict=True):
            self.builder.store(value, slot)
        return slots

    def _place(self, pointer: Any, index: Any) -> Any:
        address = self.builder.gep(pointer, [index])
        return self.builder.bitcast(address, ir.PointerType(self.type))


def _variants(
    builder: Any, power: Any, extra: Any, flag: Any, emit: Callable[[int, bool, bool], None]
) -> None:
    """Emit a specialised loop for each power, diagonal weight and flag; select one at run time.

    A specialised loop does no unused work: a plain distance takes half the time.
    """
    is_one = builder.icmp_signed("==", power, ir.Constant(power.type, 1))
    pays = builder.fcmp_ordered("!=", extra, ir.Constant(extra.type, 0.0))
    with builder.if_else(is_one) as (then, otherwise):
        for branch, kind in ((then, 1), (otherwise, 2)):
            with branch, builder.if_else(pays) as (paying, free):
                for inner, is_paying in ((paying, True), (free, False)):
                    with inner, builder.if_else(flag) as (yes, no):
                        with yes:
                            emit(kind, is_paying, True)
                        with no:
                            emit(kind, is_paying, False)


@intrinsic
def strip(typingctx, x, y, place, reached, steps, corner, power, extra, big, is_open, out):  # type: ignore[no-untyped-def]
    """Process one strip of rows over all columns.

    x: elements of the strip's rows. y[place:]: the elements at the first step; y is reversed and padded with
    far values, and each later step reads one position earlier. reached[s - 1:] (s rows per strip): sums of
    the row above, then `big`; replaced by the strip's last row. corner: sum above and left of the first
    cell. out: each row's sum after `steps` steps, then, if `is_open`, each row's minimum.
    """
    signature = types.void(x, y, place, reached, steps, corner, power, extra, big, is_open, out)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v = Vectors(context, builder, signature.args[0].dtype)
        x, y, reached, out = (v.pointer(signature.args[i], args[i]) for i in (0, 1, 3, 10))
        place, steps, corner, power, extra, big, is_open = (args[i] for i in (2, 4, 5, 6, 7, 8, 9))
        many, extra_all = v.splat(big), v.splat(extra)
        size = steps.type
        xs = [v.load(x, size(v.width * k)) for k in range(REGISTERS)]
        last_row = size(v.width * REGISTERS - 1)

        def emit(kind: int, pays: bool, keeps: bool) -> None:
            sums, ups = v.variables([many] * REGISTERS), v.variables([many] * REGISTERS)
            leasts = v.variables([many] * (REGISTERS if keeps else 0))
            builder.store(builder.insert_element(many, corner, ir.IntType(32)(0)), ups[0])
            with cgutils.for_range(builder, steps) as loop:
                step = loop.index
                above = v.splat(builder.load(builder.gep(reached, [builder.add(step, last_row)])))
                seen = builder.sub(place, step)
                for k in range(REGISTERS):
                    left, slant = builder.load(sums[k]), builder.load(ups[k])
                    up = v.shift_in(above, left)
                    cost = v.cost(xs[k], v.load(y, builder.add(seen, size(v.width * k))), kind)
                    slant = v.extra(slant, extra_all, cost) if pays else slant
                    total = v.add(cost, v.least(slant, left, up))
                    builder.store(total, sums[k])
                    builder.store(up, ups[k])
                    if keeps:
                        builder.store(v.least(builder.load(leasts[k]), total), leasts[k])
                    above = left
                total = builder.load(sums[REGISTERS - 1])
                last = builder.extract_element(total, ir.IntType(32)(v.width - 1))
                builder.store(last, builder.gep(reached, [step]))
            for k in range(REGISTERS):
                v.store(builder.load(sums[k]), out, size(v.width * k))
                if keeps:
                    v.store(builder.load(leasts[k]), out, size(v.width * (REGISTERS + k)))

        _variants(builder, power, extra, is_open, emit)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def lanes(typingctx, x, y, row, begin, end, count, power, extra, big, least):  # type: ignore[no-untyped-def]
    """Process four rows (or one, by `count`) of one register of pairs, over columns begin..end-1.

    Arrays are interleaved: the elements of all pairs at one position are adjacent. x: elements of the rows.
    y: all columns. row: sums of the row above from column -1, replaced by the last row. least: receives the
    minimum of the last row.
    """
    signature = types.void(x, y, row, begin, end, count, power, extra, big, least)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        v = Vectors(context, builder, signature.args[0].dtype)
        x, y, row, least = (v.pointer(signature.args[i], args[i]) for i in (0, 1, 2, 9))
        begin, end, count, power, extra, big = args[3:9]
        many, extra_all = v.splat(big), v.splat(extra)
        width = begin.type(v.width)

        def emit(num_rows: int, kind: int, pays: bool) -> None:
            xs = [v.load(x, begin.type(v.width * k)) for k in range(num_rows)]
            sums = v.variables([many] * num_rows)
            slot, lowest = v.variables([v.load(row, builder.mul(begin, width)), many])
            with cgutils.for_range_slice(builder, begin, end, begin.type(1)) as (column, _):
                place = builder.mul(column, width)
                below = builder.add(place, width)
                here, up, slant = v.load(y, place), v.load(row, below), builder.load(slot)
                builder.store(up, slot)
                for k in range(num_rows):
                    left = builder.load(sums[k])
                    cost = v.cost(xs[k], here, kind)
                    slant = v.extra(slant, extra_all, cost) if pays else slant
                    total = v.add(cost, v.least(slant, up, left))
                    builder.store(total, sums[k])
                    slant, up = left, total
                builder.store(v.least(builder.load(lowest), up), lowest)
                v.store(up, row, below)
            v.store(builder.load(lowest), least, begin.type(0))

        is_four = builder.icmp_signed("==", count, ir.Constant(count.type, 4))
        _variants(builder, power, extra, is_four, lambda kind, pays, four: emit(4 if four else 1, kind, pays))
        return context.get_dummy_value()

    return signature, codegen
