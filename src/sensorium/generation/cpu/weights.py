"""Weights as the kernels read them: rows in units, so that a register holds one column of sixteen rows.

    bf16   bfloat16. Units of 32 rows: [pair of columns][2][16 rows][2 columns]
    int8   w = d (u - 128), groups of 32 columns. Units of 16 rows: [group]{[8][16 rows][4 columns], 16 d}
    int4   w = d u + m, likewise: [group]{[4][16 rows][4 columns: low nibbles, 4 more: high], 16 d, 16 m}

d and m are float16. int8 and int4 are the Q8_0 and Q4_1 of GGUF in another order, and weights that come from
there are packed without any further loss. Rows and columns are filled up with zeros.
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
"""In the order of the kernels' numbers."""
GROUP = 32
_CHUNK = 4096
"""Rows that are packed at once."""


@dataclass(frozen=True)
class Packed:
    """A matrix as the kernels read it.

    Attributes:
        data: The bytes.
        format: Which of them.
        num_rows: Rows, zeros among them.
        num_columns: Columns, zeros among them.
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
        """Pairs or groups of columns."""
        return self.num_columns // (2 if self.format == "bf16" else GROUP)


def pack(weight: Float[Tensor, "N K"], kind: Format) -> Packed:
    """Round and reorder a matrix."""
    rows, columns = whole(weight.shape[0]), whole(weight.shape[1])
    bytes_a_row = {"bf16": 2 * columns, "int8": columns // GROUP * 34, "int4": columns // GROUP * 20}[kind]
    data = np.empty(rows * bytes_a_row, np.uint8)
    for first in range(0, rows, _CHUNK):
        part = weight[first : first + _CHUNK].detach().float()
        num_rows = min(_CHUNK, rows - first)
        part = pad(part, (0, columns - part.shape[1], 0, num_rows - part.shape[0]))
        packed = _PACK[kind](part).reshape(-1)
        data[first * bytes_a_row : first * bytes_a_row + packed.size] = packed
    return Packed(data, kind, rows, columns)


def rounded(weight: Float[Tensor, "N K"], kind: Format) -> Float[Tensor, "N K"]:
    """The matrix that the kernels multiply with, in float32."""
    if kind == "bf16":
        return weight.bfloat16().float()
    columns = weight.shape[1]
    groups = pad(weight.float(), (0, whole(columns) - columns)).unflatten(1, (-1, GROUP))
    levels, scale, least = (_eight if kind == "int8" else _four)(groups)
    return (scale[..., None] * levels + least[..., None]).flatten(1)[:, :columns]


def whole(size: int) -> int:
    """The next multiple of 32."""
    return -(-size // GROUP) * GROUP


def zeros(size: int) -> np.ndarray:
    """Zeros, of large pages where there are such: what is read in order then needs fewer look-ups."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)
    memory = mmap.mmap(
        -1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )  # shared memory has small pages
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


def _eight(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers -127..127, scales and 0 of groups (N, G, 32)."""
    scale = (groups.abs().amax(-1) / 127).half().float()
    levels = (groups / scale.clamp_min(1e-30)[..., None]).round().clamp(-127, 127)
    return levels, scale, torch.zeros_like(scale)


def _four(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers 0..15, scales and least values of groups."""
    least = groups.amin(-1)
    scale = ((groups.amax(-1) - least) / 15).half().float()
    least = least.half().float()
    levels = ((groups - least[..., None]) / scale.clamp_min(1e-30)[..., None]).round().clamp(0, 15)
    return levels, scale, least


def _pack_bf16(part: Tensor) -> np.ndarray:
    bits = part.bfloat16().view(torch.int16).numpy().view(np.uint8)
    units = bits.reshape(-1, 2, 16, part.shape[1] // 2, 4)
    return np.ascontiguousarray(units.transpose(0, 3, 1, 2, 4))


def _pack_int8(part: Tensor) -> np.ndarray:
    levels, scale, _ = _eight(part.unflatten(1, (-1, GROUP)))
    columns = _by_column((levels + 128).to(torch.uint8).numpy())
    return np.concatenate([columns.reshape(*columns.shape[:2], -1), _halves(scale)], axis=2)


def _pack_int4(part: Tensor) -> np.ndarray:
    levels, scale, least = _four(part.unflatten(1, (-1, GROUP)))
    columns = _by_column(levels.to(torch.uint8).numpy())
    packed = columns[:, :, 0::2] | columns[:, :, 1::2] << 4
    return np.concatenate([packed.reshape(*packed.shape[:2], -1), _halves(scale), _halves(least)], axis=2)


def _by_column(levels: np.ndarray) -> np.ndarray:
    """(N, G, 32) to (N/16, G, 8, 16 rows, 4 columns)."""
    num_groups = levels.shape[1]
    return levels.reshape(-1, 16, num_groups, 8, 4).transpose(0, 2, 3, 1, 4)


def _halves(values: Tensor) -> np.ndarray:
    """(N, G) to the bytes of float16 of (N/16, G, 16 rows)."""
    halves = values.half().numpy().reshape(-1, 16, values.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(halves).view(np.uint8)


_PACK = {"bf16": _pack_bf16, "int8": _pack_int8, "int4": _pack_int4}
