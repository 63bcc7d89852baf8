"""Sixteen numbers at a time: what the kernels of a decoding step are made of, written as LLVM vectors.

LLVM lowers them to whatever registers there are. Two products have an instruction of their own on recent
x86 processors, and a longer way on others that gives the same sums, up to the rounding of the first:

    pairs    c_i += w_2i x_2i + w_2i+1 x_2i+1     bfloat16 pairs, float32 sums     (AVX-512 BF16)
    fours    c_i += sum_j u_ij s_ij, j = 0..3     unsigned by signed bytes, exact  (AVX-512 VNNI)

Addresses are plain int64, so that one buffer holds anything. Needs llvmlite; imported by kernels only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

WIDTH = 16
I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS, INTS = ir.VectorType(F32, WIDTH), ir.VectorType(I32, WIDTH)
HALVES, BYTES = ir.VectorType(ir.HalfType(), WIDTH), ir.VectorType(I8, WIDTH)
SHORTS = ir.VectorType(I16, WIDTH)
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


@functools.cache
def has_instruction(feature: str) -> bool:
    """Whether this processor has `avx512bf16` or `avx512vnni`."""
    return bool(binding.get_host_cpu_features().get(feature, False))


class Lanes:
    """Arithmetic on vectors of sixteen."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def load(self, address: Any, offset: int, kind: Any, align: int = 4) -> Any:
        """What stands `offset` bytes behind an address."""
        return self.builder.load(self._pointer(address, offset), align=align, typ=kind)

    def store(self, value: Any, address: Any, offset: int = 0, align: int = 4) -> None:
        """Write `offset` bytes behind an address."""
        self.builder.store(value, self._pointer(address, offset), align=align)

    def offset(self, address: Any, index: Any, size: int) -> Any:
        """`index` times `size` bytes further on."""
        return self.builder.add(address, self.builder.mul(index, I64(size)))

    def splat(self, value: Any) -> Any:
        """The value in every lane."""
        kind = ir.VectorType(value.type, WIDTH)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(INTS, [0] * WIDTH))

    def all(self, number: float) -> Any:
        """A constant in every lane."""
        return ir.Constant(FLOATS, [float(number)] * WIDTH)

    def ints(self, number: int) -> Any:
        """A whole constant in every lane."""
        return ir.Constant(INTS, [number] * WIDTH)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """A b + c."""
        return self._call("llvm.fma.v16f32", FLOATS, a, b, c)

    def round(self, x: Any) -> Any:
        """To the nearest whole number, still as a float."""
        return self._call("llvm.rint.v16f32", FLOATS, x)

    def greatest(self, a: Any, b: Any) -> Any:
        """Elementwise maximum."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def sum(self, x: Any) -> Any:
        """Of all lanes, in an order of its own that is always the same."""
        total = x
        for distance in (8, 4, 2, 1):
            total = self.builder.fadd(total, self._moved(total, distance))
        return self.builder.extract_element(total, I32(0))

    def peak(self, x: Any) -> Any:
        """Greatest lane."""
        for distance in (8, 4, 2, 1):
            x = self.greatest(x, self._moved(x, distance))
        return self.builder.extract_element(x, I32(0))

    def whole_sum(self, x: Any) -> Any:
        """Of all lanes of whole numbers."""
        for distance in (8, 4, 2, 1):
            x = self.builder.add(x, self._moved(x, distance))
        return self.builder.extract_element(x, I32(0))

    def exp(self, x: Any) -> Any:
        """e^x to 2e-7, by 2^n times a polynomial of the rest (Cephes)."""
        b = self.builder
        x = self.greatest(x, self.all(-87.0))
        x = b.select(b.fcmp_ordered("<", x, self.all(88.0)), x, self.all(88.0))
        n = self.round(b.fmul(x, self.all(1.44269504088896341)))
        r = self.fma(n, self.all(2.12194440e-4), self.fma(n, self.all(-0.693359375), x))
        p = self.all(_EXP[0])
        for factor in _EXP[1:]:
            p = self.fma(p, r, self.all(factor))
        y = b.fadd(self.fma(p, b.fmul(r, r), r), self.all(1.0))
        power = b.shl(b.add(b.fptosi(n, INTS), self.ints(127)), self.ints(23))
        return b.fmul(y, b.bitcast(power, FLOATS))

    def erf(self, x: Any) -> Any:
        """Error function to 2e-7 (Abramowitz and Stegun, 7.1.26)."""
        b = self.builder
        size = self.greatest(x, b.fneg(x))
        t = b.fdiv(self.all(1.0), self.fma(self.all(0.3275911), size, self.all(1.0)))
        p = self.all(_ERF[0])
        for factor in _ERF[1:]:
            p = self.fma(p, t, self.all(factor))
        tail = b.fmul(b.fmul(p, t), self.exp(b.fneg(b.fmul(size, size))))
        found = b.fsub(self.all(1.0), tail)
        return b.select(b.fcmp_ordered("<", x, self.all(0.0)), b.fneg(found), found)

    def bfloat(self, x: Any) -> Any:
        """Bits of bfloat16 in the low half of each lane, rounded to nearest even."""
        b = self.builder
        bits = b.bitcast(x, INTS)
        odd = b.and_(b.lshr(bits, self.ints(16)), self.ints(1))
        return b.lshr(b.add(b.add(bits, self.ints(0x7FFF)), odd), self.ints(16))

    def pairs(self, sums: Any, weights: Any, x: Any) -> Any:
        """Sums of products of bfloat16 pairs."""
        if has_instruction("avx512bf16"):
            return self._call("llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, sums, weights, x)
        b, high = self.builder, self.ints(-65536)
        for take in (lambda v: b.shl(v, self.ints(16)), lambda v: b.and_(v, high)):
            sums = self.fma(b.bitcast(take(weights), FLOATS), b.bitcast(take(x), FLOATS), sums)
        return sums

    def fours(self, sums: Any, unsigned: Any, signed: Any) -> Any:
        """Sums of products of four bytes each."""
        if has_instruction("avx512vnni"):
            return self._call("llvm.x86.avx512.vpdpbusd.512", INTS, sums, unsigned, signed)
        b = self.builder
        for byte in range(4):
            u = b.and_(b.lshr(unsigned, self.ints(8 * byte)), self.ints(255))
            s = b.ashr(b.shl(signed, self.ints(24 - 8 * byte)), self.ints(24))
            sums = b.add(sums, b.mul(u, s))
        return sums

    def variables(self, values: Sequence[Any]) -> list[Any]:
        """Variables with their first values; LLVM keeps them in registers."""
        slots = [cgutils.alloca_once(self.builder, value.type) for value in values]
        for slot, value in zip(slots, values, strict=True):
            self.builder.store(value, slot)
        return slots

    def each(self, count: Any, body: Callable[[Any], None]) -> None:
        """Loop."""
        with cgutils.for_range(self.builder, count) as loop:
            body(loop.index)

    def _moved(self, x: Any, distance: int) -> Any:
        mask = ir.Constant(INTS, [(lane + distance) % WIDTH for lane in range(WIDTH)])
        return self.builder.shuffle_vector(x, x, mask)

    def _pointer(self, address: Any, offset: int) -> Any:
        place = self.builder.add(address, I64(offset)) if offset else address
        return self.builder.inttoptr(place, ir.PointerType())

    def _call(self, name: str, result: Any, *arguments: Any) -> Any:
        kind = ir.FunctionType(result, [value.type for value in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)
