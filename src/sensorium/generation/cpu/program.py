"""A language model as a program for `kernels.step`: one row for each operation, and the buffers they name.

In: a `LanguageModel` and formats for its weights. Out: rows of whole numbers, packed weights, one array of
floats. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from sensorium.core.errors import UsageError
from sensorium.generation.cpu.weights import FORMATS, Format, Packed, pack, whole, zeros
from sensorium.models.language_model import LanguageModel
from sensorium.nn.attention import Attention
from sensorium.nn.block import Block
from sensorium.nn.mlp import GatedMLP

NORM, MULTIPLY, PLACE, ATTEND, ENCODE, ACTIVATE, REMEMBER = range(7)
"""Operations; what their numbers mean stands where `kernels` takes them apart."""
COLUMNS, SCORED, SCORES = 16, 13, 14
"""Width of a row; where its flag for scored tokens and the place of the threads' scores stand."""
NOWHERE = -1


@dataclass(frozen=True)
class At:
    """A place among the floats, to become an address once they have one."""

    place: int


@dataclass(frozen=True)
class Of:
    """The matrix of some number, to become an address likewise."""

    matrix: int


Number: TypeAlias = int | At | Of


@dataclass(frozen=True)
class Room:
    """What a program has room for.

    Attributes:
        num_rows: Sequences.
        capacity: Tokens of a sequence, a multiple of 16.
        num_tokens: Tokens of a step, a multiple of 8.
        num_threads: Threads of a step.
    """

    num_rows: int
    capacity: int
    num_tokens: int
    num_threads: int


