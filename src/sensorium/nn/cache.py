"""What a block remembers between decoding steps: the keys and values of all tokens so far, in fixed memory.

In: the keys and values of new tokens, and where they stand. Out: all that stand there, ready to attend to.
Memory is taken once, so that a step neither allocates nor copies. Each row is a sequence of its own length,
with its own place to write to; rows come and go without touching one another. Does not know what is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from sensorium.core.errors import UsageError
from sensorium.nn.attention import KeyValues


class StaticCache:
    """Keys and values of one block's self-attention.

    Args:
        num_rows: Sequences B.
        num_kv_heads: Key heads G.
        capacity: Most tokens S of a sequence.
        head_dim: Width K of a head.
        dtype: Of keys and values.
        device: Where they are.
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
        """Most tokens of a sequence."""
        return self.keys.shape[2]

    def extend(self, new: KeyValues, positions: Int64[Tensor, "#B N"] | None = None) -> KeyValues:
        """Write `new` at `positions` (default 0..N-1) and return all that is written.

        Raises:
            UsageError: If more tokens come than fit.
        """
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
        """A view of some rows: what is written there is written here."""
        view = object.__new__(StaticCache)
        view.keys, view.values, view.mask = self.keys[chosen], self.values[chosen], self.mask[chosen]
        view.limit = self.limit
        return view

    def select(self, rows: Int64[Tensor, " B"]) -> None:
        """Put a copy of row `rows[i]` into row i, as beam search asks."""
        self.keys, self.values, self.mask = self.keys[rows], self.values[rows], self.mask[rows]

    def clear(self, rows: Sequence[int] | slice = slice(None)) -> None:
        """Forget these rows."""
        self.mask[rows] = False
