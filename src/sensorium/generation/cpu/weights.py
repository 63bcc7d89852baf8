"""Packs weight matrices for the kernels: rows in units, so that a register holds one column of 16 rows.

    bf16   bfloat16. Units of 32 rows: [pair of columns][2][16 rows][2 columns]
    int8   w = d (u - 128), groups of 32 columns. Units of 16 rows: [group]{[8][16 rows][4 columns], 16 d}
    int4   w = d u + m, likewise: [group]{[4][16 rows][4 columns: low nibbles, 4 more: high], 16 d, 16 m}

d and m are float16. int8 and int4 are Q8_0 and Q4_1 of GGUF in another order: weights in these formats are
packed without further loss. Rows and columns are padded with zeros.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

Format: TypeAlias = Literal["bf16", "int8", "int4"]

FORMATS: tuple[Format, ...] = ("bf16", "int8", "int4")
"""By their number in the kernels."""
GROUP = 32
_CHUNK = 4096
"""Number of rows that are packed at a time."""


@dataclass(frozen=True)
class Packed:
    """A packed matrix.

    Attributes:
        data: The bytes.
        format: Their format.
        num_rows: Number of rows, with padding.
        num_columns: Number of columns, with padding.
    """

    data: np.ndarray
    format: Format
    num_rows: int
    num_columns: int

    @property
    def unit_rows(self) -> int:
        """Rows of a unit."""
        return 32 if self.format == "bf16" else 16

    @property
    def unit_bytes(self) -> int:
        """Bytes of a unit."""
        return len(self.data) * self.unit_rows // self.num_rows

    @property
    def steps(self) -> int:
        """Number of pairs (bf16) or groups of columns."""
        return self.num_columns // (2 if self.format == "bf16" else GROUP)


def pack(weight: Float[Tensor, "N K"], kind: Format) -> Packed:
    """Quantise and reorder a matrix."""
    rows, columns = padded_size(weight.shape[0]), padded_size(weight.shape[1])
    bytes_a_row = {"bf16": 2 * columns, "int8": columns // GROUP * 34, "int4": columns // GROUP * 20}[kind]
    data = np.empty(rows * bytes_a_row, np.uint8)
    for first in range(0, rows, _CHUNK):
        part = weight[first : first + _CHUNK].detach().float()
        num_rows = min(_CHUNK, rows - first)
        part = pad(part, (0, columns - part.shape[1], 0, num_rows - part.shape[0]))
        packed = _PACK[kind](part).reshape(-1)
        data[first * bytes_a_row : first * bytes_a_row + packed.size] = packed
    return Packed(data, kind, rows, columns)


def dequantised(weight: Float[Tensor, "N K"], kind: Format) -> Float[Tensor, "N K"]:
    """Return the matrix that the kernels multiply with, in float32."""
    if kind == "bf16":
        return weight.bfloat16().float()
    columns = weight.shape[1]
    groups = pad(weight.float(), (0, padded_size(columns) - columns)).unflatten(1, (-1, GROUP))
    levels, scale, minimum = (_quantise_int8 if kind == "int8" else _quantise_int4)(groups)
    return (scale[..., None] * levels + minimum[..., None]).flatten(1)[:, :columns]


def padded_size(size: int) -> int:
    """Round up to a multiple of 32."""
    return -(-size // GROUP) * GROUP


def zeros(size: int) -> np.ndarray:
    """Allocate zeroed bytes, in huge pages where supported: sequential reads then have fewer TLB misses."""
    size = max(size, 1)
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)
    # Shared memory, the default, has small pages.
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


def _quantise_int8(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return integers -127..127 (N, G, 32), scales (N, G) and zeros of groups (N, G, 32)."""
    scale = (groups.abs().amax(-1) / 127).half().float()
    levels = (groups / scale.clamp_min(1e-30)[..., None]).round().clamp(-127, 127)
    return levels, scale, torch.zeros_like(scale)


def _quantise_int4(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return integers 0..15 (N, G, 32), scales and minima (N, G) of groups."""
    minimum = groups.amin(-1)
    scale = ((groups.amax(-1) - minimum) / 15).half().float()
    minimum = minimum.half().float()
    levels = ((groups - minimum[..., None]) / scale.clamp_min(1e-30)[..., None]).round().clamp(0, 15)
    return levels, scale, minimum


def _pack_bf16(part: Tensor) -> np.ndarray:
    bits = part.bfloat16().view(torch.int16).numpy().view(np.uint8)
    units = bits.reshape(-1, 2, 16, part.shape[1] // 2, 4)
    return np.ascontiguousarray(units.transpose(0, 3, 1, 2, 4))


def _pack_int8(part: Tensor) -> np.ndarray:
    levels, scale, _ = _quantise_int8(part.unflatten(1, (-1, GROUP)))
    columns = _by_column((levels + 128).to(torch.uint8).numpy())
    return np.concatenate([columns.reshape(*columns.shape[:2], -1), _half_bytes(scale)], axis=2)


def _pack_int4(part: Tensor) -> np.ndarray:
    levels, scale, minimum = _quantise_int4(part.unflatten(1, (-1, GROUP)))
    columns = _by_column(levels.to(torch.uint8).numpy())
    packed = columns[:, :, 0::2] | columns[:, :, 1::2] << 4
    return np.concatenate(
        [packed.reshape(*packed.shape[:2], -1), _half_bytes(scale), _half_bytes(minimum)], axis=2
    )


def _by_column(levels: np.ndarray) -> np.ndarray:
    """Reorder (N, G, 32) to (N/16, G, 8, 16 rows, 4 columns)."""
    num_groups = levels.shape[1]
    return levels.reshape(-1, 16, num_groups, 8, 4).transpose(0, 2, 3, 1, 4)


def _half_bytes(values: Tensor) -> np.ndarray:
    """Reorder (N, G) to (N/16, G, 16 rows) and return its bytes as float16."""
    halves = values.half().numpy().reshape(-1, 16, values.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(halves).view(np.uint8)


_PACK = {"bf16": _pack_bf16, "int8": _pack_int8, "int4": _pack_int4}
