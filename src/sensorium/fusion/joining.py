"""The tokens of all modalities seen at once: one mean for each, or one sequence."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sensorium.core.types import Tokens
from sensorium.nn.pooling import masked_mean


def means(tokens: Mapping[str, Tokens]) -> list[Float[Tensor, "B D"]]:
    """Mean token of each modality, in the order of the mapping."""
    return [masked_mean(one) for one in tokens.values()]


def join(tokens: Mapping[str, Tokens]) -> Tokens:
    """One sequence of all tokens, modality after modality in the order of the mapping."""
    values = torch.cat([one.values for one in tokens.values()], dim=1)
    return Tokens(values, torch.cat([one.mask for one in tokens.values()], dim=1))
