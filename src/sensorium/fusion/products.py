"""Tensor fusion (TFN) and low-rank tensor fusion (LMF): products of the modalities' vectors.

Input: tokens of each modality, averaged to x_m (B, width). Output: one vector, which is the only token. Each
coordinate is a polynomial of degree at most 1 in each modality, so it contains the interactions of up to M
modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import nn

from sensorium.core.errors import ConfigError
from sensorium.core.types import Tokens
from sensorium.fusion.registry import FUSIONS, FusionOutput, check_min, means

MAX_PRODUCTS = 65_536
"""Default limit of (factor_dim + 1)^M: four modalities with factor_dim 15."""


@FUSIONS.register("tensor")
class TensorProduct(nn.Module):
    """Tensor fusion: y = W vec([z_1; 1] x [z_2; 1] x ... x [z_M; 1]), z_m = U_m x_m.

    The 1 keeps the products of fewer modalities (TFN, arXiv:1707.07250, section 4.2; there z_m comes from
    deeper subnetworks).

    Args:
        factor_dim: Width d of z_m; W has (d + 1)^M x `out_dim` weights.
        max_products: Limit of (d + 1)^M.

    Raises:
        ConfigError: If (d + 1)^M exceeds `max_products`.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        width: int,
        out_dim: int,
        *,
        factor_dim: int = 15,
        max_products: int = MAX_PRODUCTS,
    ) -> None:
        super().__init__()
        check_min(factor_dim=factor_dim, max_products=max_products)
        products = (factor_dim + 1) ** len(modalities)
        if products > max_products:
            fitting = _fitting_dim(len(modalities), max_products)
            smaller = f"take factor_dim <= {fitting}, or " if fitting else "take "
            raise ConfigError(
                f"fusion 'tensor' of {len(modalities)} modalities with factor_dim={factor_dim} has "
                f"{factor_dim + 1}^{len(modalities)} = {products:,} products, more than "
                f"max_products={max_products:,}; {smaller}fusion 'lowrank'"
            )
        self.factors = nn.ModuleDict({name: nn.Linear(width, factor_dim) for name in modalities})
        self.out = nn.Linear(products, out_dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        vectors = means(tokens)
        product = vectors[0].new_ones(len(vectors[0]), 1)
        for factor, x in zip(self.factors.values(), vectors, strict=True):
            z = factor(x)
            extended = torch.cat([z, z.new_ones(len(z), 1)], dim=1)
            product = rearrange(product[:, :, None] * extended[:, None], "b p d -> b (p d)")
        return FusionOutput.of_vector(self.out(product))


@FUSIONS.register("lowrank")
class LowRank(nn.Module):
    """Low-rank tensor fusion: y = sum_r w_r prod_m W_m^r [x_m; 1] + b, the product taken coordinate-wise.

    Tensor fusion whose weights are a sum of `rank` outer products. The tensor is never built, so cost grows
    with M, not with d^M (LMF, arXiv:1806.00064, section 3.2).

    Args:
        rank: Number of outer products.
    """

    def __init__(self, modalities: Sequence[str], width: int, out_dim: int, *, rank: int = 4) -> None:
        super().__init__()
        check_min(rank=rank)
        self.rank = rank
        self.factors = nn.ModuleDict({name: nn.Linear(width, rank * out_dim) for name in modalities})
        self.weights = nn.Parameter(torch.full((rank,), rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        vectors = means(tokens)
        product = vectors[0].new_ones(())
        for factor, x in zip(self.factors.values(), vectors, strict=True):
            product = product * rearrange(factor(x), "b (r e) -> b r e", r=self.rank)
        return FusionOutput.of_vector((product * self.weights[:, None]).sum(dim=1) + self.bias)


def _fitting_dim(num_modalities: int, max_products: int) -> int:
    """Greatest d with (d + 1)^M <= max_products; 0 if there is none."""
    dim = 0
    while (dim + 2) ** num_modalities <= max_products:
        dim += 1
    return dim
