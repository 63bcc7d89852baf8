"""Fusions of one vector for each modality: concatenation, a weighted sum, gates.

In: tokens of each modality, averaged to x_m (B, width). Out: one vector, which is the only token. They take
one look at each modality as a whole; which word goes with which part of a picture is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sensorium.core.types import Tokens
from sensorium.fusion import cost
from sensorium.fusion.joining import means
from sensorium.fusion.options import check_least
from sensorium.fusion.registry import FUSIONS, FusionOutput


@FUSIONS.register("concat")
class Concat(nn.Module):
    """Concatenation and two layers: y = W_2 gelu(W_1 [x_1; ...; x_M]).

    The plainest fusion in which modalities can depend on each other ("early fusion" of MultiBench,
    arXiv:2107.07502, section 3.2).

    Args:
        modalities: Their names.
        width: Of x_m.
        out_dim: Of y.
        hidden_dim: Between the layers; default 2 `width`.
    """

    def __init__(
        self, modalities: Sequence[str], width: int, out_dim: int, *, hidden_dim: int | None = None
    ) -> None:
        super().__init__()
        hidden_dim = 2 * width if hidden_dim is None else hidden_dim
        check_least(hidden_dim=hidden_dim)
        self.layers = _two_layers(len(modalities) * width, hidden_dim, out_dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        return FusionOutput.of_vector(self.layers(torch.cat(means(tokens), dim=1)))

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row; the number of tokens does not matter after the mean."""
        return cost.linear(self)


@FUSIONS.register("weighted")
class Weighted(nn.Module):
    """Weighted average of what each modality says by itself: y = sum_m softmax(s)_m MLP_m(x_m).

    One learned number s_m for each modality, as ELMo mixes layers (arXiv:1802.05365, equation 1). This is
    late averaging: a linear reading of y is a sum of functions of one modality each, so that nothing which
    depends on two at once, such as XOR, can be read from it.

    Args:
        modalities: Their names.
        width: Of x_m.
        out_dim: Of y.
        hidden_dim: Inner width of each MLP; default `width`.
    """

    def __init__(
        self, modalities: Sequence[str], width: int, out_dim: int, *, hidden_dim: int | None = None
    ) -> None:
        super().__init__()
        hidden_dim = width if hidden_dim is None else hidden_dim
        check_least(hidden_dim=hidden_dim)
        self.layers = nn.ModuleDict({name: _two_layers(width, hidden_dim, out_dim) for name in modalities})
        self.scores = nn.Parameter(torch.zeros(len(modalities)), requires_grad=len(modalities) > 1)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        said = [layers(x) for layers, x in zip(self.layers.values(), means(tokens), strict=True)]
        weights = self.scores.softmax(dim=0)
        pooled = (weights[:, None, None] * torch.stack(said)).sum(dim=0)
        return FusionOutput.of_vector(pooled, weights.expand(len(pooled), -1))

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row."""
        return cost.linear(self)


@FUSIONS.register("gated")
class Gated(nn.Module):
    """Gated multimodal unit: y = sum_m g_m * tanh(W_m x_m), g_m = sigmoid(V_m [x_1; ...; x_M]).

    Each gate sees all modalities and opens or shuts each coordinate of one (GMU, arXiv:1702.01992,
    section 3; for two modalities the paper ties g_2 = 1 - g_1, here they are free as there for more).
    `weights` are the gates' means, divided by their sum.

    Args:
        modalities: Their names.
        width: Of x_m.
        out_dim: Of y, whose coordinates lie between -M and M.
    """

    def __init__(self, modalities: Sequence[str], width: int, out_dim: int) -> None:
        super().__init__()
        num = len(modalities)
        self.says = nn.ModuleDict({name: nn.Linear(width, out_dim) for name in modalities})
        self.gates = nn.ModuleDict({name: nn.Linear(num * width, out_dim) for name in modalities})

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        vectors = means(tokens)
        everything = torch.cat(vectors, dim=1)
        gates = torch.stack([gate(everything).sigmoid() for gate in self.gates.values()], dim=1)
        said = torch.stack([say(x).tanh() for say, x in zip(self.says.values(), vectors, strict=True)], dim=1)
        opened = gates.mean(dim=2)
        return FusionOutput.of_vector((gates * said).sum(dim=1), opened / opened.sum(dim=1, keepdim=True))

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row."""
        return cost.linear(self)


def _two_layers(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out_dim))
