"""Translates a `LanguageModel` to a program for `kernels.step`: a table of operations, and their buffers.

Input: a model and the formats of its weights. Output: an int64 table with one row for each operation, packed
weights, key-value caches, and one float32 array for activations and small parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from sensorium.core.errors import UsageError
from sensorium.generation.cpu.weights import FORMATS, Format, Packed, pack, padded_size, zeros
from sensorium.models.language_model import LanguageModel
from sensorium.nn.attention import Attention
from sensorium.nn.block import Block
from sensorium.nn.mlp import GatedMLP

NORM, MULTIPLY, CACHE_KV, ATTEND, QUANTISE, ACTIVATE, CROSS_ATTEND = range(7)
"""Operations; `kernels` unpacks their arguments by name."""
SCORED, SCORES = 13, 14
"""Columns of a row: whether it is for scored tokens only; the buffer of the threads' attention scores."""
ABSENT = -1


@dataclass(frozen=True)
class FloatOffset:
    """Offset in the float array; replaced by an address once the array is allocated."""

    offset: int


@dataclass(frozen=True)
class MatrixIndex:
    """Index of a packed matrix; replaced by its address once the matrices are joined."""

    index: int


Argument: TypeAlias = int | FloatOffset | MatrixIndex


@dataclass(frozen=True)
class Limits:
    """Sizes of a program's buffers.

    Attributes:
        num_rows: Maximum number of sequences.
        capacity: Maximum number of tokens of a sequence, a multiple of 16.
        num_tokens: Maximum number of tokens of a step, a multiple of 8.
        num_threads: Maximum number of threads.
    """

    num_rows: int
    capacity: int
    num_tokens: int
    num_threads: int


