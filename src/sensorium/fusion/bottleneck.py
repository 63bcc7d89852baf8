"""Attention bottlenecks: modalities exchange information only through a few shared tokens (MBT).

Input: tokens of each modality, any number of each. Output: all tokens, the shared tokens, and one vector.
Cost grows with the sum over modalities of N_m^2, not with (sum of N_m)^2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sensorium.core.types import Tokens
from sensorium.fusion.registry import FUSIONS, FusionOutput, block_config, check_min, concatenate
from sensorium.nn.block import Stack
from sensorium.nn.pooling import AttentionPool


@FUSIONS.register("bottleneck")
class Bottleneck(nn.Module):
    """Layer l computes [x_m; f_m] = Block_m^l([x_m; f]) for each modality m, then f = mean_m f_m.

    Each modality has its own blocks. f are the shared tokens. A learned query attends over all tokens to
    give the vector y. Further arguments: `registry.FUSIONS` and `block_config`.

    Reference: MBT, arXiv:2107.00135, section 3. There y averages class tokens, and the bottleneck starts at a
    middle layer; here it starts at the first, since the encoders are the layers before.

    Args:
        depth: Layers, >= 2: the second reads what the first writes into f.
        num_bottlenecks: Number of shared tokens.
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
        check_min(2, depth=depth)
        check_min(num_bottlenecks=num_bottlenecks)
        config = block_config(width, num_heads, mlp_dim, dropout)
        self.depth = depth
        self.shared = nn.Parameter(0.02 * torch.randn(num_bottlenecks, width))  # small beside the updates
        self.stacks = nn.ModuleDict({name: Stack(config, depth) for name in modalities})
        self.leave = nn.Linear(width, out_dim)
        self.pool = AttentionPool(width)

    def forward(self, tokens: Mapping[str, Tokens]) -> FusionOutput:
        """Fuse."""
        own = dict(tokens)
        num_rows = len(next(iter(own.values())).values)
        shared = self.shared.expand(num_rows, -1, -1)
        for layer in range(self.depth):
            updates = []
            for name, one in own.items():
                values, update = self._layer(name, layer, one, shared)
                own[name] = Tokens(values, one.mask)
                updates.append(update)
            shared = torch.stack(updates).mean(dim=0)
        together = _append(concatenate(own), shared)
        pooled = self.leave(self.pool(together))
        return FusionOutput(pooled, self.leave(together.values), together.mask)

    def _layer(
        self, name: str, layer: int, own: Tokens, shared: Float[Tensor, "B F D"]
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B F D"]]:
        """Block of one modality over its own and the shared tokens; after the last layer its norm."""
        both, stack = _append(own, shared), self._stack(name)
        values = stack.blocks[layer](both.values, both.mask)
        values = stack.norm(values) if layer == self.depth - 1 else values
        length = own.mask.shape[1]
        return values[:, :length], values[:, length:]

    def _stack(self, name: str) -> Stack:
        return cast(Stack, self.stacks[name])


def _append(own: Tokens, shared: Float[Tensor, "B F D"]) -> Tokens:
    real = torch.ones(shared.shape[:2], dtype=torch.bool, device=shared.device)
    return concatenate({"own": own, "shared": Tokens(shared, real)})
