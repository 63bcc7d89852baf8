"""Positive pairs of two batches: how many positives each row has, and the sum of its positives.

Input: group numbers for the rows of a and of b; rows with equal numbers are positives of each other. All
pairs of a group are positives, so the sums cost O(B E) and need no B x B mask.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sensorium.core.errors import UsageError

GroupIds = Int64[Tensor, " B"] | tuple[Int64[Tensor, " B"], Int64[Tensor, " B"]]
"""Group number of each row, or of each row of a and each row of b."""


class Positives:
    """Positives of each row. Without groups, row i of a and row i of b are positives of each other.

    Attributes:
        is_one_to_one: Whether no groups were given.
        num_for_a: How many rows of b are positives of each row of a, (B,) int64.
        num_for_b: How many rows of a are positives of each row of b, (B,) int64.
        peers_of_a: How many rows of a have the group of each row of a, itself included, (B,) int64.
        peers_of_b: The same within b, (B,) int64.
    """

    def __init__(self, num_rows: int, device: torch.device, groups: GroupIds | None) -> None:
        self._groups: tuple[Tensor, Tensor] | None = None
        self._num_groups = num_rows
        self.is_one_to_one = groups is None
        if groups is None:
            ones = torch.ones(num_rows, dtype=torch.int64, device=device)
            self.num_for_a = self.num_for_b = self.peers_of_a = self.peers_of_b = ones
            return
        of_a, of_b = groups if isinstance(groups, tuple) else (groups, groups)
        for ids in (of_a, of_b):
            if ids.shape != (num_rows,) or ids.dtype != torch.int64:
                got = f"{ids.dtype} {tuple(ids.shape)}"
                raise UsageError(f"positives are {got}; expected int64 group numbers of shape ({num_rows},)")
        known, dense = torch.unique(torch.cat([of_a, of_b]).to(device), return_inverse=True)
        of_a, of_b = dense[:num_rows], dense[num_rows:]
        size_in_a = torch.bincount(of_a, minlength=len(known))
        size_in_b = torch.bincount(of_b, minlength=len(known))
        self.num_for_a, self.num_for_b = size_in_b[of_a], size_in_a[of_b]
        self.peers_of_a, self.peers_of_b = size_in_a[of_a], size_in_b[of_b]
        self._groups, self._num_groups = (of_a, of_b), len(known)

    def sum_for_a(self, b: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        """For each row of a, the sum of its positives among the rows of b; `b` itself without groups."""
        return b if self._groups is None else self._sum(b, self._groups[1])[self._groups[0]]

    def sum_for_b(self, a: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        """For each row of b, the sum of its positives among the rows of a; `a` itself without groups."""
        return a if self._groups is None else self._sum(a, self._groups[0])[self._groups[1]]

    def _sum(self, rows: Tensor, groups: Tensor) -> Tensor:
        return rows.new_zeros(self._num_groups, rows.shape[1]).index_add_(0, groups, rows)
