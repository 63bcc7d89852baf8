"""SIMD dot products: with and without a processor instruction they give the sums of the definition."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from numba.core import types  # noqa: E402
from numba.extending import intrinsic  # noqa: E402

from sensorium.generation.cpu import simd  # noqa: E402


def compile_product(name: str, kind: object):
    """A function (sums, left, right) of addresses that adds products to sixteen sums."""

    @intrinsic
    def add(typingctx, sums, left, right):
        def codegen(context, builder, signature, args):
            v = simd.Simd(builder)
            a, b = (v.load(one, 0, simd.INTS) for one in args[1:])
            v.store(getattr(v, name)(v.load(args[0], 0, kind), a, b), args[0])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    @numba.njit("void(int64, int64, int64)")
    def run(sums, left, right):
        add(sums, left, right)

    return run


@pytest.mark.parametrize("has_it", [False, True])
def test_dot_int8x4_adds_unsigned_by_signed_products(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if has_it and not simd.has_instruction("avx512vnni"):
        pytest.skip("this processor has no such instruction")
    monkeypatch.setattr(simd, "has_instruction", lambda feature: has_it)
    stream = np.random.default_rng(1)
    left, right = stream.integers(0, 256, 64, np.uint8), stream.integers(-127, 128, 64, np.int8)
    sums = stream.integers(-999, 999, 16, np.int32)
    wanted = sums + (left.astype(int) * right).reshape(16, 4).sum(1)
    compile_product("dot_int8x4", simd.INTS)(sums.ctypes.data, left.ctypes.data, right.ctypes.data)
    np.testing.assert_array_equal(sums, wanted)


@pytest.mark.parametrize("has_it", [False, True])
def test_dot_bf16x2_adds_products_of_bfloat16(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if has_it and not simd.has_instruction("avx512bf16"):
        pytest.skip("this processor has no such instruction")
    monkeypatch.setattr(simd, "has_instruction", lambda feature: has_it)
    stream = np.random.default_rng(1)
    bits = (stream.standard_normal((2, 32)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    left, right = (np.ascontiguousarray(one) for one in bits)
    floats = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    sums = stream.standard_normal(16).astype(np.float32)
    wanted = sums + (floats[0] * floats[1]).reshape(16, 2).sum(1)
    compile_product("dot_bf16x2", simd.FLOATS)(sums.ctypes.data, left.ctypes.data, right.ctypes.data)
    np.testing.assert_allclose(sums, wanted, atol=1e-6)
