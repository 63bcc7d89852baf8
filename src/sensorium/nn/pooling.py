"""Pooling of a token sequence to one vector: mean, max, first token, attention, generalised mean.

Input: tokens (B, N, D) with a mask. Output: (B, D). Masked tokens are ignored, even if NaN. A sample without
real tokens gives zeros. `POOLINGS.build("map", dim=64)` builds a pooling by name; all take `dim`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.registry import Registry
from sensorium.core.types import Tokens
from sensorium.nn.attention import Attention

POOLINGS: Registry[nn.Module] = Registry("pooling")
"""Every pooling by name: modules from `Tokens` to (B, D)."""


class _Pool(nn.Module):
    """Pooling without parameters."""

    def __init__(self, pool: Callable[[Tokens], Float[Tensor, "B D"]]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        return self.pool(tokens)


@POOLINGS.register("mean")
def mean_pool(dim: int) -> nn.Module:
    """Mean over the real tokens."""
    return _Pool(masked_mean)


@POOLINGS.register("max")
def max_pool(dim: int) -> nn.Module:
    """Maximum of each coordinate over the real tokens."""
    return _Pool(_masked_max)


@POOLINGS.register("first")
def first_pool(dim: int) -> nn.Module:
    """The first token, such as `[CLS]`."""
    return _Pool(_first)


@POOLINGS.register("gem")
class GeneralisedMeanPool(nn.Module):
    """Generalised mean (GeM): (mean of x^p)^(1/p) over the real tokens, with learned p.

    p = 1 is the mean; p towards infinity is the maximum. Negative values count as 0, so it suits ReLU
    features of a CNN (arXiv:1711.02512).

    Args:
        dim: Width D.
        power: Initial p.
    """

    def __init__(self, dim: int, power: float = 3.0) -> None:
        super().__init__()
        self.dim = dim
        self.power = nn.Parameter(torch.tensor(float(power)))

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """Pool."""
        power = self.power.clamp(min=1.0)
        values = tokens.values.float().clamp(min=1e-6) ** power
        mean = masked_mean(Tokens(values, tokens.mask)).clamp(min=1e-30) ** (1 / power)
        return mean.masked_fill(~tokens.mask.any(dim=1, keepdim=True), 0).to(tokens.values.dtype)


@POOLINGS.register("map")
class AttentionPool(nn.Module):
    """Multi-head attention pooling: a learned query attends to the real tokens.

    Args:
        dim: Width D.
        num_heads: Number of heads; by default each has width 32 if `dim` allows.

    Reference: arXiv:2106.04560, section 3.1.
    """

    def __init__(self, dim: int, num_heads: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        if num_heads is None:
            num_heads = dim // 32 if dim % 32 == 0 else 1
        self.query = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """Pool."""
        given = self.attention.key_values(self.norm(tokens.values), tokens.mask)
        query = self.query.expand(len(tokens.values), 1, -1)
        pooled = cast(Tensor, self.attention(query, given))[:, 0]
        return pooled.masked_fill(~tokens.mask.any(dim=1, keepdim=True), 0)


def masked_mean(tokens: Tokens) -> Float[Tensor, "B D"]:
    """Mean over the real tokens; zeros if there are none."""
    total = tokens.values.masked_fill(~tokens.mask[..., None], 0).sum(dim=1)
    return total / tokens.mask.sum(dim=1, keepdim=True).clamp(min=1).to(total.dtype)


def _masked_max(tokens: Tokens) -> Float[Tensor, "B D"]:
    lowest = torch.finfo(tokens.values.dtype).min
    greatest = tokens.values.masked_fill(~tokens.mask[..., None], lowest).amax(dim=1)
    return greatest.masked_fill(~tokens.mask.any(dim=1, keepdim=True), 0)


def _first(tokens: Tokens) -> Float[Tensor, "B D"]:
    return tokens.values[:, 0].masked_fill(~tokens.mask[:, :1], 0)
