"""Registry of fusion modules, their interface, and the code that they share.

Input of a fusion module ("mixer"): tokens of each modality, all of one width. Output: one vector and one
sequence for each row. A mixer never gets an absent modality: `InputProjection` has put a learned absent token
in its place, so that every modality of every row has at least one real token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sensorium.core.config import parse
from sensorium.core.errors import ConfigError
from sensorium.core.registry import Registry
from sensorium.core.types import Tokens
from sensorium.nn.block import BlockConfig
from sensorium.nn.pooling import masked_mean

_HEAD_DIM = 32


@dataclass(frozen=True)
class FusionOutput:
    """Several modalities fused.

    Attributes:
        pooled: One vector for each row, (B, E).
        tokens: A sequence for each row, for cross-attention of a decoder, (B, N, E).
        mask: True = real, (B, N). Every row has a real token, even a row without any modality.
        weights: Share of each modality in `pooled`, (B, M), columns as in `dims`; each row sums to 1. The
            share of an absent modality is that of its absent token. None if a fusion has no such weights.
    """

    pooled: Float[Tensor, "B E"]
    tokens: Float[Tensor, "B N E"]
    mask: Bool[Tensor, "B N"]
    weights: Float[Tensor, "B M"] | None = None

    @classmethod
    def of_vector(
        cls, pooled: Float[Tensor, "B E"], weights: Float[Tensor, "B M"] | None = None
    ) -> FusionOutput:
        """Output of a fusion without a sequence: the vector is the only token."""
        mask = torch.ones(len(pooled), 1, dtype=torch.bool, device=pooled.device)
        return cls(pooled, pooled[:, None], mask, weights)


@runtime_checkable
class Mixer(Protocol):
    """An `nn.Module` that fuses the tokens of all modalities into one output."""

    def __call__(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse (B, N_m, width) tokens of each modality; `weights`, if any, in the order of the mapping."""


FUSIONS: Registry[Mixer] = Registry("fusion")
"""Fusions by name: builders `(modalities, width, out_dim, **options) -> Mixer`; see `fusion.build`.

Common arguments: `modalities`, their names; `width` of the input tokens; `out_dim` of the pooled vector and
of the output tokens. Attention fusions also take those of `block_config`.
"""


def means(tokens: Mapping[str, Tokens]) -> list[Float[Tensor, "B D"]]:
    """Mean token of each modality, in the order of the mapping."""
    return [masked_mean(one) for one in tokens.values()]


def concatenate(tokens: Mapping[str, Tokens]) -> Tokens:
    """One sequence of all tokens, modality after modality in the order of the mapping."""
    values = torch.cat([one.values for one in tokens.values()], dim=1)
    return Tokens(values, torch.cat([one.mask for one in tokens.values()], dim=1))


def check_min(minimum: int = 1, **options: int) -> None:
    """Check that options are at least `minimum`.

    Raises:
        ConfigError: Naming the first that is not.
    """
    for name, value in options.items():
        if value < minimum:
            raise ConfigError(f"{name}={value}; expected at least {minimum}")


def block_config(
    width: int, num_heads: int | None, mlp_dim: int | None, dropout: float, **more: object
) -> BlockConfig:
    """Configuration of the Transformer blocks of a fusion.

    Args:
        width: Width of the tokens, a multiple of the number of heads.
        num_heads: Heads of every attention; default one for each 32 of `width`.
        mlp_dim: Inner width of the MLPs; default 4 `width`.
        dropout: Dropout on the output of each attention and MLP.
        more: Further fields of `BlockConfig`.

    Raises:
        ConfigError: If a number is out of range.
    """
    if num_heads is None:
        num_heads = width // _HEAD_DIM if width % _HEAD_DIM == 0 else 1
    check_min(num_heads=num_heads, mlp_dim=1 if mlp_dim is None else mlp_dim)
    values = {"dim": width, "num_heads": num_heads, "mlp_dim": mlp_dim, "dropout": dropout, **more}
    return parse(BlockConfig, values, "fusion")
