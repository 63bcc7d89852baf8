"""Position embeddings: rotary (RoPE), learned and sinusoidal.

Input: tokens or attention heads, and their positions. Output: the same shapes with position information.
Positions are integers along one axis (text, audio) or several axes (rows and columns of an image).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sensorium.core.errors import ConfigError

POSITION_DIM = 34
"""Width of the code that `concat_positions` adds: 32 sinusoids and two coordinates."""
_LONGEST = 1000.0
"""Longest wavelength of these sinusoids, in tokens over 2 pi."""


class Rotary(nn.Module):
    """Rotary position embedding: rotate coordinate pairs by an angle proportional to the position.

    The product q . k then depends on relative positions only. Coordinate pairs are (i, i + K/2), as in Llama.
    With several axes, each axis rotates its own share of the pairs.

    Args:
        head_dim: Width K of a head, a multiple of 2 x `num_axes`.
        base: The slowest pair rotates once in about 2 pi x `base` positions.
        num_axes: 1 for sequences, 2 for image grids.
        factors: Factor on the wavelength of each pair; empty: all are 1.
        gain: Factor on the output.

    Raises:
        ConfigError: If `head_dim` is not such a multiple, or the number of factors differs from that of
            pairs.

    Reference: arXiv:2104.09864, section 3.4.2.
    """

    def __init__(
        self,
        head_dim: int,
        base: float = 10_000.0,
        num_axes: int = 1,
        factors: Sequence[float] = (),
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if head_dim % (2 * num_axes):
            raise ConfigError(f"rotary positions need head_dim={head_dim} to be a multiple of {2 * num_axes}")
        self.axis_dim = head_dim // num_axes
        if factors and len(factors) != self.axis_dim // 2:
            raise ConfigError(f"{len(factors)} rotary factors for {self.axis_dim // 2} pairs; give one each")
        self.base = base
        self.factors, self.gain = tuple(factors), gain

    def forward(
        self, x: Float[Tensor, "B H N K"], positions: Int64[Tensor, "#B N *axes"] | None = None
    ) -> Float[Tensor, "B H N K"]:
        """Rotate; `positions` default to 0..N-1 and are (B, N, 2) for two axes."""
        if positions is None:
            positions = torch.arange(x.shape[2], device=x.device)[None]
        if positions.ndim == 2:
            positions = positions[..., None]
        # Not a buffer: casting a model to bfloat16 would round it, and large positions would lose precision.
        precision = torch.float64 if x.dtype == torch.float64 else torch.float32
        steps = torch.arange(0, self.axis_dim, 2, dtype=precision, device=x.device) / self.axis_dim
        rates = self.base**-steps
        if self.factors:
            rates = rates / torch.tensor(self.factors, dtype=precision, device=x.device)
        angles = rearrange(positions[..., None] * rates, "b n axes f -> b 1 n (axes f)")
        cos, sin = angles.cos(), angles.sin()
        if self.gain != 1:
            cos, sin = self.gain * cos, self.gain * sin
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class LearnedPositions(nn.Module):
    """Learned position embedding; sequences longer than `num_positions` are refused.

    Args:
        num_positions: Maximum sequence length.
        dim: Width D.
    """

    def __init__(self, num_positions: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(num_positions, dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, x: Float[Tensor, "B N D"], start: int = 0) -> Float[Tensor, "B N D"]:
        """Add positions start..start+N-1; raises `ConfigError` if the sequence is longer than the table."""
        end = start + x.shape[1]
        if end > len(self.table):
            raise ConfigError(f"{end} positions, but {len(self.table)} were learned; shorten the input")
        return x + self.table[start:end]


def sinusoidal(num_positions: int, dim: int, longest: float = 10_000.0) -> Float[Tensor, "N D"]:
    """Sinusoidal position embedding: sines, then cosines, each half of the width, as in Whisper.

    Wavelengths grow geometrically from 2 pi to 2 pi x `longest` (arXiv:1706.03762, section 3.5, which
    interleaves sines and cosines).

    Example:
        >>> sinusoidal(2, 4)[0].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    half = dim // 2
    rates = torch.exp(-math.log(longest) / max(half - 1, 1) * torch.arange(half, dtype=torch.float32))
    angles = torch.arange(num_positions, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def grid_positions(rows: int, columns: int, device: torch.device | None = None) -> Int64[Tensor, "1 N 2"]:
    """Row and column of each image patch, in row-major order.

    Example:
        >>> grid_positions(2, 2)[0].tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
    return torch.cartesian_prod(row, column)[None]


def sinusoidal_grid(side: int, dim: int) -> Float[Tensor, "N D"]:
    """Sinusoidal position embedding of a square grid in row-major order: row code, then column code.

    All patches of a row share the row code. The longest wavelength equals the grid size.

    Example:
        >>> bool((sinusoidal_grid(2, 8)[1, 4:] == sinusoidal(2, 4, 1.0)[1]).all())
        True
    """
    at = grid_positions(side, side)[0]
    return sinusoidal(side, dim // 2, max(side / math.pi, 1.0))[at].flatten(1)


def concat_positions(values: Float[Tensor, "B N D"], *, is_image: bool) -> Float[Tensor, "B N _"]:
    """Concatenate a fixed position code to each token: sinusoids of row and column, and the two coordinates.

    The code is concatenated, not added, so that the next projection learns its weight. Coordinates are row
    and column scaled to -1..1, so that "left of" is a difference of coordinates.

    Args:
        values: Tokens in row-major order.
        is_image: Whether the tokens form a square grid; if N is not a square, they are a sequence.

    Example:
        >>> concat_positions(torch.zeros(1, 4, 5), is_image=True)[0, :, -2:].tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    num, side, waves = values.shape[1], math.isqrt(values.shape[1]), POSITION_DIM - 2
    if is_image and side > 1 and side**2 == num:
        at = grid_positions(side, side)[0]
        places = [sinusoidal(side, waves // 2, _LONGEST)[at].flatten(1), 2 * at / (side - 1) - 1]
    else:
        places = [sinusoidal(num, waves, _LONGEST), torch.zeros(num, 2)]
    beside = torch.cat(places, dim=1).to(values)
    return torch.cat([values, beside.expand(len(values), -1, -1)], dim=-1)
