"""What a fusion gives, what mixes within it, and the names under which mixers are found.

In: tokens of each modality, all of one width. Out: one vector and one sequence for each row. A mixer never
meets an absent modality: `Intake` has put a learned absent token in its place, so that every modality of
every row has at least one real token. It does not know how wide the features were or what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sensorium.core.registry import Registry
from sensorium.core.types import Tokens


@dataclass(frozen=True)
class FusionOutput:
    """Several modalities as one.

    Attributes:
        pooled: One vector for each row, (B, E).
        tokens: A sequence for each row, which a decoder may attend to, (B, N, E).
        mask: True = real, (B, N); every row has a real token, even one that had no modality.
        weights: Share of each modality in `pooled`, (B, M), rows summing to 1; columns as in `dims`; that of
            an absent modality is its absent token's. None where a fusion weighs no modality as a whole.
    """

    pooled: Float[Tensor, "B E"]
    tokens: Float[Tensor, "B N E"]
    mask: Bool[Tensor, "B N"]
    weights: Float[Tensor, "B M"] | None = None

    @classmethod
    def of_vector(
        cls, pooled: Float[Tensor, "B E"], weights: Float[Tensor, "B M"] | None = None
    ) -> FusionOutput:
        """The output of a fusion that gives a vector only: its sequence is that vector."""
        mask = torch.ones(len(pooled), 1, dtype=torch.bool, device=pooled.device)
        return cls(pooled, pooled[:, None], mask, weights)


@runtime_checkable
class Mixer(Protocol):
    """An `nn.Module` that turns the tokens of all modalities into one output."""

    def __call__(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Mix (B, N_m, width) tokens of each modality; `weights`, if any, in the order of the mapping."""

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Floating-point operations of one row whose modalities have these numbers of tokens."""


FUSIONS: Registry[Mixer] = Registry("fusion")
"""Every fusion by name: builders `(modalities, width, out_dim, **options) -> Mixer`; see `fusion.build`."""
