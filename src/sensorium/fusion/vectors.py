"""Fusions of one vector for each modality: concatenation, weighted average, gated unit.

Input: tokens of each modality, averaged to x_m (B, width). Output: one vector, which is the only token.
Because tokens are averaged, relations between single tokens (a word and an image region) are lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sensorium.core.types import Tokens
from sensorium.fusion.registry import FUSIONS, FusionOutput, check_min, means


@FUSIONS.register("concat")
class Concat(nn.Module):
    """Concatenation and two layers: y = W_2 gelu(W_1 [x_1; ...; x_M]).

    The simplest fusion with interactions ("early fusion" of MultiBench, arXiv:2107.07502, section 3.2).

    Args:
        hidden_dim: Width of the hidden layer; default 2 `width`.
    """

    def __init__(
        self, modalities: Sequence[str], width: int, out_dim: int, *, hidden_dim: int | None = None
    ) -> None:
        super().__init__()
        hidden_dim = 2 * width if hidden_dim is None else hidden_dim
        check_min(hidden_dim=hidden_dim)
        self.layers = _two_layers(len(modalities) * width, hidden_dim, out_dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        return FusionOutput.of_vector(self.layers(torch.cat(means(tokens), dim=1)))


@FUSIONS.register("weighted")
class Weighted(nn.Module):
    """Weighted average of unimodal outputs: y = sum_m softmax(s)_m MLP_m(x_m).

    s_m is one learned scalar for each modality, as ELMo mixes layers (arXiv:1802.05365, equation 1). This is
    late averaging without interactions: a linear classifier on y cannot represent XOR of two modalities.

    Args:
        hidden_dim: Hidden width of each MLP; default `width`.
    """

    def __init__(
        self, modalities: Sequence[str], width: int, out_dim: int, *, hidden_dim: int | None = None
    ) -> None:
        super().__init__()
        hidden_dim = width if hidden_dim is None else hidden_dim
        check_min(hidden_dim=hidden_dim)
        self.layers = nn.ModuleDict({name: _two_layers(width, hidden_dim, out_dim) for name in modalities})
        self.scores = nn.Parameter(torch.zeros(len(modalities)), requires_grad=len(modalities) > 1)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        outputs = [layers(x) for layers, x in zip(self.layers.values(), means(tokens), strict=True)]
        weights = self.scores.softmax(dim=0)
        pooled = (weights[:, None, None] * torch.stack(outputs)).sum(dim=0)
        return FusionOutput.of_vector(pooled, weights.expand(len(pooled), -1))


@FUSIONS.register("gated")
class Gated(nn.Module):
    """Gated multimodal unit: y = sum_m g_m * tanh(W_m x_m), g_m = sigmoid(V_m [x_1; ...; x_M]).

    The gates of each modality depend on all modalities (GMU, arXiv:1702.01992, section 3; for two modalities
    the paper sets g_2 = 1 - g_1, here gates are independent). Coordinates of y lie between -M and M.
    `weights` are the means of the gates, normalised to sum 1.
    """

    def __init__(self, modalities: Sequence[str], width: int, out_dim: int) -> None:
        super().__init__()
        num = len(modalities)
        self.says = nn.ModuleDict({name: nn.Linear(width, out_dim) for name in modalities})
        self.gates = nn.ModuleDict({name: nn.Linear(num * width, out_dim) for name in modalities})

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        vectors = means(tokens)
        joined = torch.cat(vectors, dim=1)
        gates = torch.stack([gate(joined).sigmoid() for gate in self.gates.values()], dim=1)
        outputs = [layer(x).tanh() for layer, x in zip(self.says.values(), vectors, strict=True)]
        weights = gates.mean(dim=2)
        pooled = (gates * torch.stack(outputs, dim=1)).sum(dim=1)
        return FusionOutput.of_vector(pooled, weights / weights.sum(dim=1, keepdim=True))


def _two_layers(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out_dim))
