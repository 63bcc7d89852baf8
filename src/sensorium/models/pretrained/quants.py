"""Blocks of quantised numbers, as GGUF files hold them, and back to float32.

In: raw bytes, one row a block. Out: the block's values. With d a scale, m an offset and q small integers:

    Q8_0: d q      Q4_0: d (q - 8)      Q4_1: d q + m      Q6_K: d s (q - 32), s one of 16 scales a block

In the 4-bit kinds the low halves of the bytes are a block's first values, the high halves the rest. Does
not know files or names of tensors.

Reference: `ggml-common.h` and `ggml-quants.c` of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray


@dataclass(frozen=True)
class BlockType:
    """How the values of one block lie in memory.

    Attributes:
        name: As GGUF calls it.
        num_values: Values in a block, neighbours in a row.
        num_bytes: Bytes of a block.
        decode: (blocks, num_bytes) bytes -> (blocks, num_values).
    """

    name: str
    num_values: int
    num_bytes: int
    decode: Callable[[UInt8[np.ndarray, "blocks bytes"]], Float32[np.ndarray, "blocks values"]]


Bytes = NDArray[np.uint8]
Values = NDArray[np.float32]


def _f32(blocks: Bytes) -> Values:
    return blocks.view("<f4").astype(np.float32)


def _f16(blocks: Bytes) -> Values:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Values:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _q8_0(blocks: Bytes) -> Values:
    return _scale(blocks, 0) * blocks[:, 2:].view(np.int8)


def _q4_0(blocks: Bytes) -> Values:
    return _scale(blocks, 0) * (_nibbles(blocks[:, 2:]).view(np.int8) - np.int8(8))


def _q4_1(blocks: Bytes) -> Values:
    return _scale(blocks, 0) * _nibbles(blocks[:, 4:]) + _scale(blocks, 2)


def _scale(blocks: Bytes, place: int) -> Values:
    """The float16 that stands at a place of each block: (blocks, 1)."""
    return _f16(blocks[:, place : place + 2].copy())


def _nibbles(packed: Bytes) -> Bytes:
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _q6_k(blocks: Bytes) -> Values:
    """256 values: 4 low bits each (128 bytes), 2 high bits (64), 16 scales of 8 bits, one float16 scale."""
    count = len(blocks)
    low = blocks[:, :128].reshape(count, 2, 1, 64) >> np.array([0, 4], np.uint8)[:, None] & 15
    high = blocks[:, 128:192].reshape(count, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    quants = (low.reshape(count, 256) | high.reshape(count, 256) << 4).astype(np.int8) - np.int8(32)
    scales: Values = _scale(blocks, 208) * blocks[:, 192:208].view(np.int8)
    values: Values = quants.reshape(count, 16, 16) * scales[..., None]
    return values.reshape(count, 256)


BLOCK_TYPES: Mapping[int, BlockType] = {
    0: BlockType("F32", 1, 4, _f32),
    1: BlockType("F16", 1, 2, _f16),
    2: BlockType("Q4_0", 32, 18, _q4_0),
    3: BlockType("Q4_1", 32, 20, _q4_1),
    8: BlockType("Q8_0", 32, 34, _q8_0),
    14: BlockType("Q6_K", 256, 210, _q6_k),
    30: BlockType("BF16", 1, 2, _bf16),
}
"""By the number that GGUF has for them."""

OTHER_TYPES: Mapping[int, str] = {6: "Q5_0", 7: "Q5_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K"}
"""Common ones that are not decoded here, for a message."""
