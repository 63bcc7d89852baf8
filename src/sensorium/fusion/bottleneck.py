"""Fusion through a few tokens that all modalities share: what passes between them must fit in there.

In: tokens of each modality, any number of each. Out: all of them, and one vector. Cost
grows with the sum over modalities of N_m^2, not with (sum of N_m)^2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from sensorium.core.types import Tokens
from sensorium.fusion import cost
from sensorium.fusion.joining import join
from sensorium.fusion.options import block_config, check_least
from sensorium.fusion.registry import FUSIONS, FusionOutput
from sensorium.nn.block import Stack
from sensorium.nn.pooling import AttentionPool


@FUSIONS.register("bottleneck")
class Bottleneck(nn.Module):
    """Attention bottlenecks: in layer l, [x_m; f_m] = Block_m^l([x_m; f]) for each m, then f = mean_m f_m.

    Each modality has its own blocks and sees the others only through the shared tokens f. y is a learned
    query's attention over the tokens of all modalities.

    Reference: MBT, arXiv:2107.00135, section 3. There y averages the modalities' class tokens, and
    modalities meet from a middle layer on; here from the first, for the encoders are the layers before.

    Args:
        modalities: Their names.
        width: Of x and f, a multiple of the number of heads.
        out_dim: Of y and of the tokens that leave.
        depth: Layers, at least 2: what the first writes into f is read by the second.
        num_bottlenecks: How many shared tokens.
        num_heads: Of every attention; default one for each 32 of `width`.
        mlp_dim: Inner width of the blocks' MLPs; default 4 `width`.
        dropout: Share of each part's output that is dropped in training.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        width: int,
        out_dim: int,
        *,
        depth: int = 2,
        num_bottlenecks: int = 4,
        num_heads: int | None = None,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_least(2, depth=depth)
        check_least(num_bottlenecks=num_bottlenecks)
        config = block_config(width, num_heads, mlp_dim, dropout)
        self.depth = depth
        self.shared = nn.Parameter(torch.randn(num_bottlenecks, width))
        self.stacks = nn.ModuleDict({name: Stack(config, depth) for name in modalities})
        self.leave = nn.Linear(width, out_dim)
        self.pool = AttentionPool(width)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        values = {name: one.values for name, one in tokens.items()}
        shared = self.shared.expand(len(next(iter(values.values()))), -1, -1)
        real = torch.ones(shared.shape[:2], dtype=torch.bool, device=shared.device)
        for layer in range(self.depth):
            heard = []
            for name, one in tokens.items():
                both = torch.cat([values[name], shared], dim=1)
                both = self._stack(name).blocks[layer](both, torch.cat([one.mask, real], dim=1))
                values[name], said = both.split([one.mask.shape[1], shared.shape[1]], dim=1)
                heard.append(said)
            shared = torch.stack(heard).mean(dim=0)
        normed = {
            name: Tokens(self._stack(name).norm(values[name]), one.mask) for name, one in tokens.items()
        }
        joined = join(normed)
        return FusionOutput(self.leave(self.pool(joined)), self.leave(joined.values), joined.mask)

    def flops(self, lengths: Mapping[str, int]) -> int:
        """Of one row."""
        num_shared = len(self.shared)
        num_tokens = sum(lengths[name] for name in self.stacks)
        inside = sum(cost.stack(self._stack(name), lengths[name] + num_shared) for name in self.stacks)
        pooling = cost.attention(self.pool.attention, 1, num_tokens)
        return inside + cost.linear(self.leave, num_tokens + 1) + pooling

    def _stack(self, name: str) -> Stack:
        return cast(Stack, self.stacks[name])
