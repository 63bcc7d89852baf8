"""A GGUF file: the metadata, and the tensors as they lie in it.

In: the file. Out: values by name, and raw blocks that are mapped, not read, until they are decoded. The
layout, little-endian: "GGUF", version (uint32), number of tensors and of metadata (uint64 each); metadata
are key, type and value; tensors are name, rank, shape (fastest axis first), type and offset; then, aligned,
the data, one tensor after another. Every count is held against the file's size before memory is taken for
it, and what llama.cpp refuses (keys and names given twice, gaps between tensors) is refused. Knows no
architecture.

The package `gguf` decodes the blocks. Its own reader takes 3.3 s to open the file of SmolLM2-135M; this one
takes 0.2 s, so it is used only as the oracle of the tests.

Reference: `docs/gguf.md` of ggml, version 3.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from sensorium.core.errors import CheckpointError, NotFoundError
from sensorium.models.pretrained.settings import shown

Value = bool | int | float | str | list["Value"]

_MAGIC, _VERSIONS, _ALIGNMENT = b"GGUF", (2, 3), 32
_SWAPPED = tuple(version << 24 for version in _VERSIONS)
_ALIGNMENTS = tuple(1 << power for power in range(17))
_MOST_AXES = 4
_DECODED_ROWS = 1024
"""Rows into which a tensor's blocks are joined: `gguf` decodes 16 at a time, and is slow on short ones."""
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class BlockType:
    """How the values of one block lie in memory.

    Attributes:
        name: As GGUF calls it.
        num_values: Values in a block, neighbours in a row.
        num_bytes: Bytes of a block.
    """

    name: str
    num_values: int
    num_bytes: int


F32 = BlockType("F32", 1, 4)


@dataclass(frozen=True)
class GgufTensor:
    """One tensor, not decoded yet.

    Attributes:
        shape: Slowest axis first, as torch has it.
        kind: How its blocks are made.
        blocks: (rows, bytes of a row); rows are all axes but the last.
    """

    shape: tuple[int, ...]
    kind: BlockType
    blocks: UInt8[np.ndarray, "rows bytes"]

    def decode(self) -> Float32[np.ndarray, "*shape"]:
        """Return its values; scales that are not finite give values that are not, without a warning."""
        from gguf import GGMLQuantizationType, quants

        joined = self.blocks.reshape(math.gcd(len(self.blocks), _DECODED_ROWS), -1)
        with np.errstate(invalid="ignore", over="ignore"):
            values = quants.dequantize(joined, GGMLQuantizationType[self.kind.name])
        return np.require(values, np.float32, ["ALIGNED", "WRITEABLE"]).reshape(self.shape)  # never the file


@dataclass(frozen=True)
class Gguf:
    """What a file holds.

    Attributes:
        metadata: Values by key.
        tensors: By name.
    """

    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]


def read_gguf(path: Path) -> Gguf:
    """Open a file.

    Raises:
        NotFoundError: If it is not there.
        CheckpointError: If it is not a whole GGUF file, or a tensor's type is not supported.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}; give the path of a .gguf file") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise CheckpointError(f"{path} is empty; fetch it again") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; give a .gguf file") from error
    try:
        return _read(_Reader(data))
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} is not a GGUF file that can be read: {line}; fetch it again"
        ) from error


class _Reader:
    """Reads values one after another."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.view = memoryview(data.data)
        self.place = 0

    def take(self, count: int) -> memoryview:
        if count > len(self.view) - self.place:
            raise ValueError(f"cut short: {count} bytes expected, {len(self.view) - self.place} left")
        self.place += count
        return self.view[self.place - count : self.place]

    def number(self, layout: str) -> int:
        return int(struct.unpack(f"<{layout}", self.take(struct.calcsize(layout)))[0])

    def string(self) -> str:
        return str(self.take(self.number("Q")), "utf-8")

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array(self.number("I"), self.number("Q"))
        layout = f"<{_scalar(kind)}"
        value: Value = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def array(self, kind: int, count: int) -> list[Value]:
        if kind == _STRING:
            if 8 * count > len(self.view) - self.place:  # each takes 8 bytes at least
                raise ValueError(f"cut short: an array of {count} texts")
            return [self.string() for _ in range(count)]
        dtype = np.dtype(f"<{_scalar(kind)}")
        values: list[Value] = np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        return values


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"metadata of unknown type {kind}")
    return _SCALARS[kind]


