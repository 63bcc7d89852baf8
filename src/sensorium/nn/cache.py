"""Key-value cache of one block for autoregressive decoding, in memory of fixed size.

Input: keys and values of new tokens, and their positions. Output: all keys and values stored so far. The
buffer is allocated once, so that a decoding step allocates and copies nothing. Each row is a sequence with
its own length and write position, and rows are independent. The cache does not know what is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.nn.attention import KeyValues


class StaticCache:
    """Fixed-size buffer of the keys and values of one block's self-attention.

    Args:
        num_rows: Sequences B.
        num_kv_heads: Key heads G.
        capacity: Maximum number of tokens S of a sequence.
        head_dim: Width K of a head.
        dtype: Type of keys and values.
        device: Device of keys and values.
    """

    def __init__(
        self,
        num_rows: int,
        num_kv_heads: int,
        capacity: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.keys = torch.zeros(num_rows, num_kv_heads, capacity, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.mask = torch.zeros(num_rows, capacity, dtype=torch.bool, device=device)
        self.limit = capacity
        """Only the first `limit` places are attended to; who knows how many are in use may lower it."""

    @property
    def capacity(self) -> int:
        """Maximum number of tokens of a sequence."""
        return self.keys.shape[2]

    def extend(self, new: KeyValues, positions: Int64[Tensor, "#B N"] | None = None) -> KeyValues:
        """Write `new` at `positions` (default 0..N-1), and return all stored; raises `UsageError` if full."""
        num_rows, _, num_new, _ = new.keys.shape
        if num_new > self.capacity:
            raise UsageError(f"{num_new} tokens do not fit a cache of {self.capacity}; shorten the input")
        if positions is None:
            positions = torch.arange(num_new, device=new.keys.device)[None]
        positions = positions.expand(num_rows, num_new)
        rows = torch.arange(num_rows, device=new.keys.device)[:, None]
        self.keys[rows, :, positions] = new.keys.transpose(1, 2).to(self.keys.dtype)
        self.values[rows, :, positions] = new.values.transpose(1, 2).to(self.values.dtype)
        self.mask[rows, positions] = True if new.mask is None else new.mask
        seen = slice(0, self.limit)
        return KeyValues(self.keys[:, :, seen], self.values[:, :, seen], self.mask[:, seen], positions)

    def rows(self, chosen: slice) -> StaticCache:
        """View of some rows; writes to the view change this cache."""
        view = object.__new__(StaticCache)
        view.keys, view.values, view.mask = self.keys[chosen], self.values[chosen], self.mask[chosen]
        view.limit = self.limit
        return view

    def select(self, rows: Int64[Tensor, " B"]) -> None:
        """Copy row `rows[i]` into row i; beam search reorders its beams this way."""
        self.keys, self.values, self.mask = self.keys[rows], self.values[rows], self.mask[rows]

    def clear(self, rows: Sequence[int] | slice = slice(None)) -> None:
        """Empty these rows."""
        self.mask[rows] = False
