"""Reads GGUF files: metadata, and tensors as quantised blocks.

Input: the file. Output: metadata by key, and memory-mapped tensors that are decoded on demand. Layout,
little-endian: "GGUF", version (uint32), number of tensors and of metadata (uint64 each); metadata as key,
type and value; tensors as name, rank, shape (fastest axis first), type and offset; then, aligned, the data.
Every count is checked against the file size before memory is allocated. Files that llama.cpp refuses
(duplicate keys or names, gaps between tensors) are refused. Does not know architectures.

The package `gguf` decodes the blocks. Its reader takes 3.3 s to open SmolLM2-135M and this one 0.2 s, so it
is only the oracle of the tests. Reference: `docs/gguf.md` of ggml, version 3.
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
from sensorium.models.pretrained.settings import short_repr
from sensorium.models.weights import one_line

Value = bool | int | float | str | list["Value"]

_MAGIC, _VERSIONS, _ALIGNMENT = b"GGUF", (2, 3), 32
_SWAPPED = tuple(version << 24 for version in _VERSIONS)
_ALIGNMENTS = tuple(1 << power for power in range(17))
_MOST_AXES = 4
_DECODED_ROWS = 1024
"""Blocks are joined into up to this many rows: `gguf` decodes 16 rows at a time and is slow on short ones."""
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class BlockType:
    """Quantisation type.

    Attributes:
        name: Name in GGUF.
        num_values: Values per block, neighbours in a row.
        num_bytes: Bytes per block.
    """

    name: str
    num_values: int
    num_bytes: int


F32 = BlockType("F32", 1, 4)


@dataclass(frozen=True)
class GgufTensor:
    """Tensor that is not decoded yet.

    Attributes:
        shape: Slowest axis first, as in torch.
        kind: Type of its blocks.
        blocks: (rows, bytes of a row); rows are all axes but the last.
    """

    shape: tuple[int, ...]
    kind: BlockType
    blocks: UInt8[np.ndarray, "rows bytes"]

    def decode(self) -> Float32[np.ndarray, "*shape"]:
        """Return the values; non-finite scales give non-finite values without a warning."""
        from gguf import GGMLQuantizationType, quants

        joined = self.blocks.reshape(math.gcd(len(self.blocks), _DECODED_ROWS), -1)
        with np.errstate(invalid="ignore", over="ignore"):
            values = quants.dequantize(joined, GGMLQuantizationType[self.kind.name])
        return np.require(values, np.float32, ["ALIGNED", "WRITEABLE"]).reshape(self.shape)  # never the file


@dataclass(frozen=True)
class Gguf:
    """Metadata by key and tensors by name."""

    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]


def read_gguf(path: Path) -> Gguf:
    """Open a file.

    Raises:
        NotFoundError: If the file is missing.
        CheckpointError: If it is not a complete GGUF file, or a tensor's type is not supported.
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
        raise CheckpointError(f"{path} cannot be read as GGUF: {one_line(error)}; fetch it again") from error


class _Reader:
    """Reads values sequentially."""

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
            raise ValueError(f"{short_repr(key)} is given twice")
        metadata[key] = reader.value(reader.number("I"))
    headers = [_header(reader) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment not in _ALIGNMENTS:
        raise ValueError(
            f"general.alignment={short_repr(alignment)}, expected a power of two up to {_ALIGNMENTS[-1]}"
        )
    start = -(-reader.place // alignment) * alignment
    return Gguf(metadata, _tensors(reader.data[start:], headers, alignment))


def _tensors(data: np.ndarray, headers: list[_Header], alignment: int) -> dict[str, GgufTensor]:
    """Tensors in file order; each must start at the aligned end of the one before it."""
    tensors: dict[str, GgufTensor] = {}
    place = 0
    for header in headers:
        if header.name in tensors:
            raise ValueError(f"{short_repr(header.name)} is there twice")
        if header.offset != place:
            raise ValueError(
                f"{short_repr(header.name)} begins at byte {header.offset} of the data, expected {place}"
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
        raise ValueError(f"{short_repr(name)} has {num_axes} axes, expected 1 to {_MOST_AXES}")
    shape = tuple(reader.number("Q") for _ in range(num_axes))[::-1]
    if 0 in shape:
        raise ValueError(f"{short_repr(name)} is of shape {shape}, expected axes of 1 and more")
    return _Header(name, shape, kind=reader.number("I"), offset=reader.number("Q"))


def _tensor(data: np.ndarray, header: _Header) -> GgufTensor:
    name, shape, kind, offset = header
    known, others = _block_types()
    if kind not in known:
        named, names = others.get(kind, "unknown"), ", ".join(one.name for one in known.values())
        raise ValueError(f"{short_repr(name)} is of quantisation type {kind} ({named}); supported: {names}")
    blocks = known[kind]
    *outer, width = shape
    if width % blocks.num_values:
        raise ValueError(f"rows of {width} in {short_repr(name)} are no blocks of {blocks.num_values}")
    row_bytes = width // blocks.num_values * blocks.num_bytes
    num_rows = math.prod(outer)
    if offset + num_rows * row_bytes > len(data):
        raise ValueError(f"cut short: {short_repr(name)} ends beyond the file")
    raw = data[offset : offset + num_rows * row_bytes].reshape(num_rows, row_bytes)
    return GgufTensor(shape, blocks, raw)


@functools.cache
def _block_types() -> tuple[Mapping[int, BlockType], Mapping[int, str]]:
    """Types by GGUF number: those that the package `gguf` decodes, and the names of the others."""
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