def _read(reader: _Reader) -> Gguf:
    if bytes(reader.take(4)) != _MAGIC:
        raise ValueError("it does not begin with 'GGUF'")
    version = reader.number("I")
    if version not in _VERSIONS:
        order = (
            "big-endian, expected little-endian" if version in _SWAPPED else f"expected one of {_VERSIONS}"
        )
        raise ValueError(f"version {version}, {order}")
    num_tensors, num_values = reader.number("Q"), reader.number("Q")
    metadata: dict[str, Value] = {}
    for _ in range(num_values):
        key = reader.string()
        if key in metadata:
            raise ValueError(f"{shown(key)} is given twice")
        metadata[key] = reader.value(reader.number("I"))
    headers = [_header(reader) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment not in _ALIGNMENTS:
        raise ValueError(
            f"general.alignment={shown(alignment)}, expected a power of two up to {_ALIGNMENTS[-1]}"
        )
    start = -(-reader.place // alignment) * alignment
    return Gguf(metadata, _tensors(reader.data[start:], headers, alignment))


def _tensors(data: np.ndarray, headers: list[_Header], alignment: int) -> dict[str, GgufTensor]:
    """Tensors in the order of the file: each begins where the one before it ends, aligned."""
    tensors: dict[str, GgufTensor] = {}
    place = 0
    for header in headers:
        if header.name in tensors:
            raise ValueError(f"{shown(header.name)} is there twice")
        if header.offset != place:
            raise ValueError(
                f"{shown(header.name)} begins at byte {header.offset} of the data, expected {place}"
            )
        tensors[header.name] = _tensor(data, header)
        place = -(-(place + tensors[header.name].blocks.size) // alignment) * alignment
    return tensors


class _Header(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _header(reader: _Reader) -> _Header:
    name, num_axes = reader.string(), reader.number("I")
    if not 1 <= num_axes <= _MOST_AXES:
        raise ValueError(f"{shown(name)} has {num_axes} axes, expected 1 to {_MOST_AXES}")
    shape = tuple(reader.number("Q") for _ in range(num_axes))[::-1]
    if 0 in shape:
        raise ValueError(f"{shown(name)} is of shape {shape}, expected axes of 1 and more")
    return _Header(name, shape, kind=reader.number("I"), offset=reader.number("Q"))


def _tensor(data: np.ndarray, header: _Header) -> GgufTensor:
    name, shape, kind, offset = header
    known, others = _block_types()
    if kind not in known:
        named, names = others.get(kind, "unknown"), ", ".join(one.name for one in known.values())
        raise ValueError(f"{shown(name)} is of quantisation type {kind} ({named}); supported: {names}")
    blocks = known[kind]
    *outer, width = shape
    if width % blocks.num_values:
        raise ValueError(f"rows of {width} in {shown(name)} are no blocks of {blocks.num_values}")
    row_bytes = width // blocks.num_values * blocks.num_bytes
    num_rows = math.prod(outer)
    if offset + num_rows * row_bytes > len(data):
        raise ValueError(f"cut short: {shown(name)} ends beyond the file")
    raw = data[offset : offset + num_rows * row_bytes].reshape(num_rows, row_bytes)
    return GgufTensor(shape, blocks, raw)


@functools.cache
def _block_types() -> tuple[Mapping[int, BlockType], Mapping[int, str]]:
    """Types by GGUF's number: those that the package `gguf` decodes, and the names of the others."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

    known, others = {}, {}
    for kind in GGMLQuantizationType:
        num_values, num_bytes = GGML_QUANT_SIZES[kind]
        try:
            quants.dequantize(np.zeros((1, num_bytes), np.uint8), kind)
        except NotImplementedError:
            others[kind.value] = kind.name
        else:
            known[kind.value] = BlockType(kind.name, num_values, num_bytes)
    return known, others
