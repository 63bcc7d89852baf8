"""SIMD arithmetic on vectors of 16 numbers, emitted as LLVM instructions: the basis of all kernels.

LLVM lowers them to the registers of the processor. Two products have an instruction on recent x86 processors
and several instructions elsewhere. The sums are equal, except for the rounding of the first:

    dot_bf16x2    c_i += w_2i x_2i + w_2i+1 x_2i+1     bfloat16 pairs, float32 sums     (AVX-512 BF16)
    dot_int8x4    c_i += sum_j u_ij s_ij, j = 0..3     unsigned by signed bytes, exact  (AVX-512 VNNI)

Addresses are int64. Needs llvmlite, so only kernels import this module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

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


class Simd:
    """Emits arithmetic on vectors of 16 numbers."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def load(self, address: Any, offset: int, kind: Any, align: int = 4) -> Any:
        """Load from `offset` bytes after an address."""
        return self.builder.load(self._pointer(address, offset), align=align, typ=kind)

    def store(self, value: Any, address: Any, offset: int = 0, align: int = 4) -> None:
        """Store to `offset` bytes after an address."""
        self.builder.store(value, self._pointer(address, offset), align=align)

    def offset(self, address: Any, index: Any, size: int) -> Any:
        """The address plus `index` times `size` bytes."""
        return self.builder.add(address, self.builder.mul(index, I64(size)))

    def splat(self, value: Any) -> Any:
        """Broadcast a value to all lanes."""
        kind = ir.VectorType(value.type, WIDTH)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(INTS, [0] * WIDTH))

    def floats(self, number: float) -> Any:
        """A float constant in all lanes."""
        return ir.Constant(FLOATS, [float(number)] * WIDTH)

    def ints(self, number: int) -> Any:
        """An int32 constant in all lanes."""
        return ir.Constant(INTS, [number] * WIDTH)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Fused multiply-add: a b + c."""
        return self.call("llvm.fma.v16f32", FLOATS, a, b, c)

    def round(self, x: Any) -> Any:
        """Round to the nearest integer; the result is float."""
        return self.call("llvm.rint.v16f32", FLOATS, x)

    def maximum(self, a: Any, b: Any) -> Any:
        """Elementwise maximum."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def sum(self, x: Any) -> Any:
        """Sum of all lanes, in a fixed order."""
        return self._reduce(self.builder.fadd, x)

    def max(self, x: Any) -> Any:
        """Maximum of all lanes."""
        return self._reduce(self.maximum, x)

    def sum_ints(self, x: Any) -> Any:
        """Sum of all int32 lanes."""
        return self._reduce(self.builder.add, x)

    def sqrt(self, x: Any) -> Any:
        """Square root of one float."""
        return self.call("llvm.sqrt.f32", F32, x)

    def exp(self, x: Any) -> Any:
        """e^x with relative error 2e-7: 2^n times a polynomial of the remainder (Cephes)."""
        b = self.builder
        x = self.maximum(x, self.floats(-87.0))
        x = b.select(b.fcmp_ordered("<", x, self.floats(88.0)), x, self.floats(88.0))
        n = self.round(b.fmul(x, self.floats(1.44269504088896341)))
        r = self.fma(n, self.floats(2.12194440e-4), self.fma(n, self.floats(-0.693359375), x))
        p = self.floats(_EXP[0])
        for factor in _EXP[1:]:
            p = self.fma(p, r, self.floats(factor))
        y = b.fadd(self.fma(p, b.fmul(r, r), r), self.floats(1.0))
        power = b.shl(b.add(b.fptosi(n, INTS), self.ints(127)), self.ints(23))
        return b.fmul(y, b.bitcast(power, FLOATS))

    def erf(self, x: Any) -> Any:
        """Error function with error 2e-7 (Abramowitz and Stegun, 7.1.26)."""
        b = self.builder
        magnitude = self.maximum(x, b.fneg(x))
        t = b.fdiv(self.floats(1.0), self.fma(self.floats(0.3275911), magnitude, self.floats(1.0)))
        p = self.floats(_ERF[0])
        for factor in _ERF[1:]:
            p = self.fma(p, t, self.floats(factor))
        tail = b.fmul(b.fmul(p, t), self.exp(b.fneg(b.fmul(magnitude, magnitude))))
        found = b.fsub(self.floats(1.0), tail)
        return b.select(b.fcmp_ordered("<", x, self.floats(0.0)), b.fneg(found), found)

    def to_bf16(self, x: Any) -> Any:
        """Bits of bfloat16 in the lower half of each lane, rounded to nearest even."""
        b = self.builder
        bits = b.bitcast(x, INTS)
        odd = b.and_(b.lshr(bits, self.ints(16)), self.ints(1))
        return b.lshr(b.add(b.add(bits, self.ints(0x7FFF)), odd), self.ints(16))

    def dot_bf16x2(self, sums: Any, weights: Any, x: Any) -> Any:
        """Add the products of bfloat16 pairs."""
        if has_instruction("avx512bf16"):
            return self.call("llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, sums, weights, x)
        b, high = self.builder, self.ints(-65536)
        for take in (lambda v: b.shl(v, self.ints(16)), lambda v: b.and_(v, high)):
            sums = self.fma(b.bitcast(take(weights), FLOATS), b.bitcast(take(x), FLOATS), sums)
        return sums

    def dot_int8x4(self, sums: Any, unsigned: Any, signed: Any) -> Any:
        """Add the products of four bytes each."""
        if has_instruction("avx512vnni"):
            return self.call("llvm.x86.avx512.vpdpbusd.512", INTS, sums, unsigned, signed)
        b = self.builder
        for byte in range(4):
            u = b.and_(b.lshr(unsigned, self.ints(8 * byte)), self.ints(255))
            s = b.ashr(b.shl(signed, self.ints(24 - 8 * byte)), self.ints(24))
            sums = b.add(sums, b.mul(u, s))
        return sums

    def variables(self, values: Sequence[Any]) -> list[Any]:
        """Variables with initial values; LLVM keeps them in registers."""
        slots = [cgutils.alloca_once(self.builder, value.type) for value in values]
        for slot, value in zip(slots, values, strict=True):
            self.builder.store(value, slot)
        return slots

    def loop(self, count: Any, body: Callable[[Any], None]) -> None:
        """Emit a loop of `count` iterations."""
        with cgutils.for_range(self.builder, count) as loop:
            body(loop.index)

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """Call a function by its name, such as an LLVM intrinsic."""
        kind = ir.FunctionType(result, [value.type for value in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def _reduce(self, combine: Callable[[Any, Any], Any], x: Any) -> Any:
        for distance in (8, 4, 2, 1):
            mask = ir.Constant(INTS, [(lane + distance) % WIDTH for lane in range(WIDTH)])
            x = combine(x, self.builder.shuffle_vector(x, x, mask))
        return self.builder.extract_element(x, I32(0))

    def _pointer(self, address: Any, offset: int) -> Any:
        place = self.builder.add(address, I64(offset)) if offset else address
        return self.builder.inttoptr(place, ir.PointerType())


def kernel(*arguments: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a numba intrinsic of a function `emit(v, *arguments)` that emits instructions and returns None.

    Args:
        arguments: numba types of the arguments after `v`.
    """

    def decorate(emit: Callable[..., None]) -> Any:
        def typed(typingctx: Any, *_: Any) -> tuple[Any, Callable[..., Any]]:
            def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
                emit(Simd(builder), *values)
                return context.get_dummy_value()

            return types.void(*arguments), codegen

        return intrinsic(functools.update_wrapper(typed, emit, assigned=("__name__", "__doc__"), updated=()))

    return decorate