class FloatArray:
    """One float32 array, in which buffers and parameters are reserved before it is allocated."""

    def __init__(self) -> None:
        self._size = 0
        self._values: list[tuple[int, np.ndarray]] = []

    def reserve(self, size: int) -> FloatOffset:
        """Reserve a zeroed buffer."""
        offset = self._size
        self._size += -(-size // 16) * 16
        return FloatOffset(offset)

    def put(self, values: Tensor | None, padded: int = 0) -> FloatOffset:
        """Reserve space for values and zeros after them; None: zeros only."""
        at = self.reserve(max(padded, 0 if values is None else values.numel()))
        if values is not None:
            self._values.append((at.offset, values.detach().float().cpu().numpy().reshape(-1)))
        return at

    def allocate(self) -> np.ndarray:
        """Allocate the array, aligned to 64 bytes."""
        array = zeros(4 * self._size).view(np.float32)
        for offset, values in self._values:
            array[offset : offset + values.size] = values
        return array


class Program:
    """The program of a model, with its weights and buffers.

    Args:
        model: Pre-norm, causal, with rotary or learned positions and a head dimension of a multiple of 16.
        limits: Sizes of the buffers.
        kind: Format of the blocks' weights.
        head_kind: Format of the output matrix.

    Raises:
        UsageError: If the kernels do not support the model.
    """

    def __init__(self, model: LanguageModel, limits: Limits, kind: Format, head_kind: Format) -> None:
        check_supported(model)
        self._floats, self._rows, self._matrices = FloatArray(), list[list[Argument]](), list[Packed]()
        self._limits, self._kind, self._config = limits, kind, model.config.block
        self._blocks = [cast(Block, block) for block in model.stack.blocks]
        attention = self._blocks[0].attention
        self.heads = attention.query.out_features // attention.head_dim
        self.groups = attention.key.out_features // attention.head_dim
        self.head_dim, self.width = attention.head_dim, padded_size(model.config.block.dim)
        shape = len(self._blocks), 2, limits.num_rows, self.groups, limits.capacity * self.head_dim
        self.caches = zeros(2 * int(np.prod(shape))).view(np.uint16).reshape(shape)
        self._reserve_buffers()
        self._rotary = self._put_rotary(attention)
        for layer, block in enumerate(self._blocks):
            self._add_block(layer, block)
        self._norm(model.stack.norm, head_kind, is_scored=True)
        self._multiply(pack(model.output_matrix, head_kind), self._zeros, is_scored=True)
        self.floats = self._floats.allocate()
        self.x = self.floats[self._x.offset :][: limits.num_tokens * self.width].reshape(-1, self.width)
        self.weights, starts = _join(self._matrices)
        addresses = [int(self.weights.ctypes.data) + start for start in starts]
        self.with_memory = self._table(self._rows, addresses)
        self_only = [row for row in self._rows if row not in self._memory_rows]
        self.without_memory = self._table(self_only, addresses)
        self._max_keys = 0
        self.reserve_scores(limits.capacity)

    def reserve_scores(self, num_keys: int) -> None:
        """Enlarge the score buffers to `num_keys` (a multiple of 16): a memory may exceed the cache."""
        if num_keys <= self._max_keys:
            return
        self._scores, self._max_keys = zeros(4 * num_keys * self._limits.num_threads), num_keys
        offset = (int(self._scores.ctypes.data) - int(self.floats.ctypes.data)) // 4
        for table in (self.with_memory, self.without_memory):
            table[:, SCORES:] = offset, num_keys

    def _reserve_buffers(self) -> None:
        tokens, block = self._limits.num_tokens, self._blocks[0]
        self._mlp_width = padded_size(block.mlp.up.out_features)
        self._num_up = 2 if isinstance(block.mlp, GatedMLP) else 1
        self._qkv_width = padded_size((self.heads + 2 * self.groups) * self.head_dim)
        self._attended_width = padded_size(self.heads * self.head_dim)
        widest = max(self.width, self._attended_width, self._mlp_width)
        self._x = self._floats.reserve(tokens * self.width)
        self._normed = self._floats.reserve(tokens * self.width)
        self._qkv = self._floats.reserve(tokens * self._qkv_width)
        self._attended = self._floats.reserve(tokens * self._attended_width)
        self._up = self._floats.reserve(tokens * self._num_up * self._mlp_width)
        self._activated = self._floats.reserve(tokens * self._mlp_width)
        self._zeros = self._floats.reserve(max(widest * 2, self._qkv_width))
        self._quantised_bytes = zeros(2 * widest * tokens)
        self._memory_rows: list[list[Argument]] = []

    def _put_rotary(self, attention: Attention) -> int:
        """Store cosines and sines of all positions (capacity, K), computed by the model's rotary layer."""
        if attention.rotary is None:
            return ABSENT
        unit = torch.zeros(1, 1, self._limits.capacity, self.head_dim)
        unit[..., : self.head_dim // 2] = 1
        return self._floats.put(attention.rotary(unit)[0, 0]).offset

    def _add_block(self, layer: int, block: Block) -> None:
        self._norm(block.attention_norm, self._kind)
        self._add_attention(layer, block.attention)
        if block.memory_attention is not None and block.memory_norm is not None:
            first = len(self._rows)
            self._norm(block.memory_norm, self._kind)
            self._add_memory(layer, block.memory_attention, block.memory_gate)
            self._memory_rows += self._rows[first:]
        self._norm(block.mlp_norm, self._kind)
        mlp = block.mlp
        parts = [mlp.gate, mlp.up] if isinstance(mlp, GatedMLP) else [mlp.up]
        stride = self._num_up * self._mlp_width
        self._multiply(*self._stack(parts, self._mlp_width), out=self._up, stride=stride)
        out = self._activated, self._mlp_width, *self._quantised(self._kind, self._mlp_width)
        self._add(ACTIVATE, self._up, stride, int(len(parts) == 2), self._mlp_width, *out)
        self._multiply(*self._stack([mlp.down], 1), out=self._x, stride=self.width, adds=True)

    def _add_attention(self, layer: int, attention: Attention) -> None:
        parts = [attention.query, attention.key, attention.value]
        self._multiply(*self._stack(parts, 1), out=self._qkv, stride=self._qkv_width)
        shape = self._qkv.offset, self._qkv_width, self.heads, self.groups, self.head_dim
        keys, values = (int(one.ctypes.data) for one in self.caches[layer])
        gains = [self._gain(norm) for norm in (attention.query_norm, attention.key_norm)]
        self._add(CACHE_KV, *shape, self._rotary, *gains, keys, values, self._limits.capacity)
        out = self._attended.offset, self._attended_width
        self._add(ATTEND, *shape, keys, values, self._limits.capacity, *out)
        self._add_out(attention.out.weight, attention.out.bias)

    def _add_memory(self, layer: int, attention: Attention, gate: Tensor | None) -> None:
        self._multiply(*self._stack([attention.query], 1), out=self._qkv, stride=self._qkv_width)
        shape = self._qkv.offset, self._qkv_width, self.heads, self.groups, self.head_dim
        out = self._attended.offset, self._attended_width
        self._add(CROSS_ATTEND, *shape, layer, *out, self._gain(attention.query_norm))
        factor = torch.ones(()) if gate is None else gate.detach().float().tanh()
        bias = None if attention.out.bias is None else factor * attention.out.bias.float()
        self._add_out(factor * attention.out.weight.float(), bias)

    def _add_out(self, weight: Tensor, bias: Tensor | None) -> None:
        quantised = self._quantised(self._kind, self._attended_width)
        self._add(QUANTISE, self._attended, self._attended_width, self._attended_width, *quantised)
        at = self._zeros if bias is None else self._floats.put(bias, self.width)
        self._multiply(pack(weight, self._kind), at, out=self._x, stride=self.width, adds=True)

    def _norm(self, norm: nn.Module, kind: Format, *, is_scored: bool = False) -> None:
        gain, bias = cast(Tensor, norm.weight), getattr(norm, "bias", None)
        gain_at, bias_at = self._floats.put(gain, self.width), self._floats.put(bias, self.width)
        source = self._x, self.width, gain_at, bias_at, self._normed, self.width
        shape = self._config.dim, self.width, int(isinstance(norm, nn.LayerNorm))
        self._add(NORM, *source, *shape, *self._quantised(kind, self.width), is_scored=is_scored)

    def _multiply(
        self,
        packed: Packed,
        bias: FloatOffset,
        *,
        out: FloatOffset | None = None,
        stride: int = 0,
        adds: bool = False,
        is_scored: bool = False,
    ) -> None:
        """Multiply the last quantised activations; without `out` each run sets the address."""
        self._matrices.append(packed)
        number, address, num_bytes = self._quantised(packed.format, packed.num_columns)
        units = packed.unit_bytes, packed.num_rows // packed.unit_rows, packed.unit_rows, packed.steps
        stride = packed.num_rows if out is None else stride
        target: Argument = 0 if out is None else out
        if is_scored:
            bias = self._floats.reserve(packed.num_rows)
        where = address, num_bytes, target, 4 * stride, int(adds), bias
        self._add(MULTIPLY, number, MatrixIndex(len(self._matrices) - 1), *units, *where, is_scored=is_scored)

    def _quantised(self, kind: Format, width: int) -> tuple[int, int, int]:
        """Format number, address and bytes of a token of the quantised activations."""
        num_bytes = 2 * width if kind == "bf16" else 48 * (width // 32)
        return FORMATS.index(kind), int(self._quantised_bytes.ctypes.data), num_bytes

    def _stack(self, layers: Sequence[nn.Linear], multiple: int) -> tuple[Packed, FloatOffset]:
        """Concatenate layers, each padded to a multiple of rows, and their biases."""
        sizes = [-(-layer.out_features // multiple) * multiple for layer in layers]
        weights, biases = [], []
        for layer, size in zip(layers, sizes, strict=True):
            missing = size - layer.out_features
            weights.append(nn.functional.pad(layer.weight.detach().float(), (0, 0, 0, missing)))
            bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().float()
            biases.append(nn.functional.pad(bias, (0, missing)))
        packed = pack(torch.cat(weights), self._kind)
        has_bias = any(layer.bias is not None for layer in layers)
        return packed, self._floats.put(torch.cat(biases), packed.num_rows) if has_bias else self._zeros

    def _gain(self, norm: nn.Module | None) -> int:
        return ABSENT if norm is None else self._floats.put(cast(Tensor, norm.weight)).offset

    def _add(self, operation: int, *arguments: Argument, is_scored: bool = False) -> None:
        row: list[Argument] = [operation, *arguments]
        row += [0] * (SCORED - len(row))
        self._rows.append([*row, int(is_scored), 0, 0])

    def _table(self, rows: Sequence[Sequence[Argument]], matrices: Sequence[int]) -> np.ndarray:
        base = int(self.floats.ctypes.data)

        def address(one: Argument) -> int:
            if isinstance(one, FloatOffset):
                return base + 4 * one.offset
            return matrices[one.index] if isinstance(one, MatrixIndex) else one

        return np.array([[address(one) for one in row] for row in rows], np.int64)


def _join(matrices: list[Packed]) -> tuple[np.ndarray, list[int]]:
    """Move all matrices into one array; return it and the start of each. Each is freed once it is copied."""
    sizes = [-(-len(matrix.data) // 64) * 64 for matrix in matrices]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    joined = zeros(sum(sizes))
    for start in reversed(starts):
        data = matrices.pop().data
        joined[start : start + len(data)] = data
    return joined, starts


def check_supported(model: LanguageModel) -> None:
    """Refuse a model that the kernels do not support.

    Raises:
        UsageError: It names the unsupported options.
    """
    block = model.config.block
    head_dim = block.dim // block.num_heads if block.head_dim is None else block.head_dim
    known = {
        "norm_place='pre'": block.norm_place == "pre",
        "is_causal=True": block.is_causal,
        "rotary_axes of 0 or 1": block.rotary_axes <= 1,
        "heads of a multiple of 16": head_dim % 16 == 0,
        "memory_diagonal_slope=0": not block.memory_diagonal_slope,
    }
    missing = [name for name, is_so in known.items() if not is_so]
    if missing:
        raise UsageError(f"the compiled decoder needs {' and '.join(missing)}; use PlainDecoder")