class Floats:
    """One array of float32, handed out piece by piece."""

    def __init__(self) -> None:
        self._size = 0
        self._given: list[tuple[int, np.ndarray]] = []

    def take(self, size: int) -> At:
        """Room for some numbers, zeros at first."""
        place = self._size
        self._size += -(-size // 16) * 16
        return At(place)

    def put(self, values: Tensor) -> At:
        """Room for given numbers."""
        at = self.take(values.numel())
        self._given.append((at.place, values.detach().float().cpu().numpy().reshape(-1)))
        return at

    def vector(self, values: Tensor | None, padded: int) -> At:
        """Room for a vector with zeros behind it; None: all zeros."""
        at = self.take(padded)
        if values is not None:
            self._given.append((at.place, values.detach().float().cpu().numpy()))
        return at

    def array(self) -> np.ndarray:
        """The array, at a multiple of 64 bytes."""
        found = zeros(4 * self._size).view(np.float32)
        for place, values in self._given:
            found[place : place + values.size] = values
        return found


class Program:
    """A model's program, with its weights and buffers.

    Args:
        model: Pre-norm and causal, with rotary positions or learned ones, and heads of a multiple of 16.
        room: What for.
        kind: Format of the blocks' weights.
        head_kind: Format of the output matrix.

    Raises:
        UsageError: If the kernels do not know such a model.
    """

    def __init__(self, model: LanguageModel, room: Room, kind: Format, head_kind: Format) -> None:
        check_known(model)
        self._floats, self._rows, self._matrices = Floats(), list[list[Number]](), list[Packed]()
        self._room, self._kind, self._config = room, kind, model.config.block
        self._blocks = [cast(Block, block) for block in model.stack.blocks]
        attention = self._blocks[0].attention
        self.heads = attention.query.out_features // attention.head_dim
        self.groups = attention.key.out_features // attention.head_dim
        self.head_dim, self.width = attention.head_dim, whole(model.config.block.dim)
        shape = len(self._blocks), 2, room.num_rows, self.groups, room.capacity * self.head_dim
        self.caches = zeros(2 * int(np.prod(shape))).view(np.uint16).reshape(shape)
        self._take_buffers()
        self._turns = self._put_turns(attention)
        for layer, block in enumerate(self._blocks):
            self._add_block(layer, block)
        self._norm(model.stack.norm, head_kind, is_scored=True)
        self._multiply(pack(model.output_matrix, head_kind), self._nothing, is_scored=True)
        self.floats = self._floats.array()
        self.x = self.floats[self._x.place :][: room.num_tokens * self.width].reshape(-1, self.width)
        self.weights, starts = _join(self._matrices)
        addresses = [int(self.weights.ctypes.data) + start for start in starts]
        self.with_memory = self._table(self._rows, addresses)
        self.without_memory = self._table(
            [row for row in self._rows if row not in self._of_memory], addresses
        )
        self._score_room = 0
        self.make_room_for(room.capacity)

    def make_room_for(self, num_keys: int) -> None:
        """Let each thread score so many keys, a multiple of 16: a memory may be longer than the cache."""
        if num_keys <= self._score_room:
            return
        self._scores, self._score_room = zeros(4 * num_keys * self._room.num_threads), num_keys
        place = (int(self._scores.ctypes.data) - int(self.floats.ctypes.data)) // 4
        for table in (self.with_memory, self.without_memory):
            table[:, SCORES:] = place, num_keys

    def _take_buffers(self) -> None:
        tokens, block = self._room.num_tokens, self._blocks[0]
        self._mlp_width = whole(block.mlp.up.out_features)
        self._num_up = 2 if isinstance(block.mlp, GatedMLP) else 1
        self._qkv_width = whole((self.heads + 2 * self.groups) * self.head_dim)
        self._attended_width = whole(self.heads * self.head_dim)
        widest = max(self.width, self._attended_width, self._mlp_width)
        self._x = self._floats.take(tokens * self.width)
        self._normed = self._floats.take(tokens * self.width)
        self._qkv = self._floats.take(tokens * self._qkv_width)
        self._attended = self._floats.take(tokens * self._attended_width)
        self._up = self._floats.take(tokens * self._num_up * self._mlp_width)
        self._activated = self._floats.take(tokens * self._mlp_width)
        self._nothing = self._floats.take(max(widest * 2, self._qkv_width))
        self._encoded = zeros(2 * widest * tokens)
        self._of_memory: list[list[Number]] = []

    def _put_turns(self, attention: Attention) -> int:
        """Cosines and sines of all positions, (capacity, K), as the model's own layer has them."""
        if attention.rotary is None:
            return NOWHERE
        unit = torch.zeros(1, 1, self._room.capacity, self.head_dim)
        unit[..., : self.head_dim // 2] = 1
        return self._floats.put(attention.rotary(unit)[0, 0]).place

    def _add_block(self, layer: int, block: Block) -> None:
        self._norm(block.attention_norm, self._kind)
        self._add_attention(layer, block.attention)
        if block.memory_attention is not None and block.memory_norm is not None:
            first = len(self._rows)
            self._norm(block.memory_norm, self._kind)
            self._add_memory(layer, block.memory_attention, block.memory_gate)
            self._of_memory += self._rows[first:]
        self._norm(block.mlp_norm, self._kind)
        mlp = block.mlp
        parts = [mlp.gate, mlp.up] if isinstance(mlp, GatedMLP) else [mlp.up]
        stride = self._num_up * self._mlp_width
        self._multiply(*self._stack(parts, self._mlp_width), out=self._up, stride=stride)
        out = self._activated, self._mlp_width, *self._encoding(self._kind, self._mlp_width)
        self._add(ACTIVATE, self._up, stride, int(len(parts) == 2), self._mlp_width, *out)
        self._multiply(*self._stack([mlp.down], 1), out=self._x, stride=self.width, adds=True)

    def _add_attention(self, layer: int, attention: Attention) -> None:
        parts = [attention.query, attention.key, attention.value]
        self._multiply(*self._stack(parts, 1), out=self._qkv, stride=self._qkv_width)
        shape = self._qkv.place, self._qkv_width, self.heads, self.groups, self.head_dim
        keys, values = (int(one.ctypes.data) for one in self.caches[layer])
        gains = [self._gain(norm) for norm in (attention.query_norm, attention.key_norm)]
        self._add(PLACE, *shape, self._turns, *gains, keys, values, self._room.capacity)
        out = self._attended.place, self._attended_width
        self._add(ATTEND, *shape, keys, values, self._room.capacity, *out)
        self._add_out(attention.out.weight, attention.out.bias)

    def _add_memory(self, layer: int, attention: Attention, gate: Tensor | None) -> None:
        self._multiply(*self._stack([attention.query], 1), out=self._qkv, stride=self._qkv_width)
        shape = self._qkv.place, self._qkv_width, self.heads, self.groups, self.head_dim
        out = self._attended.place, self._attended_width
        self._add(REMEMBER, *shape, layer, *out, self._gain(attention.query_norm))
        factor = torch.ones(()) if gate is None else gate.detach().float().tanh()
        bias = None if attention.out.bias is None else factor * attention.out.bias.float()
        self._add_out(factor * attention.out.weight.float(), bias)

    def _add_out(self, weight: Tensor, bias: Tensor | None) -> None:
        encoding = self._encoding(self._kind, self._attended_width)
        self._add(ENCODE, self._attended, self._attended_width, self._attended_width, *encoding)
        at = self._nothing if bias is None else self._floats.vector(bias, self.width)
        self._multiply(pack(weight, self._kind), at, out=self._x, stride=self.width, adds=True)

    def _norm(self, norm: nn.Module, kind: Format, *, is_scored: bool = False) -> None:
        gain, bias = cast(Tensor, norm.weight), getattr(norm, "bias", None)
        gain_at, bias_at = self._floats.vector(gain, self.width), self._floats.vector(bias, self.width)
        source = self._x, self.width, gain_at, bias_at, self._normed, self.width
        shape = self._config.dim, self.width, int(isinstance(norm, nn.LayerNorm))
        self._add(NORM, *source, *shape, *self._encoding(kind, self.width), is_scored=is_scored)

    def _multiply(
        self,
        packed: Packed,
        bias: At,
        *,
        out: At | None = None,
        stride: int = 0,
        adds: bool = False,
        is_scored: bool = False,
    ) -> None:
        """Multiply what was encoded last; without `out` the address is given for each step."""
        self._matrices.append(packed)
        number, address, num_bytes = self._encoding(packed.format, packed.num_columns)
        units = packed.unit_bytes, packed.num_rows // packed.unit_rows, packed.unit_rows, packed.steps
        stride = packed.num_rows if out is None else stride
        target: Number = 0 if out is None else out
        if is_scored:
            bias = self._floats.take(packed.num_rows)
        where = address, num_bytes, target, 4 * stride, int(adds), bias
        self._add(MULTIPLY, number, Of(len(self._matrices) - 1), *units, *where, is_scored=is_scored)

    def _encoding(self, kind: Format, width: int) -> tuple[int, int, int]:
        """Format's number, address and bytes a token of what is multiplied next."""
        num_bytes = 2 * width if kind == "bf16" else 48 * (width // 32)
        return FORMATS.index(kind), int(self._encoded.ctypes.data), num_bytes

    def _stack(self, layers: Sequence[nn.Linear], multiple: int) -> tuple[Packed, At]:
        """Layers on top of one another, each filled up to a multiple of rows, and their biases."""
        sizes = [-(-layer.out_features // multiple) * multiple for layer in layers]
        weights, biases = [], []
        for layer, size in zip(layers, sizes, strict=True):
            missing = size - layer.out_features
            weights.append(nn.functional.pad(layer.weight.detach().float(), (0, 0, 0, missing)))
            bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().float()
            biases.append(nn.functional.pad(bias, (0, missing)))
        packed = pack(torch.cat(weights), self._kind)
        has_bias = any(layer.bias is not None for layer in layers)
        return packed, self._floats.vector(torch.cat(biases), packed.num_rows) if has_bias else self._nothing

    def _gain(self, norm: nn.Module | None) -> int:
        return NOWHERE if norm is None else self._floats.put(cast(Tensor, norm.weight)).place

    def _add(self, operation: int, *numbers: Number, is_scored: bool = False) -> None:
        row: list[Number] = [operation, *numbers]
        row += [0] * (SCORED - len(row))
        self._rows.append([*row, int(is_scored), 0, 0])

    def _table(self, rows: Sequence[Sequence[Number]], matrices: Sequence[int]) -> np.ndarray:
        base = int(self.floats.ctypes.data)

        def address(one: Number) -> int:
            if isinstance(one, At):
                return base + 4 * one.place
            return matrices[one.matrix] if isinstance(one, Of) else one

        return np.array([[address(one) for one in row] for row in rows], np.int64)


def _join(matrices: list[Packed]) -> tuple[np.ndarray, list[int]]:
    """All matrices in one piece of memory, and where each begins; they are let go one by one."""
    sizes = [-(-len(matrix.data) // 64) * 64 for matrix in matrices]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    joined = zeros(sum(sizes))
    for start in reversed(starts):
        data = matrices.pop().data
        joined[start : start + len(data)] = data
    return joined, starts


def check_known(model: LanguageModel) -> None:
    """Refuse what the kernels do not know.

    Raises:
        UsageError: With what it is, and what to take instead.
    """
    block = model.config.block
    head_dim = block.dim // block.num_heads if block.head_dim is None else block.head_dim
    known = {
        "norm_place='pre'": block.norm_place == "pre",
        "is_causal=True": block.is_causal,
        "rotary_axes of 0 or 1": block.rotary_axes <= 1,
        "heads of a multiple of 16": head_dim % 16 == 0,
        "a memory that is not read along": not block.memory_diagonal_slope,
    }
    missing = [name for name, is_so in known.items() if not is_so]
    if missing:
        raise UsageError(f"the compiled decoder needs {' and '.join(missing)}; use PlainDecoder")
