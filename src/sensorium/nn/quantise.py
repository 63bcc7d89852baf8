"""Finite scalar quantisation (FSQ): round a short vector to a fixed grid; the grid index is the code id.

Input: vectors with one coordinate per level count. Output: rounded vectors with a straight-through gradient,
and integer ids. The codebook is the grid, so nothing is learned and it cannot collapse. Reference:
arXiv:2309.15505, section 3 and appendix A.1. An even number of levels shifts the grid by half a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sensorium.core.errors import UsageError

_EDGE = 1e-3
"""Margin of the bound beyond the outermost levels, so that rounding reaches them."""


@dataclass(frozen=True)
class Quantised:
    """Quantised vectors.

    Attributes:
        codes: Grid coordinates, -1 to 1; their gradient is that of the bounded, unrounded vectors.
        ids: Code ids, 0 to size - 1.
    """

    codes: Float[Tensor, "... d"]
    ids: Int64[Tensor, ...]


class Fsq(nn.Module):
    """Round each coordinate to one of its levels: z -> round(tanh(z + s) h - o), divided by L // 2.

    h = (L - 1)(1 + 1e-3) / 2. For even L, o = 1/2 and s = atanh(o / h); for odd L both are 0.

    Args:
        levels: Number of levels L of each coordinate, at least 2; (7, 5, 5, 5, 5) gives 4,375 codes.

    Attributes:
        size: Number of codes.

    Raises:
        UsageError: If a level is below 2.

    Example:
        >>> grid = Fsq([3, 2])
        >>> grid.size, grid(torch.tensor([[9.0, -9.0], [0.0, 9.0]])).ids.tolist()
        (6, [2, 4])
    """

    span: Tensor
    offset: Tensor
    shift: Tensor
    radius: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise UsageError(
                f"levels={list(levels)}: expected at least one, each 2 or more; try [7, 5, 5, 5, 5]"
            )
        self.levels = tuple(int(level) for level in levels)
        self.size = prod(self.levels)
        counts = torch.tensor(self.levels, dtype=torch.int64)
        half = (counts - 1) * (1 + _EDGE) / 2
        offset = (counts % 2 == 0) / 2
        self._keep("span", half)
        self._keep("offset", offset)
        self._keep("shift", torch.atanh(offset / half))
        self._keep("radius", counts // 2)
        self._keep("basis", torch.tensor([prod(self.levels[:place]) for place in range(len(self.levels))]))

    def _keep(self, name: str, value: Tensor) -> None:
        """Register a constant buffer that is not part of the state dict."""
        self.register_buffer(name, value.float() if value.is_floating_point() else value, persistent=False)

    def bound(self, z: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Bound each coordinate to the range of its levels, with step 1."""
        return torch.tanh(z.float() + self.shift) * self.span - self.offset

    def forward(self, z: Float[Tensor, "... d"]) -> Quantised:
        """Round with a straight-through estimator: the gradient is that of `bound`. Computes in float32."""
        bounded = self.bound(z)
        rounded = bounded.detach().round()
        codes = (bounded + (rounded - bounded).detach()) / self.radius
        return Quantised(codes, self.to_ids(rounded / self.radius))

    def to_ids(self, codes: Float[Tensor, "... d"]) -> Int64[Tensor, ...]:
        """Convert grid coordinates to ids; the first coordinate varies fastest."""
        steps = (codes * self.radius).round().long() + self.radius
        return (steps * self.basis).sum(dim=-1)

    def to_codes(self, ids: Int64[Tensor, ...]) -> Float[Tensor, "... d"]:
        """Convert ids to grid coordinates as in `forward`; raises `UsageError` for ids out of range."""
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= self.size):
            wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            raise UsageError(f"id {wrong} is not a code; expected 0 to {self.size - 1}")
        counts = torch.tensor(self.levels, device=ids.device)
        steps = ids[..., None] // self.basis % counts - self.radius
        return steps / self.radius
